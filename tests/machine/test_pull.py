"""Images of Debian's own registry, with TLS and a login, pulled by the plan's unit and unpacked layer by layer."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import BuildFailed
from flyted.layers.unpack import NOBODY
from flyted.plan.images import pull_unit as plan
from flyted.plan.images.common_unit import PYTHON
from flyted.plan.images.pull_unit import PulledImage, PullSettings
from flyted.registry import words
from flyted.registry.manifest import DOCKER_MANIFEST, OCI_INDEX
from tests.machine.kit.hub import HOST, PLATFORM, SCHEMA_1, ZSTD, Hub, layers, named, pulled, serving, tar_of
from tests.machine.kit.units import connected, must
from tests.registry.server import LAYER

BASE = 0x70000000
ROOT = Path(__file__).parents[2]


PROBE = """
import json, os, socket
found = {}
def tried(name, work):
    try:
        found[name] = str(work())
    except OSError as error:
        found[name] = error.strerror
own = os.environ["STATE_DIRECTORY"]
tried("own folder", lambda: open(own + "/x", "w") and "written")
for place in ("/var/lib/flyted", "/var/lib/flyted/images", "/tmp/..", "/etc", "/run", "/usr/lib/flyted", "/var/lib"):
    tried("write " + place, lambda: open(place + "/x", "w"))
for place in ("images", "layers", "bundles", "secrets", "roots"):
    folder = "/var/lib/flyted/" + place
    os.path.lexists(folder) and tried("list " + place, lambda: os.listdir(folder))
tried("homes", lambda: os.listdir("/home"))
tried("sockets", lambda: socket.socket(socket.AF_UNIX).connect("/run/flyted/control.sock"))
tried("bus", lambda: socket.socket(socket.AF_UNIX).connect("/run/dbus/system_bus_socket"))
tried("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
tried("root", lambda: os.setuid(0))
tried("shadow", lambda: open("/etc/shadow").read())
tried("kill", lambda: os.kill(1, 0))
found["capabilities"] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapBnd")][0]
print(json.dumps(found))
"""
REFUSALS = ("Permission denied", "Read-only file system", "No such file or directory", "Operation not permitted", "[]",
            "Address family not supported by protocol")  # fmt: skip
STEP = """
import ctypes, os, sys
folder, *blobs = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
from flyted.layers.unpack import unpack
told, mapped = os.pipe(), os.pipe()
child = os.fork()
if child:
    os.read(told[0], 1)
    for kind in ("uid", "gid"):
        with open(f"/proc/{child}/{kind}_map", "w") as file:
            file.write("0 1879048192 65536")
    os.write(mapped[1], b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.setgroups([])
call(libc.unshare(0x10000000 | 0x00020000))  # CLONE_NEWUSER, CLONE_NEWNS
os.write(told[1], b"x")
os.read(mapped[0], 1)
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
os.umask(0o022)
for number, blob in enumerate(blobs):
    lower = ":".join(f"{folder}/{each}/diff" for each in reversed(range(number))) or f"{folder}/root"
    options = f"lowerdir={lower},upperdir={folder}/{number}/diff,workdir={folder}/{number}/work,userxattr"
    call(libc.mount(b"overlay", b"/mnt", b"overlay", 0, options.encode()))
    with open(blob, "rb") as file:
        print(unpack(file, "layer", "/mnt"))
    call(libc.umount2(b"/mnt", 0))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serving() as made:
        yield made


@pytest.fixture(scope="module")
def images(hub: Hub) -> dict[str, str]:
    """Tag → digest of an index of two platforms, an image for another one, and one in Docker's old format."""
    mine = hub.image("mine", layers(), PLATFORM.partition("/")[2])
    other = hub.image("other", [(tar_of(("x", b"x")), LAYER)], "s390x")
    index = hub.manifest({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [
            {**other, "platform": {"os": "linux", "architecture": "s390x"}},
            {**mine, "platform": {"os": "linux", "architecture": PLATFORM.partition("/")[2]}},
        ],
    }, "v1")  # fmt: skip
    return {"mine": mine["digest"], "other": other["digest"], "v1": index["digest"]}


@pytest.fixture
def store() -> Iterator[Path]:
    """The folder of blobs, without what other tests pulled."""
    must("rm", "-rf", plan.BLOBS)
    yield Path(plan.BLOBS)
    must("rm", "-rf", plan.BLOBS)


def probed(hub: Hub, changes: dict[str, Any]) -> list[str]:
    """The output of the plan's unit with these changes."""

    async def work() -> list[str]:
        with (hub.folder / "output").open("w+") as output:
            unit = {**plan.pull_unit(named("v1"), PLATFORM, PullSettings(output_fd=output.fileno())), **changes}
            async with connected() as units:
                await units.run_transient("flyted-pull-probe.service", unit)
            output.seek(0)
            return output.read().splitlines()

    return asyncio.run(asyncio.wait_for(work(), 60))


def record(found: str) -> PulledImage:
    return plan.pulled_image(Path(plan.record_path(found)).read_text())


@pytest.mark.parametrize("tag", ["v1", "mine", "index"])
def test_an_image_arrives(hub: Hub, images: dict[str, str], store: Path, tag: str) -> None:
    """By tag, and by the digest of the index: the part for this machine, owned by the build's user."""
    found, lines = pulled(hub, images["v1"] if tag == "index" else tag)
    assert found == images["mine"]
    assert [layer.media for layer in record(found).layers] == [LAYER, ZSTD]
    assert record(found).config == {"Cmd": ["/bin/sh"], "Env": ["A=b"]}
    assert {path.owner() for path in store.rglob("*")} == {"flyted-build"}
    assert stat.S_IMODE(store.stat().st_mode) == 0o755
    assert len([line for line in lines if ": layer " in line]) == 2


def test_to_resolve_fetches_no_layer(hub: Hub, images: dict[str, str], store: Path) -> None:
    found, _ = pulled(hub, "v1", resolve_only=True)
    assert found == images["mine"]
    assert plan.pulled_image(Path(plan.record_path(found, resolve_only=True)).read_text()).layers
    assert len(list((store / words.SHA256).iterdir())) == 2


@pytest.mark.parametrize(
    ("tag", "how", "said", "hint"),
    [
        ("none", {}, "does not have team/app (MANIFEST_UNKNOWN: manifest unknown", "check the name"),
        ("v1", {"password": "wrong"}, "refuses the login", f"docker login {HOST}"),
        ("v1", {"login": False}, "wants a login", f"docker login {HOST}"),
        ("other", {}, f"is for linux/s390x, and this machine is {PLATFORM}", "another tag"),
        ("sha256:" + "0" * 64, {}, "does not have team/app", "check the name"),
    ],
)
def test_it_is_said_why(
    hub: Hub, images: dict[str, str], store: Path, tag: str, how: dict[str, Any], said: str, hint: str
) -> None:
    with pytest.raises(BuildFailed) as caught:
        pulled(hub, tag, **how)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert "s3cret" not in caught.value.message


def test_the_old_format_is_refused(hub: Hub, store: Path) -> None:
    """The registry itself writes and signs it, for clients that accept nothing else."""
    hub.image("docker", [(tar_of(("x", b"x")), LAYER)], "amd64", DOCKER_MANIFEST)
    _, old = hub.ask("GET", "manifests/docker", accept=SCHEMA_1)
    assert json.loads(old)["schemaVersion"] == 1
    hub.ask("PUT", "manifests/docker", old, SCHEMA_1)
    with pytest.raises(BuildFailed, match="schema 1"):
        pulled(hub, "docker")


def test_two_pulls_at_once(hub: Hub, images: dict[str, str], store: Path) -> None:
    """Of one image, by two names: each says that it has it."""
    command = [
        sys.executable,
        "-c",
        "from tests.machine.test_pull import *; print(pulled(Hub(Path(sys.argv[1])), sys.argv[2])[0])",
    ]
    both = [
        subprocess.Popen([*command, str(hub.folder), tag], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for tag in ("v1", "mine")
    ]
    assert [each.communicate(timeout=120)[0].strip() for each in both] == [images["mine"]] * 2


def test_what_the_unit_cannot_do(hub: Hub, store: Path) -> None:
    """It is run with a probe in the place of the client."""
    probe = hub.folder / "probe.py"
    probe.write_text(PROBE)
    lines = probed(hub, {"ExecStartEx": [(PYTHON, [PYTHON, "-I", str(probe)], ["no-env-expand"])]})
    found = json.loads(lines[-1])
    assert found.pop("capabilities") == "0000000000000000"
    assert found.pop("own folder") == "written"
    assert {name: value for name, value in found.items() if value not in REFUSALS} == {}


class TestUnpacked:
    """The layers of a pulled image, each over those below, in overlays of the kernel."""

    @pytest.fixture
    def root(self, hub: Hub, images: dict[str, str], store: Path) -> Iterator[Path]:
        """All layers unpacked as root of a user namespace whose ids are 0 to 65535; the merged folder."""
        found, _ = pulled(hub, "v1")
        folder = Path("/srv/flyted-test-layers")
        folder.mkdir(exist_ok=True)
        must("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder))
        try:
            blobs = [str(store / words.SHA256 / layer.digest[7:]) for layer in record(found).layers]
            for name in ("root", *(f"{number}/{name}" for number in range(len(blobs)) for name in ("diff", "work"))):
                (folder / name).mkdir(parents=True)
                os.chown(folder / name, BASE, BASE)
            step = [sys.executable, "-c", STEP, str(folder), *blobs]
            done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            options = f"ro,lowerdir={folder}/1/diff:{folder}/0/diff,userxattr"
            must("mount", "-t", "overlay", "-o", options, "overlay", str(folder / "root"))
            yield folder / "root"
            must("umount", str(folder / "root"))
        finally:
            must("umount", str(folder))
            folder.rmdir()

    def test_what_is_there(self, root: Path) -> None:
        """What the second layer takes away is gone, what it adds is behind the first one's link."""
        assert sorted(path.name for path in (root / "data").iterdir()) == ["new"]
        assert sorted(path.name for path in (root / "etc").iterdir()) == ["keep"]
        assert (root / "usr/bin/tool").exists()
        ran = subprocess.run(["chroot", root, "/bin/sh", "/bin/tool"], check=True, capture_output=True, text=True)
        assert ran.stdout == "tool\n"
        assert (root / "hard").samefile(root / "usr/bin/tool")

    def test_a_hard_link_to_a_file_of_the_layer_below(self, root: Path) -> None:
        """Both names are in the upper layer then; the lower one has its file as before."""
        assert (root / "below").samefile(root / "etc/keep")
        assert (root / "below").read_text() == "keep"
        assert (root.parent / "0/diff/etc/keep").stat().st_nlink == 1

    def test_owners(self, root: Path) -> None:
        """Those of the image, shifted; one that cannot be is nobody's. Nothing is the machine's root's."""
        owners = {name: (root / name).stat().st_uid - BASE for name in ("etc/keep", "www", "www/page", "far")}
        assert owners == {"etc/keep": 0, "www": 33, "www/page": 33, "far": NOBODY}
        assert [path for path in root.rglob("*") if path.lstat().st_uid < BASE] == []

    def test_deletions_are_the_kernels(self, root: Path) -> None:
        assert stat.S_ISCHR((root.parent / "1/diff/etc/old").stat().st_mode)
        assert (root.parent / "0/diff/etc/old").read_text() == "old"


@pytest.mark.parametrize("name", ["layers", "registry"])
def test_the_package_has_both_programs(name: str) -> None:
    installed = {path.name for path in Path(f"/usr/lib/flyted/flyted/{name}").glob("*.py")}
    assert {path.name for path in (ROOT / "flyted" / name).glob("*.py")} <= installed
