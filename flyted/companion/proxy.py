"""Fixes ``flyte proxy app``: the SDK forgets the command that prints a token, and does not name a missing package."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import click

from .aside import around


def install(_group: Any) -> None:
    """Give the proxy the ``command`` of the configuration."""
    from flyte.cli import _proxy  # noqa: PLC0415
    from flyte.remote._client.auth._authenticators import factory  # noqa: PLC0415

    def make(old: Callable[..., Any]) -> Callable[..., Any]:
        def build(cfg: Any) -> Any:
            command = getattr(cfg.config.platform, "command", None)
            real = factory.get_async_authenticator
            factory.get_async_authenticator = functools.partial(real, command=command)
            try:
                return old(cfg)
            finally:
                factory.get_async_authenticator = real

        return build

    around(_proxy, "_build_authenticator", make)


def explained(old: Callable[[click.Context], Any], ctx: click.Context) -> Any:
    """Run the command. Raise a click.ClickException without aiohttp, which no other command of ``flyte`` needs."""
    if importlib.util.find_spec("aiohttp") is None:
        raise click.ClickException("flyte proxy needs the package aiohttp: pip install aiohttp")
    return old(ctx)
