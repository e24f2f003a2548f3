"""Defines options that several commands share, completes names, and writes to the standard streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _scope(function: Decorated, project: str, domain: str, unset: str) -> Decorated:
    said = {"project": project or unset, "domain": domain or unset}
    for name, default in (("domain", domain), ("project", project)):
        function = click.option(
            f"-{name[0]}", f"--{name}", default=default, metavar=name.upper(), help=f"Flyte {name} [{said[name]}]."
        )(function)
    return function


def app_scope(function: Decorated) -> Decorated:
    """Add ``--project`` and ``--domain`` of an app, with Flyte's defaults."""
    return _scope(function, "default", "development", "")


def secret_scope(function: Decorated) -> Decorated:
    """Add ``--project`` and ``--domain`` of a secret; without both it is the whole machine's, as with ``flyte``."""
    return _scope(function, "", "", "none: the whole machine")


def as_json(function: Decorated) -> Decorated:
    """Add ``--json``: print the answer as JSON on standard output."""
    return click.option("--json", "json_", is_flag=True, help="Print JSON.")(function)


def complete_app(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of apps in the scope given so far."""

    def names() -> list[str]:
        from flytectl.daemon import call  # noqa: PLC0415  imports msgpack, which only a completion needs
        from flyted.contract.answers.apps import AppList  # noqa: PLC0415

        return [app.name for app in call(AppList, "app.list", _given_scope(ctx)).apps]

    return _beginning(names, incomplete)


def complete_secret(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the keys of secrets in the scope given so far."""

    def names() -> list[str]:
        from flytectl.daemon import call  # noqa: PLC0415
        from flyted.contract.answers.secrets import SecretList  # noqa: PLC0415

        return [secret.key for secret in call(SecretList, "secret.list", {**_given_scope(ctx), "all": False}).secrets]

    return _beginning(names, incomplete)


def complete_model(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of models."""

    def names() -> list[str]:
        from flytectl.daemon import call  # noqa: PLC0415
        from flyted.contract.answers.models import ModelList  # noqa: PLC0415

        return [model.name for model in call(ModelList, "model.list").models]

    return _beginning(names, incomplete)


def complete_token(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the user's own tokens."""

    def names() -> list[str]:
        from flytectl.daemon import call  # noqa: PLC0415
        from flyted.contract.answers.tokens import TokenList  # noqa: PLC0415

        return [token.name for token in call(TokenList, "token.list").tokens if token.name]

    return _beginning(names, incomplete)


def _given_scope(ctx: click.Context) -> dict[str, str]:
    return {name: ctx.params.get(name) or "" for name in ("project", "domain")}


def _beginning(names: Callable[[], list[str]], incomplete: str) -> list[str]:
    """Return those of the names that the daemon lists which begin as typed; none if it does not answer."""
    from flyted.contract.errors import FlytedError  # noqa: PLC0415

    try:
        found = names()
    except (FlytedError, OSError):
        return []  # an error must not disturb the prompt
    return [name for name in found if name.startswith(incomplete) and name.isprintable()]


def has_colour(stream: TextIO) -> bool:
    """Report whether ``stream`` shows colour: a terminal, not a dumb one, without ``NO_COLOR`` (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Write a line to standard error: progress, hints, notes."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def report(code: str, message: str, hint: str, status: int, *, as_json: bool) -> int:
    """Write an error to standard error, and return ``status``, the exit status that it has."""
    from flytectl.render import error_json, error_text  # noqa: PLC0415  only where something failed

    say(error_json(code, message, hint) if as_json else error_text(message, hint))
    return status


def no_core_dump() -> None:
    """Forbid a core file of this process, which will hold a secret or token, whatever the user's limits are."""
    import resource  # noqa: PLC0415  few commands need it

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def out(text: str) -> None:
    """Write a line (or block) of the answer to standard output, and flush: a follower may be reading."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
