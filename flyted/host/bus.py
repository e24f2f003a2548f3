"""One connection to the system bus, driven by asyncio. The only file that imports pystemd.

pystemd's callbacks are not used: it keeps no reference to them, and calls freed memory. Instead signals are taken from
``process()`` one by one, which hands out whatever no callback took; the match rules are set on the bus itself.
Anybody may send anybody a signal on the system bus. So a signal is handled only when systemd itself is its sender,
which is checked before its body is read.

A call holds the interpreter until systemd answers, for milliseconds. Whatever takes longer is waited for by a signal.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from flyted.contract.errors import HostFailure
from flyted.host.signatures import Step, text


class _NoLxml(ModuleType):
    etree = None


# pystemd's objects read descriptions of interfaces with lxml, which takes 4.5 MiB; only its bus is used here
sys.modules.setdefault("lxml", _NoLxml("lxml"))
from pystemd.dbusexc import DBusBaseError  # noqa: E402
from pystemd.dbuslib import DBus  # noqa: E402

log = logging.getLogger(__name__)

SYSTEMD = b"org.freedesktop.systemd1"
MANAGER_PATH = b"/org/freedesktop/systemd1"
MANAGER = b"org.freedesktop.systemd1.Manager"
PROPERTIES = b"org.freedesktop.DBus.Properties"
_PEER = b"org.freedesktop.DBus.Peer"
_DRIVER, _DRIVER_PATH = b"org.freedesktop.DBus", b"/org/freedesktop/DBus"
_SIGNAL = 4  # sd_bus_message_get_type(3)
_BATCH = 200
_MISSING = (errno.ENOENT, errno.EBADR)  # as sd-bus translates NoSuchUnit, and UnknownObject and the like
_RETRY_S = (0.1, 0.3, 1.0, 3.0, 10.0)
_MATCHES = (
    (
        "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',"
        "interface='org.freedesktop.systemd1.Manager',member='JobRemoved'"
    ),
    (
        "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',"
        "interface='org.freedesktop.systemd1.Manager',member='UnitRemoved'"
    ),
    (
        "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',"
        "interface='org.freedesktop.systemd1.Manager',member='Reloading'"
    ),
    (
        "type='signal',sender='org.freedesktop.systemd1',path_namespace='/org/freedesktop/systemd1/unit',"
        "interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',arg0='org.freedesktop.systemd1.Unit'"
    ),
    (
        "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
        "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.systemd1'"
    ),
)


class Refused(HostFailure):
    """The error with which systemd answered a call; ``errno`` as sd-bus translates it."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message, hint="see: journalctl -u init.scope -n 20")
        self.errno = errno


class Missing(Refused):
    """The error for a unit that systemd does not have, or that has no such property: it is of another kind."""


@dataclass(frozen=True)
class Signal:
    """A signal from systemd; ``body`` is read on demand, since most signals are not for us."""

    member: str
    path: str
    message: Any

    @property
    def body(self) -> Any:
        """The signal's arguments, strings as bytes."""
        self.message.process_reply(False)  # noqa: FBT003  with_headers
        return self.message.body


class Bus:
    """The connection. ``on_signal`` gets each signal; ``on_lost`` is called when signals may have been missed."""

    def __init__(self, on_signal: Callable[[Signal], None], on_lost: Callable[[], None]) -> None:
        self._on_signal, self._on_lost = on_signal, on_lost
        self._dbus: Any = None
        self._fd = -1
        self._owner = b""
        self._tries = 0
        self._loop: asyncio.AbstractEventLoop

    def open(self) -> None:
        """Connect, from inside the running loop, or raise :class:`HostFailure` without a system bus."""
        self._loop = asyncio.get_running_loop()
        dbus = DBus()
        try:
            dbus.open()
        except DBusBaseError as error:
            raise HostFailure(
                f"the system bus does not answer: {_words(error)}", hint="systemctl status dbus"
            ) from error
        self._dbus, self._fd = dbus, dbus.get_fd()
        for rule in _MATCHES:
            self._driver(b"AddMatch", rule)
        self._adopt()
        self._loop.add_reader(self._fd, self._pump)
        self._loop.call_soon(self._pump)

    def close(self) -> None:
        """Leave the bus."""
        if self._dbus is not None:
            self._loop.remove_reader(self._fd)
            self._dbus.close()
            self._dbus = None

    def call(self, method: str, *steps: Step, path: bytes = MANAGER_PATH, interface: bytes = MANAGER) -> Any:
        """Call a method of systemd, and return the body of its answer.

        Raises :class:`Refused` with systemd's own words, and :class:`HostFailure` without a connection.
        """
        return self._call(SYSTEMD, path, interface, method.encode(), list(steps))

    def sync(self) -> None:
        """Handle all signals that systemd sent before it answered this call, or raise as :meth:`call`."""
        self.call("Ping", interface=_PEER)
        while not self._handled():
            pass

    def _call(self, destination: bytes, path: bytes, interface: bytes, method: bytes, steps: list[Step]) -> Any:
        if self._dbus is None:
            raise HostFailure("there is no connection to systemd at the moment", hint="systemctl status dbus")
        try:
            return self._dbus.call_method(destination, path, interface, method, steps).body
        except DBusBaseError as error:
            kind = Missing if abs(error.errno) in _MISSING else Refused
            raise kind(_words(error), abs(error.errno)) from error
        finally:
            # signals that came in during the call are in sd-bus's own queue: for them the descriptor is not readable
            self._loop.call_soon(self._pump)

    def _driver(self, method: bytes, argument: str) -> Any:
        return self._call(_DRIVER, _DRIVER_PATH, _DRIVER, method, [text(argument)])

    def _adopt(self) -> None:
        """Look up systemd's unique name, which a re-execution changes, and subscribe to its signals."""
        self._owner = bytes(self._driver(b"GetNameOwner", SYSTEMD.decode()))
        try:
            self.call("Subscribe")
        except Refused as error:
            log.debug("already subscribed: %s", error)

    def _pump(self) -> None:
        """Handle messages that have arrived, and schedule the rest, so that other tasks have their turn."""
        if not self._handled():
            self._loop.call_soon(self._pump)

    def _handled(self) -> bool:
        """Handle some of the messages that have arrived; report whether there are no more.

        An empty message may also mean that sd-bus handled one by itself, so three in a row mean that there is no more.
        """
        empty = 0
        for _ in range(_BATCH):
            if self._dbus is None:
                return True
            try:
                message = self._dbus.process()
                empty = empty + 1 if message.is_empty() else 0
                if empty >= 3:
                    return True
                if not empty and message.get_type() == _SIGNAL:
                    self._dispatch(message)
            except DBusBaseError as error:
                self._lost(error)
                return True
        return False

    def _dispatch(self, message: Any) -> None:
        sender, member = bytes(message.get_sender()), bytes(message.get_member())
        if sender == _DRIVER and member == b"NameOwnerChanged":
            self._loop.call_soon(self._changed_owner)
        elif sender == self._owner:
            signal = Signal(member.decode(), bytes(message.get_path()).decode(), message)
            try:
                self._on_signal(signal)
            except Exception:  # a fault in one receiver must not end the connection
                log.exception("signal %s of systemd was not handled", signal.member)

    def _changed_owner(self) -> None:
        try:
            self._adopt()
        except HostFailure as error:  # the old instance has left, the new one is not there: another signal follows
            log.info("systemd is not on the bus at the moment: %s", error)
            return
        self._on_lost()

    def _lost(self, error: Exception) -> None:
        log.warning("lost the connection to the system bus (%s), connecting again", _words(error))
        self.close()
        self._on_lost()
        self._again()

    def _again(self) -> None:
        try:
            self.open()
        except HostFailure:
            self.close()
            self._loop.call_later(_RETRY_S[min(self._tries, len(_RETRY_S) - 1)], self._again)
            self._tries += 1
            return
        self._tries = 0
        self._on_lost()


def _words(error: Exception) -> str:
    said = getattr(error, "err_message", b"") or str(error)
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
