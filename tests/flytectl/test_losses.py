"""Deleting asks first: what is shown, and what happens where nobody can be asked."""

from __future__ import annotations

import os
import pty
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flytectl import cli, losses, render
from flyted.contract.answers.apps import AppFolder, Kept
from flyted.contract.answers.secrets import SecretStatus
from tests.answers import whole

DATA = AppFolder("/var/lib/private/flyted-app-notes", bytes=12_000, files=3, cache_bytes=0, complete=True)


def test_what_is_lost_with_an_app() -> None:
    """Data, revisions and tokens; the data not, where it is kept; and what was kept of an app that is no more."""
    found = Kept(DATA, known=True, revisions=4, tokens=1)
    said = losses.of_app("notes", found, keep_data=False)
    assert said == "  notes: 11.7 KiB in 3 files, /var/lib/private/flyted-app-notes; 4 revisions; 1 token"
    assert losses.of_app("notes", found, keep_data=True) == "  notes: 4 revisions; 1 token"
    kept = Kept(replace(DATA, files=1, complete=False), known=False, revisions=0, tokens=0)
    said = losses.of_app("notes\x1b", kept, keep_data=False)
    assert said.startswith("  notes\\x1b: at least 11.7 KiB in 1 file, /var")
    assert said.endswith("; left from a deleted app")
    never = Kept(None, known=True, revisions=1, tokens=0)
    assert losses.of_app("notes", never, keep_data=False) == "  notes: 1 revision"


def test_where_the_data_is() -> None:
    """One line of ``app get``."""
    assert render.where_data_is(DATA) == "11.7 KiB in 3 files, /var/lib/private/flyted-app-notes"
    assert render.where_data_is(replace(DATA, cache_bytes=3 << 30)).endswith("; 3.0 GiB of cache")


def test_who_uses_a_secret() -> None:
    """Those that will not start again."""
    assert losses.of_secret(whole(SecretStatus, key="K", apps=("a", "p/d/b"))) == (
        "  K: used by a, p/d/b, which cannot start again without it"
    )
    assert losses.of_secret(whole(SecretStatus, key="K", apps=())) == "  K: no app uses it"
    login = whole(SecretStatus, key="K", apps=(), images=("a",), settings=("images.registry_secret",))
    assert losses.of_secret(login) == (
        "  K: needed by the image of a, which cannot be served again without it; "
        "named in flyted.toml for all images: images.registry_secret"
    )
    assert "Images of   a\n  Settings    images.registry_secret" in render.secret_details(login)


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        ("app delete a b", "flytectl app delete --yes a b"),
        ("app delete a --data -p team", "flytectl app delete --yes --data a --project team"),
        ("data rm a b -d staging", "flytectl data rm --yes a b --domain staging"),
        ("delete app a", "flytectl app delete --yes a"),
        ("secret delete K -d production", "flytectl secret delete --yes K --domain production"),
        ("image prune", "flytectl image prune --yes"),
    ],
)
def test_without_a_terminal_nothing_is_deleted(
    words: str, typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is said what to type, and the daemon is not even asked (there is none)."""
    monkeypatch.setenv("FLYTED_SOCKET", str(tmp_path / "none.sock"))
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert cli.main(words.split(" ")) == 2
    said = capsys.readouterr().err
    assert "standard input is not a terminal: nothing was deleted" in said
    assert f"hint: {typed}\n" in said


def test_on_a_terminal_a_name_that_is_wrong_ends_it_before_the_question(tmp_path: Path) -> None:
    """A child with a terminal: the daemon is asked first, here in vain, and the question does not come."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["FLYTED_SOCKET"] = str(tmp_path / "none.sock")
        os.execv(sys.executable, [sys.executable, "-m", "flytectl", "app", "delete", "a"])
    said = b""
    try:
        while chunk := os.read(terminal, 4096):
            said += chunk
    except OSError:
        pass  # the terminal has no other end any more
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert b"Delete" not in said
