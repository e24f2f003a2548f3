"""The store under kill -9: at every step of every change, and at no matter when. It proves atomicity against being
killed; the order of flushes, which a power cut needs, is a test of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import SecretNotFound
from flyted.host.reserve import NAME, SPARES
from tests.host.deaths import each_death, forks
from tests.host.vaults import OPERATOR, ORG, files, opened, state_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from flyted.host.age import Identity
    from flyted.host.vault import Vault

pytestmark = [pytest.mark.slow, forks]
BIG = 30_000


def value_of(vault: Vault, key: str) -> bytes | None:
    with contextlib.suppress(SecretNotFound):
        return vault.get(ORG, key)
    return None


def assert_sound(folder: Path, *recovery: Identity) -> dict[str, bytes | None]:
    """Opens the store as a restart does; nothing damaged, refused or left over. Gives the values of A and B."""
    vault = opened(folder, *recovery)
    assert vault.refusal is None
    infos = vault.list()
    assert not any(i.damaged for i in infos)
    listed = {f"{i.key}.{i.generation}.age" for i in infos}
    assert files(folder) == {"manifest", *listed}
    assert {p.name for p in folder.iterdir()} - {NAME, *SPARES} == {"secrets", "generation"}
    assert int((folder / "generation").read_text()) == vault._files.current.generation
    values = {key: value_of(vault, key) for key in ("A", "B")}
    vault.close()
    return values


@pytest.fixture
def folder(scratch: Path) -> Path:
    """A store with A in it."""
    folder = state_folder(scratch)
    vault = opened(folder)
    vault.put(ORG, "A", b"old", replace=False)
    vault.close()
    return folder


CHANGES: dict[str, tuple[Callable[[Vault], object], dict[str, bytes | None]]] = {
    "replace": (lambda v: v.put(ORG, "A", os.urandom(10) + b"new", replace=True), {"A": b"new", "B": None}),
    "add": (lambda v: v.put(ORG, "B", b"new", replace=False), {"A": b"old", "B": b"new"}),
    "delete": (lambda v: v.delete(ORG, "A"), {"A": None, "B": None}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_killed_at_any_step_the_store_is_old_or_new(folder: Path, scratch: Path, name: str) -> None:
    """Before the commit all is old, after it all is new, and it never goes back; the next start finds it sound."""
    change, wanted = CHANGES[name]
    old: dict[str, bytes | None] = {"A": b"old", "B": None}
    seen = []
    for copy in each_death(folder, scratch, lambda f: change(opened(f))):
        values = {k: v[-3:] if v else v for k, v in assert_sound(copy).items()}
        assert values in (old, wanted)
        seen.append(values == wanted)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (False, True)


def test_killed_at_the_first_start_the_next_one_begins(scratch: Path) -> None:
    """An unfinished empty store is not taken for one that lost its manifest."""
    for copy in each_death(state_folder(scratch), scratch, opened):
        assert assert_sound(copy) == {"A": None, "B": None}


def test_killed_while_recovering_it_recovers(folder: Path, scratch: Path) -> None:
    """A start that is killed while it sweeps what another left is like any other."""
    change = CHANGES["replace"][0]
    tried = set()
    for first in each_death(folder, scratch, lambda f: change(opened(f))):
        state = ((first / "generation").read_text(), *sorted(re.sub("-.*", "", n) for n in files(first)))
        if state in tried:
            continue
        tried.add(state)
        second = scratch / f"{first.name}-again"
        second.mkdir()
        ends = [assert_sound(again) for again in each_death(first, second, opened)]
        assert all(end == ends[0] for end in ends)
    assert len(tried) > 5


def test_killed_while_resealing_every_secret_opens(folder: Path, scratch: Path) -> None:
    """A recovery key is added one secret at a time; what is left is done by the next start."""
    vault = opened(folder)
    vault.put(ORG, "B", b"other", replace=False)
    vault.close()
    for copy in each_death(folder, scratch, lambda f: opened(f, OPERATOR)):
        assert assert_sound(copy, OPERATOR) == {"A": b"old", "B": b"other"}
        vault = opened(copy, OPERATOR)
        assert vault.stale == 0
        vault.close()


def test_killed_while_accepting_a_rollback_no_file_is_lost(folder: Path, scratch: Path) -> None:
    """The store stays refused, or is accepted; unlisted files are there under one of their names."""
    backup = (folder / "secrets/manifest").read_bytes(), next((folder / "secrets").glob("A.*")).read_bytes()
    vault = opened(folder)
    vault.put(ORG, "A", b"newer", replace=True)
    vault.close()
    (folder / "secrets/manifest").write_bytes(backup[0])
    (folder / "secrets/A.2.age").write_bytes(backup[1])
    (folder / "secrets/A.2.age").chmod(0o600)
    for copy in each_death(folder, scratch, lambda f: opened(f).accept_rollback()):
        vault = opened(copy)
        vault.accept_rollback()
        assert vault.get(ORG, "A") == b"old"
        vault.close()
        assert files(copy) == {
            "manifest",
            next(iter(files(copy) & {f"A.{n}.age" for n in range(9)})),
            "A.3.age.unlisted",
        }


def writer(folder: Path, acknowledge: int) -> None:
    vault = opened(folder)
    for number in itertools.count(int(vault.get(ORG, "A")[:9]) + 1):
        vault.put(ORG, "A", b"%09d" % number + bytes([number % 251]) * BIG, replace=True)
        os.write(acknowledge, b"%09d\n" % number)


def test_a_writer_killed_at_random_tears_nothing(scratch: Path) -> None:
    """30 times kill -9: the value is whole, and is the one acknowledged last or the one after it."""
    folder = state_folder(scratch)
    vault = opened(folder)
    vault.put(ORG, "A", b"%09d" % 0, replace=False)
    vault.close()
    dice = random.Random(7)
    for _ in range(30):
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                writer(folder, writes)
            finally:
                os._exit(1)
        os.close(writes)
        with open(reads, "rb") as acks:  # noqa: PTH123 - a descriptor
            said = [acks.readline() for _ in range(dice.randint(1, 4))]
            select.select([], [], [], dice.uniform(0, 0.01))  # a moment within the next change
            os.kill(pid, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
            last = int(([*said, *acks.readlines()])[-1])
        vault = opened(folder)
        value = vault.get(ORG, "A")
        vault.close()
        number = int(value[:9])
        assert number in (last, last + 1)
        assert value[9:] == bytes([number % 251]) * BIG
        assert len(files(folder)) == 2


def test_everything_is_flushed_before_it_is_relied_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that a power cut needs: file before its name, name before the manifest, manifest before the rest."""
    vault = opened(folder)
    calls: list[str] = []
    real_fsync, real_rename, real_unlink = os.fsync, os.rename, os.unlink

    def kind(name: str) -> str:
        return "secret" if name.endswith(".age") else name

    def fsync(fd: int) -> None:
        calls.append(f"fsync {Path(f'/proc/self/fd/{fd}').readlink().name.split('-')[0]}")
        real_fsync(fd)

    def rename(old: str, new: str, **where: int) -> None:
        calls.append(f"rename {kind(new)}")
        real_rename(old, new, **where)

    def unlink(name: str, **where: int) -> None:
        calls.append(f"unlink {kind(name)}")
        real_unlink(name, **where)

    for name, spy in (("fsync", fsync), ("rename", rename), ("unlink", unlink)):
        monkeypatch.setattr(os, name, spy)
    vault.put(ORG, "A", b"new", replace=True)
    monkeypatch.undo()
    vault.close()
    assert calls == [
        *["fsync .staged"] * 3,
        "rename secret",
        "fsync secrets",
        "rename manifest",
        "fsync secrets",
        "rename generation",
        "fsync flyted",
        "unlink secret",
    ]


WITHOUT_CAPABILITIES = r"""
import os, sys
from pathlib import Path
from flyted.contract.errors import StoreCorrupt
from tests.host.vaults import ORG, opened, reopened, secret_file
folder = Path(sys.argv[1])
vault = opened(folder)
vault.put(ORG, "B", b"value", replace=False)
os.chmod(secret_file(folder, "B"), 0)
assert [(i.key, i.damaged) for i in vault.list()] == [("A", True), ("B", True)]
for key in ("A", "B"):
    try:
        vault.get(ORG, key)
    except StoreCorrupt as error:
        print(error.message)
vault.delete(ORG, "A")
vault.put(ORG, "B", b"again", replace=True)
vault = reopened(vault, folder)
assert vault.get(ORG, "B") == b"again" and vault.refusal is None
print("done")
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_root_without_capabilities_is_enough(folder: Path) -> None:
    """As flyted runs: a file that somebody gave to another user, or closed, is damaged, and can be replaced."""
    os.chown(next((folder / "secrets").glob("A.*.age")), 65534, 65534)
    drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--", sys.executable, "-c", WITHOUT_CAPABILITIES]
    done = subprocess.run([*drop, str(folder)], capture_output=True, text=True, check=False)
    why = "is damaged: its file is not readable by flyted"
    assert done.stdout.splitlines() == [*(f"secret '{k}' of the whole machine {why}" for k in "AB"), "done"]
    assert (done.stderr, done.returncode) == ("", 0)
