"""Inherited sockets, and the identity of the other end: with real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure
from flyted.host.sockets import credential_peer, inherited, peer

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
     {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x", "LISTEN_FDNAMES": "a"}],
)  # fmt: skip
def test_what_is_not_ours_is_refused(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Meant for another process, or without a name for each."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HostFailure):
        inherited()


def test_two_of_one_name_cannot_be_told_apart(tmp_path: Path) -> None:
    """They are refused."""
    with listener(tmp_path / "a") as a, listener(tmp_path / "b") as b:
        done = subprocess.run(
            [sys.executable, "-I", "-c", CHILD, str(ROOT), f"{a.fileno()},{b.fileno()}", "2", "control:control"],
            pass_fds=(a.fileno(), b.fileno()), capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, "have no names of their own" in done.stderr) == (1, True)


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
