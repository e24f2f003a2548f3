"""Inherited sockets, the other end's identity, and the notification: with real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure
from flyted.host.sockets import credential_peer, inherited, notify, peer

ROOT = Path(__file__).parent.parent.parent
CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
for at, fd in enumerate(map(int, sys.argv[2].split(",")), 3):
    os.dup2(fd, at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[3], LISTEN_FDNAMES=sys.argv[4])
from flyted.host.sockets import inherited
found = inherited()
print({name: (s.getsockname(), os.get_inheritable(s.fileno()), s.getblocking()) for name, s in found.items()})
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def listener(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def test_sockets_come_by_their_names(tmp_path: Path) -> None:
    """In the order of LISTEN_FDNAMES, closed for children, non-blocking, and the variables are gone."""
    with listener(tmp_path / "a") as a, listener(tmp_path / "b") as b:
        done = subprocess.run(
            [sys.executable, "-I", "-c", CHILD, str(ROOT), f"{a.fileno()},{b.fileno()}", "2", "control:credentials"],
            pass_fds=(a.fileno(), b.fileno()), capture_output=True, text=True, check=True,
        )  # fmt: skip
    found = {"control": (f"{tmp_path}/a", False, False), "credentials": (f"{tmp_path}/b", False, False)}
    assert done.stdout == f"{found}\n[]\n"


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a"},
     {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"},
     {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:a"},
     {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x", "LISTEN_FDNAMES": "a"}],
)  # fmt: skip
def test_what_is_not_ours_is_refused(environ: dict[str, str]) -> None:
    """Meant for another process, or with names that cannot tell them apart."""
    with pytest.raises(HostFailure):
        inherited(environ)


def test_the_kernel_says_who_is_there() -> None:
    """Process, user and primary group of the other end."""
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        assert (peer(one).pid, peer(one).uid, peer(one).gid) == (os.getpid(), os.geteuid(), os.getegid())


def test_a_credential_address_is_read_strictly() -> None:
    """As systemd writes it (both forms were seen on 252 and 257), and in no other way."""
    assert credential_peer(b"\x00775dacc595009455/unit/app-demo@x.service/tok") == ("app-demo@x.service", "tok")
    assert credential_peer(b"\x00f/unit/flyted-app-a-r1-0.service/s0") == ("flyted-app-a-r1-0.service", "s0")
    for wrong in (
        b"", "", None, ("127.0.0.1", 1), b"/unit/a.service/s0", b"\0/unit/a.service/s0", b"\0g/unit/a.service/s0",
        b"\0f/unit/a.service/s0/x", b"\0f/unit/a.service/", b"\0f/unit//s0", b"\0f/unit/a.service/s0\n",
        b"\0f/unit/a.service/s0\0", b"\0f/user/a.service/s0", b"\0f/unit/a b.service/s0", b"\0f/unit/a\xff.service/s0",
        b"\0" + b"f" * 17 + b"/unit/a.service/s0", b"f/unit/a.service/s0", b"\0F/unit/a.service/s0",
    ):  # fmt: skip
        assert credential_peer(wrong) is None, wrong


@pytest.mark.parametrize("form", ["path", "abstract"])
def test_notify_reaches_the_manager(tmp_path: Path, form: str) -> None:
    """One datagram to $NOTIFY_SOCKET, a path or an abstract name; quiet when nobody is there."""
    name = str(tmp_path / "n") if form == "path" else f"@flyted-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        assert notify("READY=1", {"NOTIFY_SOCKET": name})
        assert manager.recv(100) == b"READY=1"
    assert not notify("READY=1", {"NOTIFY_SOCKET": name})
    assert not notify("READY=1", {})
