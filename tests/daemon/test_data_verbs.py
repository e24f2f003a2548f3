"""The data verbs: who may read, take and delete what apps keep, and when."""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flyted.contract.errors import (
    AlreadyExists,
    Busy,
    FlytedError,
    HostFailure,
    InvalidInput,
    NotFound,
    PermissionRefused,
)
from flyted.contract.names import AppKey
from flyted.daemon.api.actor import Right
from flyted.daemon.api.verbs import Socket
from flyted.daemon.apps import data, data_verbs
from flyted.host import people
from tests.daemon.data_machine import ALICE, MALLORY, NAMED, PEOPLE, ROOT, Machine, archive


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """With apps' folders below a folder of this test."""
    for module in (data, data_verbs):
        monkeypatch.setattr(module, "folder_of", lambda app_id: str(tmp_path / f"flyted-app-{app_id}"))
    monkeypatch.setattr(data_verbs, "STATE", str(tmp_path))
    monkeypatch.setattr(people, "name_of", PEOPLE.get)
    made = Machine(tmp_path)
    yield made
    made.store.close()


def test_who_deployed_an_app_and_root_may_export_it(machine: Machine) -> None:
    """Nobody else, though every member may serve and delete it; and nothing is run for them."""
    machine.serves()
    machine.keeps(a="milk")
    for uid in (ALICE, ROOT):
        said, names = machine.exported(uid)
        assert (said["files"], said["left_out"], said["changed"], names) == (1, 0, False, {"work/a"})
    machine.ran.clear()
    with pytest.raises(PermissionRefused, match="app 'notes' was deployed by alice: only that user and root"):
        machine.exported(MALLORY)
    with pytest.raises(PermissionRefused):
        machine.store.want("notes", "stopped", 1.0)
        machine.imported(archive(), MALLORY, replace=True)
    assert (machine.ran, machine.kept()) == ([], {"work/a": "milk"})


def test_an_app_of_nobody_is_roots(machine: Machine) -> None:
    """Revisions of flyted 0.1.0 do not say whose they are; nor does a folder without a record."""
    machine.keeps(a="milk")
    with pytest.raises(PermissionRefused, match="has no known owner"):
        machine.exported(ALICE)
    assert machine.exported(ROOT)[1] == {"work/a"}
    machine.serves(by="")
    with pytest.raises(PermissionRefused, match="has no known owner"):
        machine.exported(ALICE)


def test_an_import_needs_a_stopped_app_and_consent(machine: Machine) -> None:
    """A sleeping app may wake at any time."""
    machine.serves()
    machine.keeps(a="milk")
    with pytest.raises(Busy, match="is not stopped: a request could start it"):
        machine.imported(archive(), replace=True)
    machine.store.want("notes", "stopped", 2.0)
    machine.with_units.add("notes")
    with pytest.raises(Busy, match="is not stopped"):
        machine.imported(archive(), replace=True)
    machine.with_units.clear()
    with pytest.raises(AlreadyExists, match="has 1 files, which the import would replace"):
        machine.imported(archive())
    assert machine.kept() == {"work/a": "milk"}
    assert machine.imported(archive(), replace=True) == {"files": 1, "bytes": 3, "left_out": 0}
    assert machine.kept() == {"work/a": "tea"}


def test_an_archive_that_is_refused_changes_nothing(machine: Machine) -> None:
    """The hint is for what was wrong; for an app that is not there, no folder is left behind."""
    machine.serves(wanted="stopped")
    machine.keeps(a="milk")
    for made, why, hint in (
        (archive(name="/etc/x"), "nothing was imported: '/etc/x' is an absolute name", "as it was"),
        (archive(kind=tarfile.SYMTYPE, text=""), "is a link that leads out of the data", "--skip-links"),
        (b"hello", "not a tar archive", "as it was"),
    ):
        with pytest.raises(InvalidInput, match=why) as caught:
            machine.imported(made, replace=True)
        assert hint in caught.value.hint
    assert machine.kept() == {"work/a": "milk"}
    assert machine.imported(archive(kind=tarfile.SYMTYPE, text=""), replace=True, skip_links=True)["left_out"] == 1
    machine.store.delete("notes")
    shutil.rmtree(machine.state())
    with pytest.raises(InvalidInput):
        machine.imported(b"hello")
    assert not machine.state().exists()
    assert machine.store.kept_data.all() == ()


def test_data_may_be_brought_before_its_app(machine: Machine) -> None:
    """It is its bringer's until the app is served, which takes it over."""
    assert machine.imported(archive())["files"] == 1
    ((kept),) = machine.store.kept_data.all()
    assert (kept.key.id, kept.owner) == ("notes", "alice")
    with pytest.raises(PermissionRefused, match="deployed by alice"):
        machine.imported(archive(), MALLORY, replace=True)
    (listed,) = machine.ask("data.list")["folders"]
    assert (listed["name"], listed["known"], listed["owner"], listed["files"]) == ("notes", False, "alice", 1)
    machine.serves()
    assert machine.store.kept_data.all() == ()
    (listed,) = machine.ask("data.list")["folders"]
    assert (listed["known"], listed["deleted_at"]) == (True, 0.0)


def test_what_is_kept_of_a_deleted_app_is_listed_exported_and_removed(machine: Machine) -> None:
    """By its name; whose it is, is remembered. A folder that nobody knows of is root's."""
    machine.serves(disk_bytes=1 << 30)
    machine.keeps(a="milk")
    machine.keeps("stray", a="milk")
    (listed, stray) = machine.ask("data.list")["folders"]
    assert (listed["disk_bytes"], listed["bytes"], listed["complete"]) == (1 << 30, 4, True)
    assert (stray["name"], stray["known"], stray["owner"]) == ("stray", False, "")
    machine.store.delete("notes", kept_since=77.0)
    (listed, _stray) = machine.ask("data.list")["folders"]
    assert (listed["known"], listed["owner"], listed["deleted_at"], listed["disk_bytes"]) == (False, "alice", 77.0, 0)
    assert machine.exported()[1] == {"work/a"}
    with pytest.raises(PermissionRefused):
        machine.exported(MALLORY)
    assert machine.ask("data.remove", MALLORY, **NAMED)["id"] == "notes"  # as every member may delete every app
    assert not machine.state().exists()
    assert machine.store.kept_data.all() == ()
    with pytest.raises(NotFound, match="keeps no data"):
        machine.ask("data.remove", **NAMED)
    with pytest.raises(NotFound, match="no data of an app 'notes'"):
        machine.exported()


def test_data_of_an_app_that_may_run_is_not_removed(machine: Machine) -> None:
    """After a stop it is, and the app stays."""
    machine.serves()
    machine.keeps(a="milk")
    with pytest.raises(Busy, match="is not stopped"):
        machine.ask("data.remove", **NAMED)
    machine.store.want("notes", "stopped", 1.0)
    machine.ask("data.remove", **NAMED)
    assert not machine.state().exists()
    assert machine.store.find(AppKey("default", "development", "notes")) is not None


def test_nothing_else_happens_to_the_data_meanwhile(machine: Machine) -> None:
    """A deploy waits for no import, and no import for an export: the second is told."""
    machine.serves(wanted="stopped")
    machine.keeps(a="milk")
    said: list[FlytedError] = []
    handle = os.open(machine.folder / "both", os.O_RDWR | os.O_CREAT)

    def also(verb: str) -> Callable[[], None]:
        def other() -> None:
            machine.during = lambda: None
            args = {"replace": True, "skip_links": False} if verb == "data.import" else {}
            task = asyncio.ensure_future(machine.call(verb, file=handle, **NAMED, **args))
            task.add_done_callback(lambda done: said.append(done.exception()))  # type: ignore[arg-type]

        return other

    for verb in ("data.export", "data.import", "data.remove"):
        machine.during = also(verb)
        machine.exported()
    assert [type(each) for each in said] == [Busy] * 3
    assert all("being exported" in str(each) for each in said)
    said.clear()
    os.close(handle)

    def deploy() -> None:
        async def held() -> None:
            async with machine.locks.hold(AppKey("default", "development", "notes")):
                raise AssertionError

        machine.during = lambda: None
        asyncio.ensure_future(held()).add_done_callback(lambda done: said.append(done.exception()))  # type: ignore[arg-type]

    machine.during = deploy
    machine.imported(archive(), replace=True)
    assert [str(each) for each in said] == ["an import of the data of 'notes' is already in progress"]


def test_a_unit_that_fails_is_no_archive(machine: Machine) -> None:
    """It was killed, say, for its memory."""
    machine.serves(wanted="stopped")
    machine.keeps(a="milk")
    machine.fails = True
    with pytest.raises(HostFailure, match=r"flyted-export-notes.service ended with exit-code, status 1") as caught:
        machine.exported()
    assert "journalctl -u flyted-export-notes.service" in caught.value.hint


def test_only_files_and_pipes_are_read_and_written(machine: Machine) -> None:
    """A directory, a device, a socket and a file that is open the other way round are refused before a unit is run."""
    machine.serves(wanted="stopped")
    machine.keeps(a="milk")
    machine.ran.clear()
    flags = {"/dev/null": os.O_RDWR, str(machine.folder): os.O_RDONLY, str(machine.folder / "db"): os.O_RDONLY}
    for path, how in flags.items():
        handle = os.open(path, how)
        with pytest.raises(InvalidInput, match=r"regular file or a pipe|not open for writing"):
            machine.ask("data.export", ALICE, handle, **NAMED)
        os.close(handle)
    with pytest.raises(InvalidInput, match="carries no file"):
        machine.ask("data.export", ALICE, None, **NAMED)
    writable = os.open(machine.folder / "w", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(InvalidInput, match="not open for reading"):
        machine.ask("data.import", ALICE, writable, **NAMED, replace=True, skip_links=False)
    os.close(writable)
    assert machine.ran == []


def test_a_list_counts_for_so_long_and_no_longer(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders whose turn does not come are listed without a size."""
    machine.serves()
    machine.keeps(a="milk")
    monkeypatch.setattr(data_verbs, "COUNTED_S", -1.0)
    (listed,) = machine.ask("data.list")["folders"]
    assert (listed["bytes"], listed["complete"], machine.ran) == (0, False, [])


def test_no_verb_is_for_the_gateway(machine: Machine) -> None:
    """A descriptor is one of this machine; what changes data is in the journal, and so is an export."""
    rows = machine.verbs.verbs()
    assert {name: row.right for name, row in rows.items()} == {
        "data.list": Right.READ, "data.export": Right.OPERATE, "data.import": Right.OPERATE,
        "data.remove": Right.OPERATE,
    }  # fmt: skip
    assert all(row.sockets == {Socket.CONTROL} for row in rows.values())
    assert {name for name, row in rows.items() if row.changes} == {"data.export", "data.import", "data.remove"}
