"""A disk without a byte left: nothing new gets in, nothing is lost, and deleting works. On a small file system."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import FlytedError, HostFailure, NotFound, SecretNotFound
from flyted.host import reserve
from flyted.host.gpu_records import GpuRecords
from flyted.host.store import Store
from flyted.host.tokens import Tokens
from flyted.plan.facts import ImageFact
from flyted.plan.gpus.facts import Learned
from flyted.plan.tokens import Token
from tests.host.vaults import ORG, opened, state_folder
from tests.plan.gpus import lease
from tests.values import spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flyted.host.vault import Vault

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system"),
]
IMAGE = ImageFact("/i", "h", "3.13.5", "3.12", "note", ())
MANY = 40


class Parts:
    """What the daemon opens at its start, in its order."""

    def __init__(self, folder: Path) -> None:
        with reserve.released(folder):
            self.vault: Vault = opened(folder)
            self.store = Store(folder / "flyted.db")
            self.store.fail_pending("stopped", 1.0)
        self.tokens = Tokens(self.store.database)

    def close(self) -> None:
        self.vault.close()
        self.store.close()

    def known(self) -> tuple[int, int, int]:
        return len(self.vault.list()), len(self.store.apps()), len(self.tokens.all())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A state folder on a file system of 8 MiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=400", "tmpfs", str(mounted)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        yield state_folder(mounted)
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@pytest.fixture
def parts(folder: Path) -> Iterator[Parts]:
    """Some secrets, apps and tokens."""
    parts = Parts(folder)
    for number in range(MANY):
        parts.vault.put(ORG, f"K{number}", b"v" * 3000, replace=False)
        parts.store.add_revision(spec(f"a{number}"), IMAGE, "f", 1.0)
        parts.store.serve(f"a{number}", 1, 2.0)
    add_tokens(parts.tokens, range(MANY))
    yield parts
    with contextlib.suppress(OSError):
        parts.close()


def token(number: int) -> Token:
    return Token(f"d{number}", f"i{number}", "named", "bob", 1000, "", f"n{number}", 1.0, 2.0)


def add_tokens(tokens: Tokens, numbers: range) -> None:
    for number in numbers:
        tokens.add(token(number))


def fill(folder: Path) -> None:
    """Until not a byte more fits."""
    with (folder / "filler").open("ab", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while filler.write(b"x" * size) == size:
                    pass


def test_without_an_inode_left_deleting_works(parts: Parts, folder: Path) -> None:
    """Secrets, apps and tokens, one after the other to the last; nothing new gets in before."""
    with contextlib.suppress(OSError):
        for number in range(1_000_000):
            (folder / f"filler{number}").touch()
    with pytest.raises(HostFailure, match="full"):
        parts.vault.put(ORG, "NEW", b"v", replace=False)
    for number in range(MANY):
        parts.vault.delete(ORG, f"K{number}")
        parts.store.delete(f"a{number}")
    parts.tokens.remove(frozenset(each.digest for each in parts.tokens.all()))
    assert parts.known() == (0, 0, 0)


def test_nothing_new_gets_in_and_nothing_changes(parts: Parts, folder: Path) -> None:
    """A secret (new, replaced), an app, a revision, a token: refused as a full disk; what was there is there."""
    fill(folder)
    before = parts.known()
    for new in (
        lambda: parts.vault.put(ORG, "NEW", b"v", replace=False),
        lambda: parts.vault.put(ORG, "K1", b"other", replace=True),
        lambda: [parts.store.add_revision(spec("new"), IMAGE, f"{n}", 1.0) for n in range(2000)],
        lambda: add_tokens(parts.tokens, range(MANY, 9000)),
    ):
        with pytest.raises(HostFailure, match="full"):
            new()
        fill(folder)
    assert parts.vault.get(ORG, "K1") == b"v" * 3000
    assert parts.known()[0] == before[0]
    assert (folder / reserve.NAME).stat().st_blocks * 512 == reserve.SIZE


def test_everything_can_be_deleted(parts: Parts, folder: Path) -> None:
    """One after the other, while somebody else takes every byte that comes free."""
    fill(folder)
    for number in range(MANY):
        parts.vault.delete(ORG, f"K{number}")
        parts.store.want(f"a{number}", "stopped", 3.0)
        parts.store.delete(f"a{number}")
        parts.tokens.remove(frozenset({f"d{number}"}))
        with pytest.raises(SecretNotFound):
            parts.vault.get(ORG, f"K{number}")
        with pytest.raises(NotFound):
            parts.store.app(f"a{number}")
        fill(folder)
    assert parts.known() == (0, 0, 0)


def test_leases_of_gpus_end(parts: Parts, folder: Path) -> None:
    """An app with a GPU can be stopped and deleted; no lease is granted that could not be kept."""
    gpus = GpuRecords(parts.store.database)
    for number in range(MANY):
        gpus.hold(lease(f"a{number}", "1"))
        gpus.learn(f"a{number}", Learned(1 << 30, 5.0))
    fill(folder)
    with pytest.raises(HostFailure, match="full"):
        for number in range(MANY, 9000):
            gpus.hold(lease(f"a{number}", "1"))
    fill(folder)
    for each in gpus.leases():
        gpus.hold(each.over(9.0))
        fill(folder)
        gpus.drop(each.unit)
        gpus.forget(each.app_id)
        fill(folder)
    assert (gpus.leases(), gpus.learned()) == ([], {})


def test_a_deploy_that_fails_is_recorded(parts: Parts, folder: Path) -> None:
    """The disk fills while it starts: why it failed is kept, and the revision is not pending for ever."""
    for number in range(MANY):
        parts.store.add_revision(spec(f"a{number}"), IMAGE, "f2", 3.0)
    for number in range(MANY):
        fill(folder)
        parts.store.fail(f"a{number}", 2, "no such module " * 30, 4.0)
        app = parts.store.app(f"a{number}")
        assert (app.serving, app.revisions[-1].status) == (1, "failed")


def test_the_daemon_starts_on_a_full_disk(parts: Parts, folder: Path) -> None:
    """Again and again; everything is as it was, and can be deleted."""
    wanted = parts.known()
    for _ in range(5):
        parts.close()
        fill(folder)
        parts = Parts(folder)
        assert parts.known() == wanted
        fill(folder)
    parts.vault.delete(ORG, "K1")
    parts.store.delete("a1")
    parts.tokens.remove(frozenset({"d1"}))
    assert parts.known() == tuple(count - 1 for count in wanted)
    parts.close()


def test_without_a_reserve_the_same_disk_refuses(parts: Parts, folder: Path) -> None:
    """What the reserve is for: when another program has its space, deleting is refused, and changes nothing."""
    (folder / reserve.NAME).unlink()
    (folder / reserve.NAME).mkdir()  # neither released nor taken
    fill(folder)
    with pytest.raises(FlytedError, match="disk full"):
        parts.vault.delete(ORG, "K1")
    assert parts.vault.get(ORG, "K1") == b"v" * 3000
