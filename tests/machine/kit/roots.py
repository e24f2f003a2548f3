"""Images with a root of their own, made by the tests as a build leaves them: layers, and what their config says."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from flyted.contract.app import AppSpec
from flyted.contract.names import Replica
from flyted.host.store import Store
from flyted.launch import words
from flyted.layers.words import BASE
from flyted.plan.facts import ImageFact, RootFact
from flyted.plan.images import layer_unit, root_mount
from flyted.plan.layout import Layout
from tests import values
from tests.launch.harness import bundle
from tests.machine.kit.packages import install
from tests.machine.kit.units import must, sh, show
from tests.machine.kit.users import until

MEMORY = 512 << 20
LAYERS = Path(layer_unit.LAYERS)
PYTHON = "/opt/rooted/bin/python"
PACKAGES = ("python3-minimal", "python3", "nginx-light", "nodejs", "ca-certificates")
SITE = "flyte", "fastapi", "uvicorn", "httpx"
DATABASE = Path("/var/lib/flyted/flyted.db")
NODE = """
const http = require('http')
http.createServer((_asked, answer) => answer.end('from node')).listen(8080, '127.0.0.1')
"""
NGINX = """
daemon off; pid /run/nginx.pid; error_log stderr;
events {}
http { access_log off; server { listen 80; location / { return 200 'from nginx'; } } }
"""

PROBE = """
import os, socket, subprocess, sys, time
from pathlib import Path
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

def tried(what):
    try:
        return str(what())[:2000] or "done"
    except Exception as error:
        return type(error).__name__ + ": " + str(error)[:100]

@app.get("/")
def look():
    write = lambda path: tried(lambda: Path(path, "x").write_text("x"))
    return {
        "python": sys.executable, "cwd": os.getcwd(), "module": __file__, "path": os.environ["PATH"],
        "writes": {path: write(path) for path in (
            "/", "/etc", "/usr", "/opt", "/srv", "/root", "/home", "/usr/lib/flyted/host", "/usr/lib/flyted", "/dev",
            "/var/lib/flyted", "/sys", "/proc/sys/kernel", "/run/systemd", "/run/flyted/image", "/media")},
        "own": {path: write(path) for path in (os.environ["HOME"], "/tmp", "/dev/shm", "/run", "/data")},
        "reads": {path: tried(lambda: sorted(os.listdir(path))) for path in (
            "/home", "/root", "/run", "/run/systemd", "/var/lib/flyted", "/run/flyted", "/etc/flyted", "/checkout",
            "/boot", "/var/lib/private")},
        "database": tried(lambda: Path("/var/lib/flyted/flyted.db").read_bytes()),
        "control": tried(lambda: socket.socket(socket.AF_UNIX).connect("/run/flyted/control.sock")),
        "owners": sorted({os.stat(path).st_uid for path in ("/", "/etc", "/usr", "/srv")}),
        "status": [line for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd", "NoNewPrivs"))],
        "pids": sorted({os.stat(each).st_uid for each in Path("/proc").glob("[0-9]*")}) == [os.getuid()],
        "localhost": tried(lambda: socket.getaddrinfo("localhost", 80)[0][4][0]),
        "resolved": Path("/etc/resolv.conf").read_text() != "",
        "data": tried(lambda: Path("/data/seed").read_text()),
        "setuid": tried(lambda: subprocess.run(["su", "-c", "id"], capture_output=True, timeout=5).returncode),
    }

env = FastAPIAppEnvironment(name="rooted", app=app, image="auto", requires_auth=False)
"""


def layer(number: int) -> tuple[str, Path]:
    """The id of a layer, and the folder of its files, new and empty."""
    name = f"{number:032x}"
    folder = LAYERS / name / "diff"
    shutil.rmtree(LAYERS / name, ignore_errors=True)
    folder.mkdir(parents=True)
    return name, folder


def owned(folder: Path) -> None:
    """Give all files of a layer to the users that the image's users are on the machine."""
    for where, folders, files in os.walk(folder):
        for path in (where, *(f"{where}/{name}" for name in (*folders, *files))):
            if (found := os.lstat(path)).st_uid < BASE:
                os.lchown(path, found.st_uid + BASE, found.st_gid + BASE)


def gone(path: Path) -> bool:
    """Whether a folder is removed, by this or by flyted, which may be removing the same layer now."""
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


@contextlib.contextmanager
def layers_folder() -> Iterator[None]:
    """The folder of layers, on a file system that an overlay can lie on; afterwards as it was.

    A layer that stays without a record would be swept at each deploy of another test, in vain where it is root's.
    """
    mounted_before = LAYERS.is_mount()
    LAYERS.mkdir(exist_ok=True)
    if not mounted_before:
        must("mount", "-t", "tmpfs", "-o", f"mode=0750,uid={BASE},gid=0", "tmpfs", str(LAYERS))
    before = set(LAYERS.iterdir())
    try:
        yield
    finally:
        for path in set(LAYERS.iterdir()) - before:
            until(lambda path=path: gone(path))  # type: ignore[misc]
        if not mounted_before:
            must("umount", "-l", str(LAYERS))


def debian(number: int, *packages: str) -> str:
    """A layer with Debian, of the machine's release: Python, nginx and Node.js, or what is named."""
    name, folder = layer(number)
    bootstrap(folder, packages or PACKAGES)
    folder.chmod(0o755)
    owned(folder)
    return name


def bootstrap(target: Path, packages: Sequence[str]) -> None:
    """Install Debian, of the machine's release: into a folder, or a new archive, by the name of ``target``."""
    install("mmdebstrap")
    suite = sh("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME")
    settings = Path("/etc/apt/apt.conf.d/99mmdebstrap")
    more = [f"--aptopt={settings}"] if settings.exists() else []
    # in a mount namespace of its own: it makes the mounts of the one that it runs in private
    must(
        "unshare", "--mount", "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", *more,
        f"--include={','.join(packages)}", "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=force-unsafe-io", suite, str(target),
        sh("sh", "-c", "ls /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null").split("\n")[0],
    )  # fmt: skip


def site(number: int) -> str:
    """A layer with an environment of Python's packages, which the machine makes at the same path."""
    name, folder = layer(number)
    here = Path(PYTHON).parents[1]
    uv = "/usr/lib/flyted/bin/uv"
    if not here.exists():
        must(uv, "venv", "--quiet", "--python", "/usr/bin/python3", str(here))
        must(uv, "--system-certs", "pip", "install", "--quiet", "--python", PYTHON, *SITE)
    shutil.copytree(here, folder / str(here).lstrip("/"), symlinks=True)
    owned(folder)
    return name


def files(number: int, **content: str) -> str:
    """A layer with files in /srv, each readable for all."""
    name, folder = layer(number)
    (folder / "srv").mkdir()
    for each, text in content.items():
        (folder / "srv" / each.replace("_", ".")).write_text(text)
    owned(folder)
    return name


def data(number: int) -> str:
    """A layer with a volume that has a file of root's in it, and one that replaces a file below it."""
    name, folder = layer(number)
    (folder / "data").mkdir()
    (folder / "data/seed").write_text("from the image")
    owned(folder)
    return name


def busybox(number: int) -> str:
    """A layer with a static program and nothing else: no C library, no Python, no shell's links but its own."""
    name, folder = layer(number)
    (folder / "bin").mkdir()
    shutil.copy("/bin/busybox", folder / "bin")
    for each in ("sh", "httpd", "cat", "id", "env"):
        (folder / "bin" / each).symlink_to("busybox")
    owned(folder)
    return name


def image(layers: Sequence[str], env: tuple[tuple[str, str], ...] = (), **config: object) -> ImageFact:
    """The image of these layers, lowest first, which ships files at /data only where that is a volume of it."""
    data = "/data" not in config.get("volumes", ())  # type: ignore[operator]
    return ImageFact(path="", env=env, root=RootFact(tuple(layers), data=data, **config))  # type: ignore[arg-type]


def bundled(name: str, text: str) -> str:
    """A bundle of one file where flyted keeps them; its digest."""
    path = bundle(Path("/tmp"), {name: text})
    target = Path("/var/lib/flyted/bundles") / path.name
    shutil.move(path, target)
    target.chmod(0o644)
    return path.name.partition(".")[0]


@contextlib.contextmanager
def stopped() -> Iterator[Store]:
    """What flyted keeps of apps, open while it is stopped."""
    must("systemctl", "stop", "flyted.socket", "flyted-credentials.socket", "flyted-api.socket", "flyted.service")
    store = Store(DATABASE)
    try:
        yield store
    finally:
        store.close()
        must("systemctl", "start", "flyted.socket", "flyted-credentials.socket", "flyted-api.socket", "flyted.service")


def deployed(*apps: tuple[AppSpec, ImageFact]) -> list[Replica]:
    """Apps that serve, as if they had been deployed; flyted was restarted for it."""
    found = []
    with stopped() as store:
        for made, fact in apps:
            number = store.add_revision(made, fact, f"{made.digest()}{time.time()}", time.time(), "root")
            store.serve(made.key.id, number, time.time())
            found.append(Replica(made.key.id, number))
    for replica in found:
        until(lambda replica=replica: sh("systemctl", "is-active", replica.socket) == "active")  # type: ignore[misc]
    return found


VARIES = (
    "ExecMain", "ExecStart", "MainPID", "ControlGroupId", "InvocationID", "MemoryCurrent", "MemoryPeak",
    "MemorySwapCurrent", "MemorySwapPeak", "MemoryZSwapCurrent", "MemoryAvailable", "CPUUsage", "IORead", "IOWrite",
    "IPIngress", "IPEgress", "TasksCurrent", "NRestarts", "UID", "GID", "ActiveEnter", "ActiveExit", "InactiveEnter",
    "InactiveExit", "StateChange", "ConditionTimestamp", "AssertTimestamp", "WatchdogTimestamp", "StatusText",
    "Effective", "FileDescriptorStore",
)  # fmt: skip
"""Properties of a service that differ from one start to the next; of its program see :func:`program`."""


def program(replica: Replica) -> str:
    """The words that PID 1 starts a service with."""
    said = sh("systemctl", "show", "-P", "ExecStart", replica.service)
    return said.partition("argv[]=")[2].partition(" ;")[0].replace(replica.app_id, "APP")


def in_root(plain: Replica, rooted: Replica, *volumes: str, binds: Sequence[str] = ()) -> dict[str, str]:
    """What a service of an app in the root of its image has to have, of one without a root: each property's value.

    ``volumes``: those of the image. ``binds``: what it sees of the machine beside what all do.
    """
    found = {
        name: set(value.replace(plain.app_id, rooted.app_id).split())
        for name, value in show(plain.service, *VARIES).items()
    }
    root, mount = root_mount.path(rooted), root_mount.unit(rooted)
    launch = Layout().launch
    sees = {f"/usr:{words.HOST}", f"{launch}:{launch}", "-/etc/hosts:/etc/hosts", *binds}
    sees |= {f"{root}{home}:{home}" for home in ("/root", "/home")}
    sees |= {f"{root}:{words.IMAGE}"} if volumes else set()
    if not any(each.endswith(":/etc/resolv.conf") for each in found["BindReadOnlyPaths"]):
        sees.add("-/etc/resolv.conf:/etc/resolv.conf")
    memory = f"mode=1777,size={MEMORY}"
    found["BindReadOnlyPaths"] |= sees
    if "/data" in volumes:  # the image has files there, which stay in sight (plan/data_folder.py)
        del found["BindPaths"]
    found["TemporaryFileSystem"] -= {"/run:ro,mode=755,size=1m"}
    # there the cache is a folder of that name, and no link (plan/rooted.py)
    found["TemporaryFileSystem"] = {
        each.replace("/var/cache/private/", "/var/cache/") for each in found["TemporaryFileSystem"]
    }
    found["TemporaryFileSystem"] |= {f"{path}:{memory}" for path in ("/run", *volumes)}
    found |= {"RootDirectory": {root}, "MountAPIVFS": {"yes"}, "ProtectHome": {"tmpfs"}}
    found["Requires"] |= {mount}
    found["After"] |= {mount}
    # what systemd adds by itself, by its version: the journal's sockets, and what lies below the root's path
    if "WantsMountsFor" in found:
        found |= {"BindLogSockets": {"yes"}, "WantsMountsFor": found["WantsMountsFor"] | {root}}
        found["Wants"] |= {mount}
    else:
        found["RequiresMountsFor"] |= {root}
    return {name: " ".join(sorted(each)) for name, each in found.items()}


def spec(name: str, *command: str, **changes: object) -> AppSpec:
    """An app of such an image."""
    return values.spec(name, command=command, memory_bytes=MEMORY, **changes)


def mounted(replica: Replica) -> bool:
    """Whether its root is mounted, as PID 1 sees it."""
    return sh("systemctl", "is-active", root_mount.unit(replica)) == "active"
