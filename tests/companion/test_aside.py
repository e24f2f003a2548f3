"""An SDK whose names have moved: one warning, and everything else as without the companion."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import click
import pytest

from flyted.companion import aside, deployment, hooks, target

Warnings = Callable[[], list[str]]


@pytest.fixture
def _ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "of_command", lambda: True)


def group() -> click.Group:
    """A command line that works, and has nothing of what the hooks look for."""
    made = click.Group("create")
    made.add_command(click.Command("other", callback=lambda: click.echo("other ran")))
    return made


@pytest.mark.usefixtures("_ours")
@pytest.mark.parametrize("hook", [hooks.create, hooks.deploys, hooks.talks])
def test_a_command_without_the_names_still_runs(hook: Callable[[click.Group], click.Group]) -> None:
    """Whatever a newer SDK has there: the hook returns it, and it does its own work."""
    from click.testing import CliRunner

    done = CliRunner().invoke(hook(group()), ["other"])
    assert (done.exit_code, done.stdout) == (0, "other ran\n")


@pytest.mark.usefixtures("_ours")
def test_one_warning_per_process(steps_aside_once: Warnings, capsys: pytest.CaptureFixture[str]) -> None:
    """However many names are gone; it says which, of which SDK, and that flyte works on."""
    deployment._install(ModuleType("flyte.app._deploy"))
    deployment._give_url(ModuleType("flyte._deploy"))
    hooks.create(object())
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "_deploy_app" in said
    assert "and is off: flyte works as if it were not installed." in said
    assert len(steps_aside_once()) == 1


def test_a_companion_that_cannot_ask_says_no(monkeypatch: pytest.MonkeyPatch, steps_aside_once: Warnings) -> None:
    """Where the SDK keeps its state elsewhere, commands and deployments are its own."""

    def moved() -> bool:
        raise AttributeError("moved")

    monkeypatch.setattr(target, "of_command", moved)
    monkeypatch.setattr(target, "of_process", moved)
    assert not hooks._ours()
    assert not deployment.is_ours()
    assert steps_aside_once() == ["AttributeError: moved"]


def test_a_terminal_that_cannot_show_a_line_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rocket in Latin-1, no reader at all."""
    import io

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, "latin-1"))
    aside.say("🚀 ok")
    assert raw.getvalue() == b"? ok\n"
    sys.stderr.close()
    aside.say("nobody")
