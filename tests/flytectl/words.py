"""The way from words to what they call, as click walks it."""

from __future__ import annotations

import click

from flytectl import cli


def command(row: str) -> click.Command:
    """The command, or the group, behind some words."""
    found: click.Command | None = cli.cli
    for word in row.split(" "):
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), word)
    assert found is not None
    return found
