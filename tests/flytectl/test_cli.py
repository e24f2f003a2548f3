"""The command line: which words are understood, and how every failure looks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flytectl import cli
from flyted.contract import wire
from flyted.contract.answers.models import ModelStatus
from flyted.contract.answers.tokens import TokenList, TokenStatus
from flyted.contract.version import VERSION
from tests.answers import app_status, whole
from tests.flytectl.border import error, event, result
from tests.flytectl.words import command
from tests.test_docs import understood

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SLOW = ("flyte", "msgpack", "fastapi", "json", "socket", "subprocess", "asyncio", "flytectl.render")


def run(*words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """A real process, as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "flytectl", *words], input=stdin, capture_output=True, cwd=ROOT, check=False,
        env={**os.environ, **(env or {})}, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["app", "--help"], ["secret", "create", "--help"], ["serve", "--help"]])
def test_help_imports_nothing_slow(words: list[str]) -> None:
    """``--help`` pays for click alone: no SDK, no msgpack, no JSON."""
    code = f"import sys; from flytectl.cli import main; main({words!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    bare = subprocess.run(
        [sys.executable, "-c", "import sys, click; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: flytectl")
    assert not (set(done.stderr.split()) - set(bare.stdout.split())) & set(SLOW)


@pytest.mark.parametrize("row", cli.COMMANDS)
def test_every_row_is_a_command_with_help(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row of the table leads to a command, whose help says what it does, on stdout, within 80 columns."""
    assert command(row).help
    assert cli.main([*row.split(" "), "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"Usage: flytectl {row}")
    assert shown.err == ""
    assert max(len(line) for line in shown.out.split("\n")) <= 80


@pytest.mark.parametrize("row", [*cli.COMMANDS, *(group for group in cli.GROUPS if group)])
def test_no_help_in_a_list_is_cut_off(row: str) -> None:
    """click ends a longer one in dots."""
    assert len(command(row).get_short_help_str(limit=1000)) <= 45


@pytest.mark.parametrize("row", [*(row for row in cli.EXAMPLES if row), "create secret"])
def test_examples_are_shown_and_can_be_typed(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of both word orders; each line is one that flytectl understands."""
    assert cli.main([*row.split(" "), "--help"]) == 0
    shown = capsys.readouterr().out.partition("Examples:\n")[2].split("\n")
    lines = [line.strip() for line in shown if line.strip()]
    assert lines
    for line in lines:
        understood(line[line.index("flytectl") :].partition("#")[0])


@pytest.mark.parametrize(
    ("flytes", "ours"),
    [
        ("create secret", "secret create"), ("get secret", "secret get"), ("delete secret", "secret delete"),
        ("get app", "app get"), ("delete app", "app delete"),
    ],
)  # fmt: skip
def test_both_word_orders_are_one_command(flytes: str, ours: str) -> None:
    """Flyte's ``create secret`` and our ``secret create`` cannot drift apart: they are the same object."""
    assert command(flytes) is command(ours)


def test_a_mistyped_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown word exits 2 and proposes one that exists."""
    assert cli.main(["secrets", "ls"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Did you mean 'secret'?\n  hint: flytectl --help" in shown.err


@pytest.mark.parametrize("words", [[], ["app"], ["create"]])
def test_unfinished_words_show_the_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that stops too early exits 2, with the help on stderr and nothing on stdout."""
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Usage: ")
    assert "Commands:" in shown.err


def test_version_option_needs_no_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` is the command's own."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"flytectl {VERSION}\n"


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
def test_nonsense_from_the_socket_is_an_error_of_one_line(answer: bytes, border, capsys) -> None:
    """A hang-up, cut frames, other protocols: exit 7, never a traceback."""
    border(answer)
    assert cli.main(["app", "ls"]) == 7
    shown = capsys.readouterr().err
    assert shown.startswith("flytectl: ")
    assert "Traceback" not in shown


def test_an_error_of_the_daemon_keeps_its_status_and_is_made_harmless(border, capsys) -> None:
    """The daemon's message and hint are shown, escapes in them are not obeyed, and the class decides the status."""
    border(error("not-found", "no app '\x1b[2J'", "flytectl app ls"))
    assert cli.main(["app", "get", "x"]) == 4
    assert capsys.readouterr().err == "flytectl: no app '\\x1b[2J'\n  hint: flytectl app ls\n"


def test_an_unknown_error_of_a_newer_daemon_stays_readable(border, capsys) -> None:
    """A code that this version does not know exits 1 with the daemon's own words."""
    border(error("quota", "too much", "less"))
    assert cli.main(["app", "ls"]) == 1
    assert capsys.readouterr().err == "flytectl: too much\n  hint: less\n"


def test_several_apps_are_each_tried(border, capsys) -> None:
    """A failure of one name is told and does not keep the others from being tried."""
    asked = border(error("not-found", "no such app"))
    assert cli.main(["app", "stop", "a", "b"]) == 4
    assert capsys.readouterr().err == "flytectl: no such app\n" * 2
    assert [r["args"]["name"] for r in asked.requests if r["verb"] == "app.stop"] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "done", "name"),
    [
        (["app", "stop"], app_status("a"), "apps"),
        (["model", "rm"], whole(ModelStatus, name="a"), "models"),
        (["token", "revoke"], TokenList((whole(TokenStatus, name="a"),)), "tokens"),
    ],
)
def test_what_was_done_before_a_failure_is_in_the_json(border, capsys, words, done, name) -> None:
    """And those after it are tried: whoever reads only the JSON knows what is gone."""

    def answer(request: dict[str, Any]) -> bytes:
        return (
            error("not-found", "no such thing") if "bad" in request["args"].values() else wire.encode({"result": done})
        )

    border(answer)
    assert cli.main([*words, "--json", "a", "bad", "a"]) == 4
    shown = capsys.readouterr()
    assert [one["name"] for one in json.loads(shown.out)[name]] == ["a", "a"]
    assert json.loads(shown.err)["error"] == "no such thing"


def test_what_was_done_to_apps_can_be_read_as_json(border, capsys) -> None:
    """Those to which it was done on standard output; errors too are JSON then, on standard error."""
    border(wire.encode({"result": app_status("a", state="stopped")}))
    assert cli.main(["app", "stop", "a", "b", "--json"]) == 0
    assert [app["state"] for app in json.loads(capsys.readouterr().out)["apps"]] == ["stopped"] * 2
    border(error("not-found", "no such app", "app ls"))
    for words in (["app", "delete", "--yes", "--json", "a"], ["app", "get", "a", "--json"]):
        assert cli.main(words) == 4
        shown = capsys.readouterr().err
        assert json.loads(shown) == {"error": "no such app", "hint": "app ls", "code": "not-found"}
    assert cli.main(["app", "ls", "--json", "--nonsense"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "usage"
    assert cli.main(["secret", "get", "a", "--", "--json"]) == 2
    assert capsys.readouterr().err.startswith("flytectl: ")


def test_another_version_of_the_daemon_is_said(border, capsys) -> None:
    """``version`` shows both and tells the mismatch; ``serve`` refuses before it imports the file."""
    border(result(version="9.9", protocol=1))
    assert cli.main(["version"]) == 7
    shown = capsys.readouterr()
    assert shown.out == f"flytectl {VERSION}\nflyted   9.9\n"
    assert "hint: sudo systemctl restart flyted" in shown.err
    assert cli.main(["serve", __file__]) == 7
    assert "the daemon is flyted 9.9" in capsys.readouterr().err


def test_a_fault_of_ours_is_one_line(border, capsys, monkeypatch) -> None:
    """An unexpected exception is named without a traceback; FLYTECTL_DEBUG=1 gives it."""

    def fault(*_words: Any, **_more: Any) -> None:
        raise KeyError("apps")

    border(result(apps=[app_status()]))
    monkeypatch.setattr("flytectl.render.apps_table", fault)
    assert cli.main(["app", "ls"]) == 70
    shown = capsys.readouterr().err
    assert shown.startswith("flytectl: internal error (please report it): KeyError: 'apps'\n")
    assert "Traceback" not in shown
    monkeypatch.setenv("FLYTECTL_DEBUG", "1")
    with pytest.raises(KeyError):
        cli.main(["app", "ls"])


def test_an_answer_that_cannot_be_read_is_named(border, capsys) -> None:
    """Another version's, which gives exit status 7: the field, and what to do."""
    border(result(apps=[{"name": "a"}]))
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


def test_ctrl_c_ends_a_followed_log_quietly(border) -> None:
    """A log line is shown as it comes, escaped; Ctrl-C then ends with 130 and no word."""
    asked = border(event(kind="log", time=0, revision=1, source="app", text="hi\x1b[31m"), hold=True)
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


def test_a_log_that_breaks_off_is_an_error(border, capsys) -> None:
    """A daemon that dies while a log is followed is told; the lines before it were shown."""
    border(event(kind="log", time=0, revision=1, source="systemd", text="Started."))
    assert cli.main(["logs", "x", "-f", "--json"]) == 7
    shown = capsys.readouterr()
    said = {"app": "x", "time": "1970-01-01T00:00:00.000000Z", "revision": 1, "source": "systemd", "text": "Started."}
    assert shown.out == json.dumps(said) + "\n"
    assert "closed the connection" in shown.err


def test_doctor_works_without_a_daemon(tmp_path, monkeypatch, capsys) -> None:
    """The user's side is checked and the daemon's silence is one of the findings; exit 1."""
    monkeypatch.setenv("FLYTED_SOCKET", str(tmp_path / "none.sock"))
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "FAIL  daemon" in shown
    assert "hint: sudo systemctl start" in shown


def test_ca_install_is_for_root(monkeypatch, capsys) -> None:
    """Anybody else is told the command to type, and nothing is asked of the daemon."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for word in ("install", "uninstall"):
        assert cli.main(["ca", word]) == 6
        assert f"hint: sudo flytectl ca {word}" in capsys.readouterr().err


TOKEN = "flyted_" + "A" * 43
"""Of a token's shape."""


def test_token_prints_a_token_and_nothing_else(border, capsys) -> None:
    """It is what Flyte's ExternalCommand reads: one line on stdout, silence on stderr."""
    asked = border(result(token=TOKEN, expires_at=2e9, user="bob"))
    assert cli.main(["token"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (TOKEN + "\n", "")
    assert [(r["verb"], r["args"]) for r in asked.requests] == [("token.mint", {})]


MADE = whole(TokenStatus, id="0a", kind="named", name="ci", user="bob", expires_at=2e9)


@pytest.mark.parametrize(
    ("period", "seconds"), [("90d", 7776000), ("12h", 43200), ("30m", 1800), ("45s", 45), ("2w", 1209600)]
)
def test_a_token_is_made_for_a_period(border, capsys, period: str, seconds: int) -> None:
    """And printed alone, so that a script can store it."""
    asked = border(result(token=TOKEN, status=MADE))
    assert cli.main(["token", "create", "--name", "ci", "--expires", period, "--app", "web"]) == 0
    assert capsys.readouterr().out == TOKEN + "\n"
    assert asked.requests[0]["args"] == {
        "name": "ci", "expires_s": seconds, "project": "default", "domain": "development", "app": "web",
    }  # fmt: skip


@pytest.mark.parametrize("period", ["", "90", "d", "0d", "-1d", "1.5h", "1y", "1d ", "\u0661d", "9999999999s"])
def test_other_periods_are_refused(border, capsys, period: str) -> None:
    """Before the daemon is asked; never for ever by accident."""
    asked = border(result())
    assert cli.main(["token", "create", "--name", "ci", f"--expires={period}"]) == 2
    assert "is not a period" in capsys.readouterr().err
    assert asked.requests == []


def test_tokens_are_listed_without_those_that_come_by_themselves(border, capsys) -> None:
    """``--all`` shows them; nothing shows a token."""
    session = replace(MADE, id="0b", kind="session", name="")
    border(result(tokens=[MADE, session]))
    assert cli.main(["token", "ls"]) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [["ci", "named", "*"]]
    assert cli.main(["token", "ls", "--all", "--json"]) == 0
    assert [t["id"] for t in json.loads(capsys.readouterr().out)["tokens"]] == ["0a", "0b"]


def test_revoke_wants_names_or_all(border, capsys) -> None:
    """Nothing is revoked by forgetting a word."""
    asked = border(result(tokens=[MADE]))
    assert cli.main(["token", "revoke"]) == 2
    assert cli.main(["token", "revoke", "ci", "--all"]) == 2
    assert asked.requests == []
    assert cli.main(["token", "revoke", "ci", "0b"]) == 0
    assert [r["args"] for r in asked.requests] == [{"token": "ci", "all": False}, {"token": "0b", "all": False}]
    assert cli.main(["token", "revoke", "--all"]) == 0
    assert asked.requests[-1]["args"] == {"token": "", "all": True}


def test_login_prints_a_link(border, capsys) -> None:
    """Alone on stdout: xdg-open takes it."""
    link = "https://flyted.localhost/login?code=x"
    border(result(code="x", url=link, expires_at=2e9))
    assert cli.main(["login"]) == 0
    assert capsys.readouterr().out == link + "\n"


def test_words_are_completed() -> None:
    """The shells' question is answered from the same table; a daemon that is down completes nothing, quietly."""
    ask = {"_FLYTECTL_COMPLETE": "bash_complete", "FLYTED_SOCKET": "/nonexistent/s"}
    done = run(env={**ask, "COMP_WORDS": "flytectl se", "COMP_CWORD": "1"})
    assert done.stdout.split() == [b"plain,serve", b"plain,secret"]
    done = run(env={**ask, "COMP_WORDS": "flytectl serve --idle s", "COMP_CWORD": "3"})
    assert done.stdout.split() == [b"plain,stop", b"plain,sleep", b"plain,sleep:2"]
    done = run(env={**ask, "COMP_WORDS": "flytectl app stop ", "COMP_CWORD": "3"})
    assert (done.stdout.strip(), done.stderr) == (b"", b"")


def test_bash_completes(tmp_path: Path) -> None:
    """The completion that the package installs works in a real bash: words, and file names where a file is due."""
    command = tmp_path / "flytectl"
    command.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m flytectl\n")
    command.chmod(0o755)
    script = f"""
        source {ROOT}/packaging/completions/flytectl.bash
        COMP_WORDS=(flytectl app st) COMP_CWORD=2
        _flytectl {command}
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("start stop\n", "")
    ask = {"_FLYTECTL_COMPLETE": "bash_complete", "COMP_WORDS": "flytectl serve a", "COMP_CWORD": "2"}
    assert run(env=ask).stdout == b"file,a\n"
