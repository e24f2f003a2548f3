"""Finds out which secrets the steps of an image are made with: those that are in the store."""

from __future__ import annotations

from collections.abc import Callable

from flyted.contract.errors import SecretNotFound
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.root_steps import step_secrets, without


def resolved(recipe: RootRecipe, resolve: Callable[[str], object]) -> RootRecipe:
    """Return a recipe without the secrets that are not in the store and that its steps can do without.

    ``resolve``: takes a name, and raises :class:`SecretNotFound` if there is no such secret. Raises that error, with
    the place of the step, for another one, and :class:`InvalidInput` for a name that is not valid.
    """
    absent = set()
    for where, secret in step_secrets(recipe):
        try:
            resolve(secret.use().key)
        except SecretNotFound as error:
            if not secret.optional:
                raise SecretNotFound(f"{where}: {error.message}", hint=error.hint) from error
            absent.add(secret.key)
    return without(recipe, absent)
