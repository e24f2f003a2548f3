"""Completes names of apps, secrets, models, images and tokens for the shell, by asking the daemon."""

from __future__ import annotations

from collections.abc import Callable

import click


def complete_app(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of apps in the scope given so far."""

    def names() -> list[str]:
        from flytectl.daemon import call  # noqa: PLC0415  imports msgpack, which only a completion needs
        from flyted.contract.answers.apps import AppList  # noqa: PLC0415

        return [app.name for app in call(AppList, "app.list", _given_scope(ctx)).apps]

    return _beginning(names, incomplete)


def complete_data(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of apps that keep data, also of deleted ones, in the scope given so far."""

    def names() -> list[str]:
        from flytectl.daemon import call  # noqa: PLC0415
        from flyted.contract.answers.data import DataList  # noqa: PLC0415

        scope = _given_scope(ctx)
        found = call(DataList, "data.list").folders
        return [each.name for each in found if (each.project, each.domain) == (scope["project"], scope["domain"])]

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


def complete_volume(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of volumes."""

    def names() -> list[str]:
        from flytectl.daemon import call  # noqa: PLC0415
        from flyted.contract.answers.volumes import VolumeList  # noqa: PLC0415

        return [volume.name for volume in call(VolumeList, "volume.list").volumes]

    return _beginning(names, incomplete)


def complete_domain(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the base domains besides the machine's own."""

    def names() -> list[str]:
        from flytectl.daemon import call  # noqa: PLC0415
        from flyted.contract.answers.domains import DomainList  # noqa: PLC0415

        return [found.domain for found in call(DomainList, "domain.list").domains]

    return _beginning(names, incomplete)


def complete_image(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the hashes of images, as a table shows them."""

    def names() -> list[str]:
        from flytectl.daemon import call  # noqa: PLC0415
        from flyted.contract.answers.images import ImageList  # noqa: PLC0415

        return [image.hash for image in call(ImageList, "image.list").images]

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
