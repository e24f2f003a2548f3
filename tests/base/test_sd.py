"""What systemd and a service tell each other, with real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flyted.base import sd

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("form", ["path", "abstract"])
def test_notify_reaches_the_manager(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One datagram goes to $NOTIFY_SOCKET, a path or an abstract name; who cannot be told makes it False."""
    name = str(tmp_path / "n") if form == "path" else f"@flyted-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        assert sd.notify("READY=1\nSTATUS=it is so")
        assert manager.recv(100) == b"READY=1\nSTATUS=it is so"
    assert not sd.notify("READY=1")


def test_outside_a_unit_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no failure."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert sd.notify("READY=1")


def test_what_systemd_passes_to_another_process_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are names that are more or fewer; the variables are gone all the same."""
    assert sd.listeners() is None
    for pid, count, names in (("1", "1", "a"), (str(os.getpid()), "2", "a"), (str(os.getpid()), "0", "")):
        monkeypatch.setenv("LISTEN_PID", pid)
        monkeypatch.setenv("LISTEN_FDS", count)
        monkeypatch.setenv("LISTEN_FDNAMES", names)
        assert sd.listeners() is None
        assert not [name for name in os.environ if name.startswith("LISTEN_")]


def test_it_imports_next_to_nothing() -> None:
    """The first start of an app waits for a process that imports it."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import flyted.base.sd; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not {"socket", "logging", "collections", "pathlib", "typing"} & set(done.stdout.split())
