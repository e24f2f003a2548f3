"""Which images and settings name a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.daemon.images.images import Images
from flyted.daemon.images.roots import RootSettings
from flyted.daemon.images.secret_uses import is_needed, settings_with
from flyted.plan.images.build_unit import BuildSettings
from tests.daemon.life import BASE
from tests.values import spec

MOUNT = {"key": "KEY", "envVar": "TOKEN"}
PIP = {"pipPackages": {"packages": ["httpx"], "secretMounts": [MOUNT]}}
LOGIN = {"key": "login", "group": "team"}
APT = {"aptPackages": {"packages": ["jq"], "secretMounts": [MOUNT]}}


@pytest.mark.parametrize(
    ("image", "needed"),
    [
        ({"baseImage": BASE, "layers": [PIP]}, ("KEY",)),
        ({"baseImage": BASE, "layers": [APT]}, ("KEY",)),
        ({"baseImage": BASE, "layers": [APT], "registrySecret": LOGIN}, ("KEY", "team/login")),
        ({"baseImage": "nginx:1.27", "registrySecret": {"key": "LOGIN"}}, ("LOGIN",)),
        ({"baseImage": BASE, "layers": [{"commands": {"cmd": ["echo KEY"]}}]}, ()),
        ({"baseImage": BASE, "layers": [{"commands": {"cmd": ["echo KEY"]}}, {"ofAnotherVersion": {}}]}, ()),
    ],
)  # fmt: skip
def test_an_image_needs_the_secrets_that_it_names(image: dict[str, Any], needed: tuple[str, ...]) -> None:
    """In a layer of either kind of image, or for its registry; a word of a command is none."""
    made = spec("web", image={"spec": image})
    found = {key for key in ("KEY", "EY", "LOGIN", "login", "team/login", "other/KEY") if is_needed(made, key)}
    assert found == set(needed)


def test_an_environment_that_was_given_needs_none() -> None:
    """Whatever the file says beside it."""
    image = {"spec": {"baseImage": BASE, "layers": [PIP]}}
    assert not is_needed(spec("web", image=image, python_env="/opt/env"), "KEY")


def test_the_settings_for_all_images_are_named(tmp_path: Path) -> None:
    """By their names in flyted.toml."""
    nothing: Any = None
    images = Images(
        nothing, tmp_path, BuildSettings(secrets=(SecretUse("index", env="TOKEN"), SecretUse("both", env="B"))),
        nothing, nothing, nothing, nothing, root_settings=RootSettings(login="both"),
    )  # fmt: skip
    assert settings_with(images, "index") == ("images.secrets",)
    assert settings_with(images, "both") == ("images.registry_secret", "images.secrets")
    assert settings_with(images, "other") == ()
