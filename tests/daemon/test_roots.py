"""Apps whose image has its own root file system, on the real loop: its mount is there as long as their units are."""

from __future__ import annotations

import asyncio
import dataclasses
import platform
from pathlib import Path

import pytest

from flyted.contract.names import Replica
from flyted.daemon.images.roots import has_musl
from flyted.host.layers import Stack
from flyted.plan.facts import ImageFact, RootFact
from flyted.plan.images import root_mount
from flyted.plan.images.root_record import RootRecord, root_record, root_text
from tests.daemon.fake import Machine, beside, until
from tests.values import spec

ROOT = ImageFact("", root=RootFact(("a" * 32,)))


def deployed(machine: Machine, name: str = "a", **changes: object) -> Replica:
    """An app of such an image that serves, as the store has it."""
    number = machine.store.add_revision(spec(name, **changes), ROOT, "f", 1.0)
    machine.store.serve(name, number, 1.0)
    return Replica(name, number)


def test_a_root_is_mounted_with_its_pair_and_goes_with_it(machine: Machine) -> None:
    """It stays while the app sleeps, so that a wake need not wait for it."""
    replica = deployed(machine, port=8080, command=("nginx",))
    mount = root_mount.unit(replica)

    async def story() -> None:
        await machine.loop.settle()
        assert machine.active(mount) == "active"
        machine.runs(replica)
        await machine.loop.settle()
        await until(lambda: machine.active(replica.service) == "inactive")
        assert machine.active(mount) == "active"
        machine.store.want("a", "stopped", 1.0)
        machine.loop.poke()
        await until(lambda: not machine.active(replica.socket))

    beside(machine, story)
    assert machine.active(mount) == ""


def test_a_daemon_that_starts_again_finds_it(machine: Machine) -> None:
    """Nothing is mounted twice, and after a reboot it is mounted anew."""
    replica = deployed(machine)

    async def story() -> None:
        await machine.loop.settle()
        await machine.execute.find_outdated()
        await machine.loop.settle()
        assert machine.systemd.asked["start_pair"] == 1
        machine.systemd.gone(replica.service)
        machine.systemd.gone(replica.socket)
        assert machine.active(root_mount.unit(replica)) == ""
        await until(lambda: machine.active(root_mount.unit(replica)) == "active")

    beside(machine, story)


def test_a_pair_is_made_anew_for_another_kernel(machine: Machine) -> None:
    """Whose mount has other options: a pair that sleeps gets them at once."""
    deployed(machine)

    async def story() -> None:
        await machine.loop.settle()
        before = machine.execute.config
        old = dataclasses.replace(before.platform, kernel=(6, 1))
        machine.execute.config = dataclasses.replace(before, platform=old)
        await machine.loop.find_outdated()
        await until(lambda: machine.systemd.asked["start_pair"] == 2)

    beside(machine, story)


def test_a_root_that_cannot_be_mounted_is_a_failure_of_its_app(machine: Machine) -> None:
    """It says so, and is tried again later; other apps go on."""
    replica, other = deployed(machine), machine.deployed("b")
    machine.systemd.mounts = "failed"

    async def story() -> None:
        await machine.loop.settle()
        assert machine.loop.failures[replica].reason == "the root of app 'a' cannot be mounted"
        assert machine.active(other.socket) == "active"
        machine.systemd.mounts = "done"
        await until(lambda: machine.active(replica.socket) == "active")
        await asyncio.sleep(1)

    beside(machine, story)
    assert machine.active(root_mount.unit(replica)) == "active"


ARCH = platform.machine()


@pytest.mark.parametrize(
    ("layers", "musl"),
    [
        ([{f"lib/ld-musl-{ARCH}.so.1": "libc.musl"}], True),
        ([{f"lib/ld-musl-{ARCH}.so.1": "x", "lib64/ld-linux-x86-64.so.2": "of gcompat"}], True),
        (
            [{"lib": "->usr/lib", f"usr/lib/{ARCH}-linux-gnu/libc.so.6": "x", f"usr/lib/ld-musl-{ARCH}.so.1": "x"}],
            False,
        ),
        ([{f"lib/ld-musl-{ARCH}.so.1": "x"}, {"usr/lib64/libc.so.6": "x"}], False),
        ([{"lib64/libc.so.6": "x"}], False),
        ([{"bin/busybox": "static"}], False),  # it may bring its libraries anywhere
        ([{"lib/ld-musl-other.so.1": "x"}], False),
    ],
)
def test_an_image_of_musl_is_known_by_its_loader(tmp_path: Path, layers: list[dict[str, str]], *, musl: bool) -> None:
    """Unless it has glibc, too, as a Debian with the package musl."""
    for number, files in enumerate(layers):
        for name, text in files.items():
            path = tmp_path / str(number) / "diff" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("->"):
                path.symlink_to(text[2:])
            else:
                path.write_text(text)
    assert has_musl(Stack(tmp_path, [str(number) for number in range(len(layers))])) is musl
    record = RootRecord("h", (), musl=musl)
    assert root_record(root_text(record)) == record
    found = record.image()
    assert found.root is not None
    assert found.root.musl is musl
