"""The daemon's stores at its start: a new machine's, a whole one's, and what is lost or damaged, with the way back."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flyted.contract import client
from flyted.contract.errors import AlreadyExists, DaemonUnavailable, StoreCorrupt
from flyted.contract.names import SecretScope
from flyted.daemon import state
from flyted.host import database
from flyted.host.identity import NONE
from flyted.plan.facts import ImageFact
from tests.host.vaults import MACHINE, state_folder
from tests.values import spec


class Machine:
    """A folder as /var/lib/flyted, and what systemd gives for the identity."""

    def __init__(self, folder: Path) -> None:
        self.state = state_folder(folder)
        (self.state / "bundles").mkdir()
        self.db = self.state / "flyted.db"
        self.credential = folder / "flyted-identity"
        self.credential.write_text(MACHINE.reveal())

    def start(self) -> list[str]:
        """The names of the apps that the daemon knows after a start, at whose end it stops again."""
        vault, store = state.opened(self.state)
        names = [app.key.name for app in store.apps()]
        vault.close()
        store.close()
        return names

    def used(self) -> None:
        """There is an app, and a secret."""
        vault, store = state.opened(self.state)
        vault.put(SecretScope(), "KEY", b"value", replace=False)
        store.add_revision(spec("web"), ImageFact("/i"), "f", 1.0)
        vault.close()
        store.close()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A new one; no data of apps elsewhere."""
    monkeypatch.setattr(state, "_APPS", tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    yield Machine(tmp_path)


def test_a_new_machine_starts_and_one_that_was_killed_in_its_first_start_too(machine: Machine) -> None:
    """There is a secret store then, without any secret."""
    assert machine.start() == []
    machine.db.unlink()
    assert machine.start() == []
    machine.used()
    assert machine.start() == ["web"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_no_full_disk(machine: Machine, make: Callable[[Path], None]) -> None:
    """SQLite cannot open it, and says no more than that: flyted would be started again and again."""
    machine.used()
    whole = machine.db.read_bytes()
    machine.db.unlink()
    make(machine.db)
    with pytest.raises(StoreCorrupt, match="is not a regular file") as caught:
        machine.start()
    assert "sudo flyted --new-database" in caught.value.hint
    assert database.begin_anew(machine.db)
    machine.db.write_bytes(whole)
    assert machine.start() == ["web"]


@pytest.mark.parametrize("content", [None, b""])
def test_a_lost_database_is_no_new_machine(machine: Machine, content: bytes | None) -> None:
    """It is refused, nothing is made in its place, and restored it is whole."""
    machine.used()
    whole = machine.db.read_bytes()
    machine.db.unlink()
    if content is not None:
        machine.db.write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match=f"flyted.db is {'missing' if content is None else 'empty'}") as caught:
            machine.start()
        assert "this machine has 1 secret" in caught.value.message
        assert "sudo flyted --new-database" in caught.value.hint
        assert machine.db.exists() == (content is not None)
    machine.db.write_bytes(whole)
    assert machine.start() == ["web"]


@pytest.mark.parametrize("left", ["bundle", "data"])
def test_what_apps_left_shows_that_there_was_a_database(machine: Machine, left: str, tmp_path: Path) -> None:
    """Without any secret."""
    if left == "bundle":
        (machine.state / "bundles" / f"{'0' * 64}.tar.gz").touch()
    else:
        (tmp_path / "flyted-app-web").mkdir()
    with pytest.raises(StoreCorrupt, match=r"flyted\.db is missing, but this machine has 1 "):
        machine.start()


@pytest.mark.parametrize("content", [None, b"", b"random" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_the_operator_may_begin_without_apps(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """Only where the database is no good; what was there is kept, and the secrets stay."""
    monkeypatch.setattr(state, "STATE", machine.state)
    machine.used()
    with pytest.raises(AlreadyExists):
        database.begin_anew(machine.db)
    machine.db.unlink()
    if content is not None:
        machine.db.write_bytes(content)
    with pytest.raises(StoreCorrupt) as caught:
        machine.start()
    assert "sudo flyted --new-database" in caught.value.hint
    assert state.new_database() == 0
    assert machine.start() == []
    assert state.new_database() == 5
    vault, store = state.opened(machine.state)
    assert vault.get(SecretScope(), "KEY") == b"value"
    vault.close()
    store.close()
    if content is not None:
        assert (machine.state / "flyted.db.lost-1").read_bytes() == content


def test_an_identity_that_does_not_open_is_named_with_the_way_back(machine: Machine) -> None:
    """systemd gives the unit's stand-in; which file is meant, and what to do, is told."""
    machine.used()
    machine.credential.write_bytes(NONE)
    with pytest.raises(StoreCorrupt, match=r"identity\.cred is gone") as gone:
        machine.start()
    (machine.state / "identity.refused").touch()
    with pytest.raises(StoreCorrupt, match=r"cannot open the key of its secrets, .*/identity\.refused") as refused:
        machine.start()
    for caught in (gone, refused):
        assert "sudo flyted --new-identity" in caught.value.hint


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[dict[str, socket.socket]]:
    """The daemon's, as systemd gives them; nobody accepts yet."""
    found = {}
    for name in ("control", "credentials", "api"):
        found[name] = socket.socket(socket.AF_UNIX)
        found[name].bind(os.fspath(tmp_path / name))
        found[name].listen(16)
        found[name].setblocking(False)
    yield found
    for each in found.values():
        each.close()


def asks(listener: socket.socket) -> socket.socket:
    """A client that waits."""
    conn = socket.socket(socket.AF_UNIX)
    conn.settimeout(10)
    conn.connect(listener.getsockname())
    return conn


def test_whoever_waits_is_told_why_there_is_no_daemon(listeners: dict[str, socket.socket]) -> None:
    """At once, however many they are; who asks for a credential gets none, and does not wait either."""
    asking = [asks(listeners[name]) for name in ("control", "credentials", "api")]
    state.refuse(listeners, StoreCorrupt("the database is lost", hint="restore it"))
    for conn in (asking[0], asking[2]):
        with pytest.raises(DaemonUnavailable, match="it cannot start: the database is lost") as caught:
            client._Answers(conn).result(None)
        assert caught.value.hint == "restore it"
    assert asking[1].recv(10) == b""
    for each in asking:
        each.close()


def test_one_who_has_left_does_not_keep_the_others_from_the_answer(listeners: dict[str, socket.socket]) -> None:
    """They came after it on the same socket."""
    asks(listeners["control"]).close()
    asks(listeners["credentials"]).close()
    with asks(listeners["credentials"]) as unit, asks(listeners["control"]) as behind:
        state.refuse(listeners, StoreCorrupt("the database is lost"))
        for each in listeners.values():
            each.close()
        with pytest.raises(DaemonUnavailable, match="it cannot start: the database is lost"):
            client._Answers(behind).result(None)
        assert unit.recv(10) == b""
