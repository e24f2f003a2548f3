"""What images of layers cost, beside the tools that others use: pulls, layers, wakes, room on the disk."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from flyted.plan.images.pull_unit import BLOBS
from flyted.plan.images.root import RootRecipe, Run, Stage
from tests.machine.kit import hub, layers
from tests.machine.kit.hub import HOST, PLATFORM, Hub
from tests.machine.kit.roots import bootstrap
from tests.machine.kit.units import must
from tests.machine.kit.users import alice, answer, forget_apps, forget_secrets, give
from tests.registry.server import LAYER

ROUNDS = 3
WAKES = 15
APPS = 10
MOST_LAYERS = 40
LISTED = 300
APT = "apt-get update && apt-get install -y --no-install-recommends git"
RECORDS = Path("/var/lib/flyted/roots")
WORK = Path("/var/lib/figure-roots")
SIZES = (40 << 20, 160 << 20, 400 << 20)
"""The bytes of the layers of the image that is pulled: as large as Python with some packages."""
TREE = "/usr/share"
"""What the layer that is unpacked holds: many small files."""
PIP = '.with_pip_packages("flyte", "fastapi", "uvicorn")'
VENV = f"flyte.Image.from_debian_base(python_version={sys.version_info[:2]}){PIP}"
BASE = f'flyte.Image.from_base("{HOST}/team/app:debian").clone(name="figure", extendable=True)'
"""Both have the Python of the machine's Debian."""
APP = """
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def look():
    return "here"

env = FastAPIAppEnvironment(name={name!r}, app=app, requires_auth=False, image={image})
"""
Promise = Callable[..., None]
ARCH = PLATFORM.partition("/")[2]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(*works: Callable[[], object]) -> list[float]:
    """The medians of some rounds of each, in seconds."""
    found = [[seconds(work) for work in works] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


# ── what others do, too ─────────────────────────────────────────────────────────────────────────────────────────────
def packed(tree: str) -> bytes:
    """An archive of a folder of this machine."""
    path = WORK / "tree.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(tree, arcname=tree.lstrip("/"))
    return path.read_bytes()


def pull(made: Hub, name: str = "large") -> None:
    """By the unit of flyted, to a store that has nothing of it."""
    must("rm", "-rf", BLOBS)
    hub.pulled(made, name)


def skopeo() -> None:
    """To a folder of its own, without unpacking, as a pull does."""
    shutil.rmtree(WORK / "oci", ignore_errors=True)
    must("skopeo", "copy", "--quiet", "--src-creds", "alice:s3cret", f"--src-cert-dir={WORK}/certs",
         f"docker://{HOST}/team/app:large", f"oci:{WORK}/oci:large")  # fmt: skip
    must("sync", "-f", f"{WORK}/oci")  # a pull leaves the disk written, too


def unpacked(blob: str) -> None:
    """A layer of a pulled image, by the unit of flyted."""
    done = layers.make(layers.name("figure"), [], layers.oci(blob))
    assert done.ok, done.text


def tar(blob: str) -> None:
    """The same archive by tar, to the disk."""
    target = WORK / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    must("tar", "-xzf", str(layers.BLOBS / blob), "-C", str(target))
    must("sync", "-f", str(target))


def pulls(promise: Promise, made: Hub) -> None:
    """An image of some layers, and the layer of another one unpacked."""
    made.image("large", [(os.urandom(size), LAYER) for size in SIZES], ARCH)
    (WORK / "certs").mkdir()
    shutil.copyfile(made.folder / "tls.crt", WORK / "certs/ca.crt")
    ours, theirs = in_turns(lambda: pull(made), skopeo)
    promise("a pull / skopeo copy", ours / theirs, 1.2, "x", f"{ours:.2f} s / {theirs:.2f} s, {sum(SIZES) >> 20} MB")
    made.image("tree", [(packed(TREE), LAYER)], ARCH)
    pull(made, "tree")
    largest = max(layers.BLOBS.iterdir(), key=lambda path: path.stat().st_size).name
    ours, theirs = in_turns(lambda: unpacked(largest), lambda: tar(largest))
    promise("a layer unpacked / tar -xz", ours / theirs, 1.3, "x", f"{ours:.2f} s / {theirs:.2f} s")
    layers.remove(layers.name("figure"))
    must("rm", "-rf", BLOBS)


def plain_apt() -> None:
    """The packages in a plain chroot."""
    root = WORK / "chroot"
    must("unshare", "--mount", "sh", "-c", f"mount --bind /dev {root}/dev; mount -t proc proc {root}/proc; "
         f"exec chroot {root} sh -c '{APT} >/dev/null 2>&1'")  # fmt: skip
    must("chroot", str(root), "sh", "-c", "{ apt-get purge -y --autoremove git; apt-get clean; } >/dev/null 2>&1; "
         "rm -rf /var/lib/apt/lists/*")  # fmt: skip


def apt(promise: Promise) -> None:
    """A layer with git, and git in a chroot: both fetch it, and leave the disk written."""
    root = WORK / "chroot"
    bootstrap(root, layers.DEBIAN.packages)
    for name in ("etc/resolv.conf", "etc/apt/apt.conf.d/99mmdebstrap"):
        if Path("/", name).exists():
            shutil.copyfile(Path("/", name), root / name)
    layers.base()
    numbers = iter(range(ROUNDS))

    def layer() -> None:
        recipe = RootRecipe((Stage(layers.DEBIAN, (Run("", f": {next(numbers)}; {APT}", "git"),)),))
        layers.made_by(layers.planned(recipe).jobs[-1])

    ours, theirs = in_turns(layer, plain_apt)
    promise("an apt layer / apt-get in a chroot", ours / theirs, 1.3, "x", f"{ours:.1f} s / {theirs:.1f} s")


# ── apps ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def served(name: str, image: str) -> float:
    """An app of alice's, in seconds from the command to its end."""
    file = give(f"roots/{name.replace('-', '_')}.py", APP.format(name=name, image=image))
    return seconds(lambda: alice("flytectl", "serve", "-q", file))


def wake(name: str, tls: ssl.SSLContext) -> float:
    """From asleep to the first answer through the ingress, in seconds."""
    alice("flytectl", "app", "sleep", name)
    connection = http.client.HTTPSConnection(f"{name}.apps.localhost", context=tls)

    def ask() -> None:
        connection.request("GET", "/")
        assert connection.getresponse().status == 200

    return seconds(ask)


def used() -> int:
    """The bytes of the disk that layers, images and apps take."""
    folders = ("/var/lib/flyted", "/var/lib/private", "/var/cache/private")
    while True:
        found = subprocess.run(["du", "-sxcB1", *folders], check=False, capture_output=True, text=True)
        if found.returncode == 0:
            return int(found.stdout.splitlines()[-1].split()[0])
        assert "No such file" in found.stderr, found.stderr  # flyted has removed what du was reading
        time.sleep(1)


def wakes(promise: Promise) -> None:
    """The same app on the same packages: in the machine's root, in one of its own, and in one of many layers."""
    lines = [f"echo {number} > /opt/{number}" for number in range(MOST_LAYERS - 2)]
    served("figure-venv", VENV)
    served("figure-many", f"{BASE}{PIP}.with_commands({lines})")
    tls = ssl.create_default_context(cadata=answer("ca", "show")["pem"])
    names = ("figure-venv", "figure-root-0", "figure-many")
    found = [[wake(name, tls) for name in names] for _ in range(WAKES)]
    venv, root, many = (statistics.median(column) * 1e3 for column in zip(*found, strict=True))
    digest = answer("app", "get", "figure-many")["image"]["hash"]
    layered = len(json.loads((RECORDS / f"{digest}.json").read_text())["layers"])
    promise("a wake in a root / without one", root / venv, 1.05, "x", f"{root:.0f} ms / {venv:.0f} ms")
    promise(f"a wake with {layered} layers / with few", many / root, 1.1, "x", f"{many:.0f} ms / {root:.0f} ms")


def apps(promise: Promise, made: Hub) -> None:
    """Apps that share the layers of their image."""
    archive = WORK / "debian.tar"
    bootstrap(archive, layers.DEBIAN.packages)
    made.image("debian", [(archive.read_bytes(), LAYER)], ARCH)
    archive.unlink()
    alice("flytectl", "secret", "create", "hub-login", "-", "--replace", typed=hub.login())
    image = BASE + PIP
    empty = used()
    served("figure-root-0", image)
    one = used() - empty
    more = [served(f"figure-root-{number}", image) for number in range(1, APPS)]
    promise("the next app on the same layers", statistics.median(more), 2.5, "s")
    promise(f"room of {APPS} apps / of one", (used() - empty) / one, 1.1, "x", f"one takes {one >> 20} MB")
    wakes(promise)


def listing(promise: Promise) -> None:
    """Many images, which are records that share the layers of one."""
    record = RECORDS / f"{answer('app', 'get', 'figure-root-0')['image']['hash']}.json"
    copies = [RECORDS / f"{number:032x}.json" for number in range(LISTED)]
    for path in copies:
        path.write_text(record.read_text().replace(record.stem, path.stem))
    alice("flytectl", "image", "ls")
    shown = len(answer("image", "ls")["images"])
    assert shown >= LISTED, shown
    took = statistics.median(seconds(lambda: alice("flytectl", "image", "ls")) for _ in range(7))
    promise(f"flytectl image ls, {shown} images", took * 1e3, 200, "ms")
    for path in copies:
        path.unlink(missing_ok=True)


def roots(promise: Promise) -> None:
    """All figures of images that are layers."""
    must("apt-get", "install", "-y", "-qq", "--no-install-recommends", "skopeo")
    WORK.mkdir(exist_ok=True)
    with hub.serving() as made, hub.trusted(made):
        pulls(promise, made)
        apps(promise, made)
        listing(promise)
        forget_apps("figure-")
    apt(promise)
    forget_secrets("hub-login")
    shutil.rmtree(WORK)
