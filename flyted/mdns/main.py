"""Keeps what Avahi announces in step with the ingress's tables."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from pathlib import Path

from flyted.base import inotify
from flyted.mdns.avahi import Anew, Avahi, AvahiError, Collision
from flyted.mdns.names import TABLES, announced, domains, tables

_WATCHED = frozenset(name.encode() for name in TABLES)


def main(folder: Path) -> int:
    """Announce names until no base domain needs it; return the exit status.

    While Avahi does not run, wait for it. systemd starts this program again when the table of base domains changes,
    and after a failure, such as the end of the bus (``units/flyted-mdns.*``).
    """
    watch = inotify.watching(folder)
    try:
        announcer = Announcer(Avahi())
        while domains(found := tables(folder)):
            announcer.follow(announced(found))
            announcer.wait(watch)
    except AvahiError as error:
        say(f"no names are announced: {error}")
        return os.EX_TEMPFAIL
    finally:
        os.close(watch)
    return 0


class Announcer:
    """The names that Avahi announces for this process."""

    def __init__(self, avahi: Avahi) -> None:
        self._avahi = avahi
        self._host = avahi.host()
        self._groups: dict[str, bytes] = {}
        self._refused = frozenset[str]()

    def follow(self, wanted: frozenset[str]) -> None:
        """Announce these names and withdraw all others; say which of them Avahi refuses, once."""
        for name in self._groups.keys() - wanted:
            self._withdraw(name)
        self._refused &= wanted
        if not self._host:
            return
        for name in sorted(wanted - self._groups.keys() - self._refused):
            try:
                self._groups[name] = self._avahi.announce(name, self._host)
            except AvahiError as error:
                self._refuse(name, str(error))

    def wait(self, watch: int) -> None:
        """Return when there is something to do: a table has changed, or Avahi has begun, or given another name."""
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        poll.register(self._avahi.descriptor, select.POLLIN)
        while not self._heard():
            poll.poll()
            if inotify.changed(watch, _WATCHED):
                return

    def _heard(self) -> bool:
        """Handle what Avahi has said; report whether all names have to be announced anew."""
        events = list(self._avahi.events())
        names = {group: name for name, group in self._groups.items()}
        for name in (names[event.group] for event in events if isinstance(event, Collision) and event.group in names):
            self._withdraw(name)
            self._refuse(name, "another machine in the local network has this name")
        if not any(isinstance(event, Anew) for event in events):
            return False
        for name in tuple(self._groups):
            self._withdraw(name)
        self._host, self._refused = self._avahi.host(), frozenset()
        return True

    def _withdraw(self, name: str) -> None:
        with contextlib.suppress(AvahiError):  # with Avahi itself
            self._avahi.withdraw(self._groups.pop(name))

    def _refuse(self, name: str, why: str) -> None:
        self._refused |= {name}
        say(f"{name} is not announced: {why}")


def say(text: str) -> None:
    """Write a line to the journal."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
