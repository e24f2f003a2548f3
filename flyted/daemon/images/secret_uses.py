"""Finds out which images and settings name a secret."""

from __future__ import annotations

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.daemon.images.images import Images, recipe_of
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.root_steps import secrets_of


def is_needed(spec: AppSpec, key: str) -> bool:
    """Report whether an app's image names a secret: for a step of its build, or as a registry's login."""
    if spec.python_env or key.rpartition("/")[2] not in str(spec.image):  # most do not, and that is seen quickly
        return False
    try:
        recipe = recipe_of(spec.image)
    except (InvalidInput, Unsupported):  # an older flyted took it
        return False
    if isinstance(recipe, RootRecipe):
        return any(use.key == key for use in secrets_of(recipe))
    return any(use.key == key for install in recipe.installs for use in install.secrets)


def settings_with(images: Images, key: str) -> tuple[str, ...]:
    """Return the settings of the machine that name a secret, for all images (flyted.toml(5))."""
    found = ["images.registry_secret"] if key == images.root_settings.login else []
    found += ["images.secrets"] if any(use.key == key for use in images.settings.secrets) else []
    return tuple(found)
