"""How a failure of the daemon, of the connection, of ours or of a pipe looks on the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flytectl import cli
from flyted.contract.version import VERSION
from tests.answers import app_status
from tests.flytectl.stub_daemon import error, event, result

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_a_daemon_that_is_down_is_said_with_what_to_type(tmp_path, monkeypatch, capsys) -> None:
    """No daemon: exit 7, why, and how to start it."""
    monkeypatch.setenv("FLYTED_SOCKET", str(tmp_path / "none.sock"))
    assert cli.main(["app", "ls"]) == 7
    assert "flyted does not answer" in (shown := capsys.readouterr().err)
    assert "hint: sudo systemctl start" in shown


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\5\xc1\xc1\xc1\xc1\xc1",
        b"\xff\xff\xff\xff",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\0\0\0\1\x80",
    ],
)
def test_nonsense_from_the_socket_is_an_error_of_one_line(answer: bytes, stub_daemon, capsys) -> None:
    """A hang-up, cut frames, other protocols: exit 7, never a traceback."""
    stub_daemon(answer)
    assert cli.main(["app", "ls"]) == 7
    shown = capsys.readouterr().err
    assert shown.startswith("flytectl: ")
    assert "Traceback" not in shown


def test_an_error_of_the_daemon_keeps_its_status_and_is_made_harmless(stub_daemon, capsys) -> None:
    """The daemon's message and hint are shown, escapes in them are not obeyed, and the class decides the status."""
    stub_daemon(error("not-found", "no app '\x1b[2J'", "flytectl app ls"))
    assert cli.main(["app", "get", "x"]) == 4
    assert capsys.readouterr().err == "flytectl: no app '\\x1b[2J'\n  hint: flytectl app ls\n"


def test_an_unknown_error_of_a_newer_daemon_stays_readable(stub_daemon, capsys) -> None:
    """A code that this version does not know exits 1 with the daemon's own words."""
    stub_daemon(error("quota", "too much", "less"))
    assert cli.main(["app", "ls"]) == 1
    assert capsys.readouterr().err == "flytectl: too much\n  hint: less\n"


def test_another_version_of_the_daemon_is_said(stub_daemon, capsys) -> None:
    """``version`` shows both and tells the mismatch; ``serve`` refuses before it imports the file."""
    stub_daemon(result(version="9.9", protocol=1))
    assert cli.main(["version"]) == 7
    shown = capsys.readouterr()
    assert shown.out == f"flytectl {VERSION}\nflyted   9.9\n"
    assert "hint: sudo systemctl restart flyted" in shown.err
    assert cli.main(["serve", __file__]) == 7
    assert "the daemon is flyted 9.9" in capsys.readouterr().err


def test_a_fault_of_ours_is_one_line(stub_daemon, capsys, monkeypatch) -> None:
    """An unexpected exception is named without a traceback; FLYTECTL_DEBUG=1 gives it."""

    def fault(*_words: Any, **_more: Any) -> None:
        raise KeyError("apps")

    stub_daemon(result(apps=[app_status()]))
    monkeypatch.setattr("flytectl.render.apps_table", fault)
    assert cli.main(["app", "ls"]) == 70
    shown = capsys.readouterr().err
    assert shown.startswith("flytectl: internal error (please report it): KeyError: 'apps'\n")
    assert "Traceback" not in shown
    monkeypatch.setenv("FLYTECTL_DEBUG", "1")
    with pytest.raises(KeyError):
        cli.main(["app", "ls"])


def test_an_answer_that_cannot_be_read_is_named(stub_daemon, capsys) -> None:
    """Another version's, which gives exit status 7: the field, and what to do."""
    stub_daemon(result(apps=[{"name": "a"}]))
    assert cli.main(["app", "ls"]) == 7
    shown = capsys.readouterr().err
    assert shown.startswith("flytectl: the daemon's answer cannot be read: AppStatus.project: it is missing\n")
    assert "hint: install flytectl and flyted of the same version" in shown


def test_a_closed_pipe_is_quiet() -> None:
    """``flytectl --help | true``: no traceback, the status of a closed pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [sys.executable, "-m", "flytectl", "--help"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(writer)
        assert process.communicate(timeout=30)[1] == b""
        assert process.returncode == cli.PIPE_CLOSED


def test_ctrl_c_ends_a_followed_log_quietly(stub_daemon) -> None:
    """A log line is shown as it comes, escaped; Ctrl-C then ends with 130 and no word."""
    asked = stub_daemon(event(kind="log", time=0, revision=1, source="app", text="hi\x1b[31m"), hold=True)
    with subprocess.Popen(
        [sys.executable, "-m", "flytectl", "logs", "x", "-f", "-n", "7"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b" hi\\x1b[31m\n")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == (b"", b"")
        assert process.returncode == cli.INTERRUPTED
    assert asked.requests[0]["args"] == {
        "project": "default", "domain": "development", "name": "x", "lines": 7, "follow": True,
    }  # fmt: skip


def test_ctrl_c_before_flyted_has_read_the_request(tmp_path) -> None:
    """One that hangs does nothing of it later, since nobody waits for it any more: that is said, and no more."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "flytectl", "app", "stop", "web"], cwd=ROOT, stderr=subprocess.PIPE,
            env={**os.environ, "FLYTED_SOCKET": path},
        )  # fmt: skip
        conn, _ = listener.accept()
        with conn:
            conn.recv(1, socket.MSG_PEEK)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=30)[1].decode()
    assert (process.returncode, said) == (130, "interrupted before flyted began: nothing was done\n")


def test_a_log_that_breaks_off_is_an_error(stub_daemon, capsys) -> None:
    """A daemon that dies while a log is followed is told; the lines before it were shown."""
    stub_daemon(event(kind="log", time=0, revision=1, source="systemd", text="Started."))
    assert cli.main(["logs", "x", "-f", "--json"]) == 7
    shown = capsys.readouterr()
    said = {
        "app": "x",
        "time": "1970-01-01T00:00:00.000000Z",
        "revision": 1,
        "replica": 0,
        "source": "systemd",
        "text": "Started.",
    }
    assert shown.out == json.dumps(said) + "\n"
    assert "closed the connection" in shown.err


def test_doctor_works_without_a_daemon(tmp_path, monkeypatch, capsys) -> None:
    """The user's side is checked and the daemon's silence is one of the findings; exit 1."""
    monkeypatch.setenv("FLYTED_SOCKET", str(tmp_path / "none.sock"))
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "FAIL  daemon" in shown
    assert "hint: sudo systemctl start" in shown
