"""Filters and order of ``AppService.List``, as the SDK sends them (flyte/remote/_app.py: listall)."""

from __future__ import annotations

from collections.abc import Iterable

from flyteidl2.app import app_definition_pb2 as definition
from flyteidl2.common import list_pb2

from flyted.contract.errors import InvalidInput
from flyted.contract.names import shown
from flyted.gateway import status

_FUNCTIONS = (list_pb2.Filter.EQUAL, list_pb2.Filter.VALUE_IN)


def matches(app: definition.App, wanted: Iterable[list_pb2.Filter]) -> bool:
    """Whether an app passes all filters. Raises :class:`InvalidInput` for one that we do not know."""
    for row in wanted:
        if row.function not in _FUNCTIONS:
            raise InvalidInput("apps can be filtered by equality only")
        if row.field == "status_phase":
            value = status.names(app.status)
        elif row.field == "created_by":
            value = app.spec.creator.user.id.subject
        elif row.field == "name":
            value = app.metadata.id.name
        else:
            raise InvalidInput(f"apps cannot be filtered by {shown(row.field)}")
        if value not in row.values:
            return False
    return True


def sort(apps: list[definition.App], by: list_pb2.Sort) -> list[definition.App]:
    """By name or by age, in the direction asked for; else by age. Protobuf's zero is "descending"."""
    falling = bool(by.key) and by.direction == list_pb2.Sort.DESCENDING
    if by.key == "name":
        return sorted(apps, key=lambda app: app.metadata.id.name, reverse=falling)
    return sorted(apps, key=lambda app: app.status.created_at.seconds, reverse=falling)
