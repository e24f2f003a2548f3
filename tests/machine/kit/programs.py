"""Apps that are programs with a port of their own: files of alice's, and what they do when asked."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.machine.kit import users
from tests.machine.kit.users import answer, curl, give

PROGRAM = Path(__file__).parents[2] / "apps" / "port_server.py"
SOURCE = """
import datetime
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name={name!r}, {how}={words!r}, port={port}, requires_auth=False, include=["port_server.py", *{include!r}],
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("waitress"),
    scaling=flyte.app.Scaling(replicas=(0, 1), scaledown_after=datetime.timedelta(seconds=300)),
    resources=flyte.Resources({resources}), secrets={secrets}, {more}
)
"""


def write(
    name: str,
    words: list[str],
    *,
    how: str = "args",
    port: int = 8080,
    secrets: str = "[]",
    include: tuple[str, ...] = (),
    resources: str = 'cpu=2, memory="256Mi"',
    more: str = "",
) -> str:
    """The app's file in alice's home, and beside it the program."""
    target = Path("/home/alice/port_server.py")
    shutil.copyfile(PROGRAM, target)
    shutil.chown(target, "alice", "alice")
    text = SOURCE.format(
        name=name,
        how=how,
        words=words,
        port=port,
        secrets=secrets,
        include=list(include),
        resources=resources,
        more=more,
    )
    return give(f"{name.replace('-', '_')}.py", text)


def port_server(*options: str) -> list[str]:
    """The words that run the program."""
    return ["python", "port_server.py", *options]


def serve(name: str, words: list[str], *flags: str, **how: object) -> str:
    """Serves it; its URL."""
    return users.serve(write(name, words, **how), *flags)  # type: ignore[arg-type]


def unit(name: str) -> str:
    """The service of the app's newest revision."""
    return f"flyted-app-{name}-r{answer('app', 'get', name)['revision']}-0.service"


def sleeps(name: str) -> bool:
    """Whether the app's newest revision does not run, as systemd says."""
    done = subprocess.run(["systemctl", "is-active", unit(name)], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "inactive"


def processes(service: str) -> dict[int, str]:
    """The processes of a unit that are there: PID → command line as all users can read it."""
    group = subprocess.run(
        ["systemctl", "show", "--value", "--property=ControlGroup", service],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[int, str] = {}
    if group.stdout.strip():  # else the unit does not run
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            for pid in Path(f"/sys/fs/cgroup{group.stdout.strip()}/cgroup.procs").read_text().split():
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return found


def do(url: str, source: str) -> str:
    """What ``result`` is after ``source`` ran inside the app; ``repr`` of it, or of what was raised."""
    status, body = curl(f"{url}/do", "-X", "POST", "--data-binary", source)
    assert status == 200, body
    return body


def reach(url: str, host: str, port: int) -> str:
    """What becomes of a TCP connection that the app makes."""
    source = f"import socket\nwith socket.create_connection(({host!r}, {port}), 4) as c: result = 'connected'"
    return do(url, source)


@contextlib.contextmanager
def listening(address: str, port: int = 0) -> Iterator[int]:
    """A TCP port of the machine's that takes every connection and ends it; its number."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=1024) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _enter(namespace: int) -> None:
    """setns(2), which Python has from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(pid: int) -> Iterator[None]:
    """This thread in the network namespace of a process."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    _enter(other)
    try:
        yield
    finally:
        _enter(own)
        os.close(own)
        os.close(other)
