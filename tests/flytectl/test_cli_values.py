"""Where a secret's value comes from, and that no message ever holds one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flytectl import cli, values
from flyted.contract import wire
from tests.flytectl.stub_daemon import error

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CANARY = "pineapple-7f3a"


def create(*words: str, stdin: bytes = b"", socket: str = "/nonexistent/s") -> subprocess.CompletedProcess[bytes]:
    """``flytectl secret create K …`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "flytectl", "secret", "create", "K", *words],
        input=stdin, capture_output=True, cwd=ROOT, check=False, timeout=30,
        env={**os.environ, "FLYTED_SOCKET": socket},
    )  # fmt: skip


def test_the_limit_is_the_wires() -> None:
    """What is refused before sending is what the daemon would refuse."""
    assert values.LIMIT == wire.BULK_LIMIT


@pytest.mark.parametrize(
    ("words", "typed", "sent"),
    [
        (["value"], b"", b"value"),
        (["--", "-value"], b"", b"-value"),
        (["a b\n"], b"", b"a b\n"),
        (["-"], b"v\n", b"v"),
        (["-"], b"v\r\n", b"v"),
        (["-"], b"v\n\n", b"v\n"),
        (["-"], b"\x00\xff\n", b"\x00\xff"),
        (["-", "--keep-newline"], b"v\n", b"v\n"),
        (["-"], b"x" * values.LIMIT + b"\n", b"x" * values.LIMIT),
    ],
)
def test_what_is_sent_is_what_was_given(words: list[str], typed: bytes, sent: bytes, stub_daemon, capsys) -> None:
    """An argument as it is, standard input without one newline at its end; bytes stay bytes."""
    taken = stub_daemon(error("already-exists", "there is one already"))
    done = create(*words, stdin=typed, socket=os.environ["FLYTED_SOCKET"])
    assert done.returncode == 5
    assert taken.bulk == sent
    assert taken.requests[0]["args"] == {
        "project": "", "domain": "", "key": "K", "replace": False, "roll": False, "bulk": len(sent),
    }  # fmt: skip


def test_a_file_is_taken_byte_for_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is stripped from a file; a newline that is probably a mistake is said."""
    (file := tmp_path / "f").write_bytes(b"one\n")
    assert values.read_value(None, str(file), keep_newline=False) == b"one\n"
    assert "ends with a newline" in capsys.readouterr().err
    file.write_bytes(blob := bytes(range(256)))
    assert values.read_value(None, str(file), keep_newline=False) == blob
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 2), (b"x" * (values.LIMIT + 1), 2), (None, 4)], ids=["empty", "too long", "missing"]
)
def test_a_wrong_file_is_refused_before_anything_is_sent(content: bytes | None, status: int, tmp_path: Path) -> None:
    """Empty, too long and missing files have each their own message; the daemon is not asked."""
    file = tmp_path / "f"
    if content is not None:
        file.write_bytes(content)
    done = create("--from-file", str(file))
    assert done.returncode == status
    assert b"does not answer" not in done.stderr
    assert (done.stdout, done.stderr.count(b"flytectl: ")) == (b"", 1)


def test_a_folder_is_no_value(tmp_path: Path) -> None:
    """``--from-file FOLDER`` says so."""
    assert b"Is a directory" in create("--from-file", str(tmp_path)).stderr


@pytest.mark.parametrize("typed", [b"", b"\n", b"x" * (values.LIMIT + 5)], ids=["nothing", "newline", "too long"])
def test_standard_input_is_bounded(typed: bytes) -> None:
    """Nothing, only a newline, or more than 512 KiB is refused before anything is sent."""
    done = create("-", stdin=typed)
    assert done.returncode == 2
    assert b"does not answer" not in done.stderr


def test_without_a_terminal_nothing_is_asked() -> None:
    """No value and no terminal: an error that names the three ways, at once."""
    done = create(stdin=b"ignored\n")
    assert done.returncode == 2
    assert b"--from-file FILE" in done.stderr


def test_a_value_on_the_command_line_gets_a_hint_about_history() -> None:
    """The hint goes to stderr and does not repeat the value."""
    shown = create(CANARY).stderr.decode()
    assert "history" in shown
    assert CANARY not in shown


@pytest.mark.parametrize(
    "words",
    [
        [CANARY, CANARY], [f"-{CANARY}"], [f"--{CANARY}"], [CANARY, "--from-file", "/etc/hostname"],
        [CANARY, "--roll"], [CANARY, "--unknown"], ["--replace", "--", CANARY, "x"], [CANARY, "-p", "p"], [CANARY],
        [f"--replace={CANARY}"],
    ],
)  # fmt: skip
def test_no_error_repeats_a_value(words: list[str], monkeypatch, capsys) -> None:
    """Whatever is wrong with the command line, no part of a value comes back, on either stream."""
    monkeypatch.setenv("FLYTED_SOCKET", "/nonexistent/s")
    assert cli.main(["secret", "create", "K", *words]) != 0
    shown = capsys.readouterr()
    assert "pineapple" not in shown.out + shown.err
    assert "7f3a" not in shown.out + shown.err


def at_a_terminal(*typed: bytes) -> tuple[int, bytes]:
    """Types lines at ``secret create K`` on a real terminal, each after its question; status and what was seen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(
            sys.executable, [sys.executable, "-m", "flytectl", "secret", "create", "K"],
            {**os.environ, "FLYTED_SOCKET": "/nonexistent/s"},
        )  # fmt: skip
    seen, questions = b"", 0
    deadline = time.monotonic() + 20
    try:
        for line in typed:
            while seen.count(b": ") <= questions and time.monotonic() < deadline:
                seen += os.read(terminal, 4096)
            questions = seen.count(b": ")
            os.write(terminal, line)
        while time.monotonic() < deadline:
            seen += os.read(terminal, 4096)
    except OSError:  # EIO: the other side is closed
        pass
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen


def test_a_typed_value_is_asked_twice_and_never_shown() -> None:
    """On a terminal the value is asked for with confirmation, without echo; then the daemon is called."""
    status, seen = at_a_terminal(b"pineapple\n", b"pineapple\n")
    assert status == 7  # the value was taken: it is the daemon that is missing here
    assert b"Value" in seen
    assert b"Repeat value" in seen
    assert b"pineapple" not in seen


def test_ctrl_c_at_the_question_is_quiet() -> None:
    """Ctrl-C instead of a value: 130, no traceback."""
    status, seen = at_a_terminal(b"\x03")
    assert status == 130
    assert b"Traceback" not in seen
