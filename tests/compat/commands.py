"""Every command of ``flyte``: what it does with flyted, and how a machine tries it (test_flyte_commands.py).

A command that takes an app file is named with FILE: the SDK makes such commands of the files in the working folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

from flyted.contract.errors import NOT_HERE

WORKS, REFUSED, LOCAL, UNTRIED = "works", "refused", "local", "of the SDK alone"
"""``LOCAL``: it asks no server. ``UNTRIED``: it runs containers of its own or a terminal, and asks no server."""


@dataclass(frozen=True)
class Command:
    """``words``: for the page. ``tried``: its arguments in a machine. ``said``, ``status``: how a refusal ends."""

    verdict: str
    words: str = ""
    tried: tuple[str, ...] | None = None
    said: str = NOT_HERE
    status: int = 1


def _works(*tried: str, words: str = "") -> Command:
    return Command(WORKS, words, tried)


def _refused(*tried: str, words: str = "it needs a Flyte cluster", said: str = NOT_HERE) -> Command:
    return Command(REFUSED, words, tried, said)


_NO_RUN = "the only runs are image builds"

COMMANDS: dict[str, Command] = {
    "abort action": _refused("a0", "r1"),
    "abort run": Command(WORKS, "ends the build of an image", ("r1",), _NO_RUN),
    "build FILE": _works("command_app.py", "env"),
    "create artifact": _refused("art", "--from-file", "value.txt"),
    "create config": Command(LOCAL, "flytectl config init writes one that fits"),
    "create project": _refused("--id", "p9", "--name", "P", words="a project comes with its first app or secret",
                               said="need not be created"),
    "create secret": _works("COMMAND_KEY", "--value", "v"),
    "create trigger": _refused("work.add", "t", "--schedule", "0 * * * *"),
    "delete app": _works("command-app", words="the app's data is kept"),
    "delete devbox": Command(UNTRIED),
    "delete local-cache": Command(LOCAL, "", ()),
    "delete secret": _works("COMMAND_KEY"),
    "delete trigger": _refused("t", "work.add"),
    "deploy FILE": _works("command_app.py", "env", words="tasks are left out, and named"),
    "edit settings": _refused("--from-file", "settings.yaml"),
    "gen docs": Command(LOCAL, "", ("--type", "markdown")),
    "get action": _refused("r1"),
    "get app": _works(words="--limit, --only-mine, --status, and one by its name"),
    "get artifact": _refused(),
    "get code": _refused("r1", said=_NO_RUN),
    "get condition": _refused("r1", "a0"),
    "get config": Command(LOCAL, "", ()),
    "get devbox": Command(UNTRIED),
    "get io": _refused("r1", said=_NO_RUN),
    "get logs": Command(WORKS, "the output of an image's build; of an app: flytectl logs", ("r1",), _NO_RUN),
    "get project": _works(),
    "get run": Command(REFUSED, "but for RUN, the build of an image", (), NOT_HERE),
    "get secret": _works(),
    "get settings": _refused(),
    "get task": _works(words="the one that builds images"),
    "get trigger": _refused(),
    "prefetch hf-model": _refused("Qwen/Qwen3-0.6B", words="flytectl model add reads a model from a folder"),
    "proxy app": Command(WORKS, "with the companion"),
    "rerun": Command(REFUSED, "it needs a Flyte cluster; the SDK exits with 0 all the same", ("r1",), status=0),
    "run FILE": _refused("command_app.py", "add", "--a", "1"),
    "run deployed-task": _refused("work.add"),
    "run hello": _refused(),
    "run python-script": _refused("command_script.py"),
    "serve FILE": _works("command_app.py", "env"),
    "serve hello": _works(),
    "signal condition": _refused("r1", "a0", "true", said=_NO_RUN),
    "start devbox": Command(UNTRIED),
    "start tui": Command(UNTRIED),
    "stop devbox": Command(UNTRIED),
    "update app": _works("command-app", "--deactivate", "--wait"),
    "update project": _refused("default", "--archive", words="a project is only a name",
                               said="nothing to change or archive"),
    "update trigger": _refused("t", "work.add", "--activate"),
    "whoami": _works(),
}  # fmt: skip
FILES = {"build", "deploy", "run", "serve"}
"""Groups whose commands are made of files."""


def known() -> set[str]:
    """Return the commands of the installed ``flyte``. To be called in a folder without Python files."""
    from flyte.cli.main import main

    return set(_walk(main, click.Context(main, info_name="flyte"), ()))


def _walk(command: click.Command, context: click.Context, path: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    if path and path[-1] in FILES:
        yield f"{path[-1]} FILE"
    if path == ("run", "deployed-task"):  # its commands are the tasks of the server
        yield " ".join(path)
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        if below is not None:
            yield from _walk(below, click.Context(below, parent=context, info_name=name), (*path, name))
