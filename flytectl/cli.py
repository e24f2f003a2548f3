"""Parses the command line of ``flytectl``, runs the command, and reports its failure to the user.

One table names every command, in both word orders (``secret create`` and Flyte's ``create secret``). A command's
module is imported when the command is named, so ``--help`` of a group imports click and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import sys
from typing import Any, NoReturn

import click

from flytectl.options import report
from flyted.contract.errors import FlytedError
from flyted.contract.version import VERSION

COMMANDS = {
    "serve": "serve:serve",
    "app ls": "app:ls",
    "app get": "app:get",
    "app start": "app:start",
    "app stop": "app:stop",
    "app sleep": "app:sleep",
    "app delete": "app:delete",
    "data ls": "data:ls",
    "data path": "data:path",
    "data export": "data:export",
    "data import": "data:import_",
    "data rm": "data:rm",
    "logs": "logs:logs",
    "gpu ls": "gpu:ls",
    "image build": "image:build",
    "image ls": "image:ls",
    "image get": "image:get",
    "image pull": "image:pull",
    "image rebuild": "image:rebuild",
    "image prune": "image:prune",
    "model add": "model:add",
    "model ls": "model:ls",
    "model rm": "model:rm",
    "volume add": "volume:add",
    "volume ls": "volume:ls",
    "volume rm": "volume:rm",
    "secret create": "secret:create",
    "secret ls": "secret:ls",
    "secret get": "secret:get",
    "secret delete": "secret:delete",
    "secret accept-rollback": "secret:accept_rollback",
    "secret rotate": "secret:rotate",
    "token": "token:token",
    "token create": "token:create",
    "token ls": "token:ls",
    "token revoke": "token:revoke",
    "login": "login:login",
    "domain set": "domain_set:set_",
    "domain cert": "domain_set:cert",
    "domain ls": "domain:ls",
    "domain get": "domain:get",
    "domain test": "domain:test",
    "domain renew": "domain:renew",
    "domain revoke": "domain:revoke",
    "domain rm": "domain:rm",
    "ca show": "ca:show",
    "ca install": "ca:install",
    "ca uninstall": "ca:uninstall",
    "config init": "config:init",
    "doctor": "doctor:doctor",
    "version": "version:version",
    # Flyte's own word order
    "create secret": "secret:create",
    "get app": "app:get",
    "get secret": "secret:get",
    "delete app": "app:delete",
    "delete secret": "secret:delete",
}
"""Words → ``module:function`` in ``flytectl.commands``."""

EXAMPLES = {
    "": ("flytectl serve app.py", "flytectl app ls", "flytectl doctor"),
    "app": ("flytectl app ls --all", "flytectl app get hello --json", "flytectl app sleep hello"),
    "data": (
        "flytectl data ls",
        "flytectl data export notes notes.tar",
        "flytectl data import notes notes.tar    # into a stopped app",
    ),
    "serve": (
        "flytectl serve app.py",
        "flytectl serve app.py api          # this environment and what it depends on",
        "flytectl serve --python .venv app.py",
    ),
    "logs": ("flytectl logs hello -f", "flytectl logs hello -n 500 --json"),
    "secret create": (
        "flytectl secret create API_KEY     # asks for the value",
        "pass show api-key | flytectl secret create API_KEY -",
        "flytectl secret create API_KEY --replace --roll",
    ),
}
"""The words of a command or group → the examples at the end of its ``--help``."""

GROUPS = {
    "": "Serve Flyte apps on this machine.\n\nStart with: flytectl serve app.py",
    "app": "Show and manage apps.",
    "data": "List, export, import and remove app data.",
    "secret": "Store secrets; no command shows a value.",
    "token": "Print, create, list and revoke tokens.",
    "gpu": "Show this machine's GPUs.",
    "image": "Build and manage the images of apps.",
    "model": "Use models from local folders.",
    "volume": "Give apps folders of this machine.",
    "domain": "Serve apps to other machines.",
    "ca": "Manage trust in the apps' certificates.",
    "config": "Configure the flyte command and SDK.",
    "create": "Alias of 'secret create'.",
    "get": "Alias of 'app get' and 'secret get'.",
    "delete": "Alias of 'app delete' and 'secret delete'.",
}

COMPLETE = "_FLYTECTL_COMPLETE"  # the variable by which shells ask for completions, in click's protocol
INTERRUPTED = 130  # 128 + SIGINT, as in a shell
PIPE_CLOSED = 141  # 128 + SIGPIPE


def load_command(row: str) -> click.Command:
    """Import and return the command of a row of the table, with its examples."""
    module, function = COMMANDS[row].split(":")
    command: click.Command = getattr(importlib.import_module(f"flytectl.commands.{module}"), function)
    command.epilog = _examples(row if row in EXAMPLES else " ".join(reversed(row.split(" "))))
    return command


def _examples(row: str) -> str | None:
    r"""Return the end of a help text; click does not rewrap the lines after a ``\b``."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[row]) if row in EXAMPLES else None


def _alone(ctx: click.Context, **options: Any) -> Any:
    """Run a group that is also a command, such as plain ``flytectl token``, if no subcommand follows."""
    if ctx.invoked_subcommand is None:
        return ctx.invoke(load_command(" ".join(ctx.command_path.split(" ")[1:])), **options)
    if any(options.values()):
        raise click.UsageError(f"put the options of '{ctx.invoked_subcommand}' after that word", ctx)
    return None


class CommandGroup(click.Group):
    """A group of commands, named by the words ``said`` so far, whose members are those in the table."""

    def __init__(self, said: str = "") -> None:
        super().__init__(
            name=said or "flytectl",
            params=list(load_command(said).params) if said in COMMANDS else None,
            help=GROUPS[said],
            epilog=_examples(said),
            no_args_is_help=False,
            invoke_without_command=said in COMMANDS,
            callback=click.pass_context(_alone) if said in COMMANDS else None,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
        )
        self._prefix = f"{said} " if said else ""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, but print the help to stderr and exit with 2 if no word follows the group.

        click 8.1 and 8.2 differ in that case.
        """
        if not args and not ctx.resilient_parsing and not self.invoke_without_command:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return the words that may follow, in the table's order."""
        words = [row[len(self._prefix) :].split(" ")[0] for row in COMMANDS if row.startswith(self._prefix)]
        return list(dict.fromkeys(words))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command or group of the next word, ``None`` if there is none."""
        row = self._prefix + cmd_name
        if any(known.startswith(f"{row} ") for known in COMMANDS):
            return CommandGroup(row)
        return load_command(row) if row in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does, but name the nearest word in the error."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if near:
                raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from None
            raise


cli = CommandGroup()
cli.params.append(
    click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, help="Show the version and exit.",
        callback=lambda ctx, _param, value: _version(ctx) if value and not ctx.resilient_parsing else None,
    )
)  # fmt: skip


def _version(ctx: click.Context) -> None:
    click.echo(f"flytectl {VERSION}")
    ctx.exit()


def main(args: list[str] | None = None) -> int:
    """Run one command line (default: the process's), and return the exit status. Every error is reported here."""
    words = sys.argv[1:] if args is None else args
    as_json = "--json" in itertools.takewhile(lambda word: word != "--", words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a Latin-1 terminal shows an escape, not a traceback
    try:
        status = _run(words)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return _interrupted()
    except BrokenPipeError:
        return _pipe_closed()
    except click.ClickException as error:
        return report("usage", error.format_message(), _usage_hint(error), error.exit_code, as_json=as_json)
    except FlytedError as error:
        _show_traceback(getattr(error, "traceback", ""))
        return report(error.code, error.message, error.hint, error.exit_status, as_json=as_json)
    except Exception as error:  # noqa: BLE001  the last line of defence: no user should see our traceback
        return _internal(error, as_json=as_json)
    return status


def leave(status: int) -> NoReturn:
    """End the process immediately: there is nothing to clean up, and Python's own teardown would take 10 ms."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a reader that is gone, and a stream that is closed
            stream.flush()
    os._exit(status)


def _run(args: list[str]) -> int:
    """Do what click's own ``main`` does, without its handling of Ctrl-C and closed pipes."""
    asked = os.environ.get(COMPLETE)
    if asked:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "flytectl", COMPLETE, asked)
    try:
        with cli.make_context("flytectl", list(args)) as context:
            status: Any = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return status if isinstance(status, int) else 0


def _interrupted() -> int:
    if sys.stderr.isatty():
        sys.stderr.write("\n")  # the terminal shows ^C; the prompt begins on a line of its own
    return INTERRUPTED


def _show_traceback(text: str) -> None:
    """Print the traceback of a failed import, with the user's own frames."""
    if text:
        from flytectl.render import safe_lines

        sys.stderr.write(safe_lines(text.rstrip("\n")) + "\n")


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else ""


def _internal(error: Exception, *, as_json: bool) -> int:
    if os.environ.get("FLYTECTL_DEBUG") == "1":
        raise error
    text = f"internal error (please report it): {type(error).__name__}: {error}"
    return report("internal", text, "set FLYTECTL_DEBUG=1 for the traceback", 70, as_json=as_json)


def _pipe_closed() -> int:
    """Handle the end of the reader of a pipe: print nothing more, also not at the interpreter's last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED
