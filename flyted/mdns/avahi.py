"""Speaks to Avahi over D-Bus (/usr/share/dbus-1/interfaces/org.freedesktop.Avahi.*.xml)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from flyted.mdns.names import wire


class _NoLxml(ModuleType):
    etree = None


sys.modules.setdefault("lxml", _NoLxml("lxml"))  # pystemd's objects need it, and they are not used
from pystemd.dbusexc import DBusBaseError  # noqa: E402
from pystemd.dbuslib import DBus, apply_signature  # noqa: E402

_AVAHI, _SERVER, _GROUP = (
    b"org.freedesktop.Avahi",
    b"org.freedesktop.Avahi.Server",
    b"org.freedesktop.Avahi.EntryGroup",
)
_DRIVER, _DRIVER_PATH = b"org.freedesktop.DBus", b"/org/freedesktop/DBus"
_MATCHES = (
    "type='signal',sender='org.freedesktop.Avahi',member='StateChanged'",
    "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.Avahi'",
)
_ANY, _UNIQUE, _CLASS_IN, _TYPE_CNAME, _TTL_S = -1, 1, 1, 5, 60
_RUNNING, _COLLISION = 2, 3  # AvahiServerState, AvahiEntryGroupState (avahi-common/defs.h)


class AvahiError(Exception):
    """Avahi refused a call, or is not on the bus; the text is its own."""


@dataclass(frozen=True)
class Collision:
    """Another machine has the name of this group."""

    group: bytes


@dataclass(frozen=True)
class Anew:
    """Avahi has begun or ended, or gives the machine another name: nothing is announced any more, or wrongly."""


class Avahi:
    """The connection. What is announced on it ends with it."""

    def __init__(self) -> None:
        """Connect to the system bus, or raise :class:`AvahiError`."""
        self._bus = DBus()
        try:
            self._bus.open()
        except DBusBaseError as error:
            raise AvahiError(_words(error)) from error
        for rule in _MATCHES:
            self._driver(b"AddMatch", rule.encode())

    @property
    def descriptor(self) -> int:
        """A descriptor that is readable when Avahi has something to say."""
        return int(self._bus.get_fd())

    def host(self) -> str:
        """Return the machine's name in the local network; "" if Avahi does not run, or has not found one yet.

        Raises :class:`AvahiError` without a bus.
        """
        if not self._driver(b"NameHasOwner", _AVAHI):  # a call would start it
            return ""
        try:
            if self._call(b"/", _SERVER, b"GetState") != _RUNNING:
                return ""
            return bytes(self._call(b"/", _SERVER, b"GetHostNameFqdn")).decode()
        except AvahiError:  # it has just ended; a signal follows when it begins
            return ""

    def announce(self, name: str, host: str) -> bytes:
        """Announce ``name`` as an alias of ``host``; return the group by which it is withdrawn.

        Whether another machine has the name shows later: see :meth:`events`. Raises :class:`AvahiError`.
        """
        group = bytes(self._call(b"/", _SERVER, b"EntryGroupNew"))
        record = [_ANY, _ANY, _UNIQUE, name.encode(), _CLASS_IN, _TYPE_CNAME, _TTL_S, wire(host)]
        self._call(group, _GROUP, b"AddRecord", b"iiusqquay", record)
        self._call(group, _GROUP, b"Commit")
        return group

    def withdraw(self, group: bytes) -> None:
        """Withdraw a name. Raises :class:`AvahiError`."""
        self._call(group, _GROUP, b"Free")

    def events(self) -> Iterator[Collision | Anew]:
        """Yield what Avahi has said until now. Raises :class:`AvahiError` without a bus."""
        empty = 0
        while empty < 3:  # an empty message may also mean that sd-bus handled one by itself
            try:
                message = self._bus.process()
            except DBusBaseError as error:
                raise AvahiError(_words(error)) from error
            empty = empty + 1 if message.is_empty() else 0
            if not empty and (event := _event(message)) is not None:
                yield event

    def _driver(self, method: bytes, argument: bytes) -> Any:
        try:
            steps = apply_signature(b"s", [argument])
            return self._bus.call_method(_DRIVER, _DRIVER_PATH, _DRIVER, method, steps).body
        except DBusBaseError as error:
            raise AvahiError(_words(error)) from error

    def _call(self, path: bytes, interface: bytes, method: bytes, signature: bytes = b"", arguments: Any = ()) -> Any:
        steps = apply_signature(signature, list(arguments)) if signature else []
        try:
            return self._bus.call_method(_AVAHI, path, interface, method, steps).body
        except DBusBaseError as error:
            raise AvahiError(_words(error)) from error


def _event(message: Any) -> Collision | Anew | None:
    member, path = bytes(message.get_member() or b""), bytes(message.get_path() or b"")
    if member == b"NameOwnerChanged" or (member == b"StateChanged" and path == b"/"):
        return Anew()
    if member != b"StateChanged":
        return None
    message.process_reply(False)  # noqa: FBT003  with_headers
    return Collision(path) if message.body[0] == _COLLISION else None


def _words(error: Exception) -> str:
    said = getattr(error, "err_message", b"") or str(error)
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
