"""Refuses fields that our version of Flyte's IDL does not know, which protobuf would drop silently."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from flyted.contract.errors import Unsupported


def check(message: Message, what: str) -> None:
    """Raise :class:`Unsupported` if a message, or one inside it, has an unknown field. ``what`` names the message."""
    found = sorted(set(_unknown(message)))
    if found:
        raise Unsupported(
            f"{what} has fields that this version of flyted does not know: {', '.join(found[:8])}",
            hint="your flyte is newer than flyted: update flyted, or remove the new fields",
        )


def _unknown(message: Message) -> Iterator[str]:
    fields = UnknownFieldSet(message)
    for field in (fields[number] for number in range(len(fields))):
        yield f"number {field.field_number} of {message.DESCRIPTOR.full_name}"
    for descriptor, value in message.ListFields():
        for part in _messages(descriptor.message_type, value):
            yield from _unknown(part)


def _messages(kind: Descriptor | None, value: Any) -> Iterator[Message]:
    """Yield the messages in one field: its value, the items of a list, or the values of a map."""
    if kind is None:
        return
    if kind.GetOptions().map_entry:
        yield from (each for each in value.values() if isinstance(each, Message))
    else:
        yield from [value] if isinstance(value, Message) else value
