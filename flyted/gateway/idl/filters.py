"""Filters and sorts the answer of ``AppService.List`` as the SDK asks (flyte/remote/_app.py: listall)."""

from __future__ import annotations

from collections.abc import Iterable

from flyteidl2.app import app_definition_pb2 as definition
from flyteidl2.common import list_pb2

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable
from flyted.gateway.idl import status

_FUNCTIONS = (list_pb2.Filter.EQUAL, list_pb2.Filter.VALUE_IN)


def matches(app: definition.App, wanted: Iterable[list_pb2.Filter]) -> bool:
    """Report whether an app passes all filters. Raise :class:`InvalidInput` for an unknown field or function."""
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
            raise InvalidInput(f"apps cannot be filtered by {printable(row.field)}")
        if value not in row.values:
            return False
    return True


def sort(apps: list[definition.App], by: list_pb2.Sort) -> list[definition.App]:
    """Sort apps by name or by age in the direction asked for; without a key, by age, the oldest first.

    Protobuf's zero value means "descending".
    """
    falling = bool(by.key) and by.direction == list_pb2.Sort.DESCENDING
    if by.key == "name":
        return sorted(apps, key=lambda app: app.metadata.id.name, reverse=falling)
    return sorted(apps, key=lambda app: app.status.created_at.seconds, reverse=falling)
