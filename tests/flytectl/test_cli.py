"""The command line: which words are understood, shown in help, and completed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flytectl import cli
from flyted.contract import wire
from flyted.contract.answers.models import ModelStatus
from flyted.contract.answers.tokens import TokenList, TokenStatus
from flyted.contract.version import VERSION
from tests.answers import app_status, whole
from tests.flytectl.stub_daemon import error
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


def test_several_apps_are_each_tried(stub_daemon, capsys) -> None:
    """A failure of one name is told and does not keep the others from being tried."""
    asked = stub_daemon(error("not-found", "no such app"))
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
def test_what_was_done_before_a_failure_is_in_the_json(stub_daemon, capsys, words, done, name) -> None:
    """And those after it are tried: whoever reads only the JSON knows what is gone."""

    def answer(request: dict[str, Any]) -> bytes:
        return (
            error("not-found", "no such thing") if "bad" in request["args"].values() else wire.encode({"result": done})
        )

    stub_daemon(answer)
    assert cli.main([*words, "--json", "a", "bad", "a"]) == 4
    shown = capsys.readouterr()
    assert [one["name"] for one in json.loads(shown.out)[name]] == ["a", "a"]
    assert json.loads(shown.err)["error"] == "no such thing"


def test_what_was_done_to_apps_can_be_read_as_json(stub_daemon, capsys) -> None:
    """Those to which it was done on standard output; errors too are JSON then, on standard error."""
    stub_daemon(wire.encode({"result": app_status("a", state="stopped")}))
    assert cli.main(["app", "stop", "a", "b", "--json"]) == 0
    assert [app["state"] for app in json.loads(capsys.readouterr().out)["apps"]] == ["stopped"] * 2
    stub_daemon(error("not-found", "no such app", "app ls"))
    for words in (["app", "delete", "--yes", "--json", "a"], ["app", "get", "a", "--json"]):
        assert cli.main(words) == 4
        shown = capsys.readouterr().err
        assert json.loads(shown) == {"error": "no such app", "hint": "app ls", "code": "not-found"}
    assert cli.main(["app", "ls", "--json", "--nonsense"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "usage"
    assert cli.main(["secret", "get", "a", "--", "--json"]) == 2
    assert capsys.readouterr().err.startswith("flytectl: ")


def test_ca_install_is_for_root(monkeypatch, capsys) -> None:
    """Anybody else is told the command to type, and nothing is asked of the daemon."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for word in ("install", "uninstall"):
        assert cli.main(["ca", word]) == 6
        assert f"hint: sudo flytectl ca {word}" in capsys.readouterr().err


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
