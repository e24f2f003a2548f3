"""The secret of a registry, which the SDK sends among those of the layers."""

from __future__ import annotations

from typing import Any

import pytest
from flyteidl2.core import security_pb2
from flyteidl2.imagebuilder import definition_pb2 as definition

from flyted.gateway.files import context
from tests.gateway.harness import Running
from tests.gateway.test_build_logs import said, tail
from tests.gateway.test_images import NAME, building, create, keep

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("secrets", "login"),
    [
        ([("", "index")], None),
        ([("", "index"), ("", "hub")], {"key": "hub"}),
        ([("", "index"), ("team", "index")], {"key": "index", "group": "team"}),
    ],
)
def test_the_secret_of_a_registry_is_the_one_that_no_layer_names(
    secrets: list[tuple[str, str]], login: dict[str, str] | None
) -> None:
    """The SDK sends all secrets of a build together."""
    layer = {"pipPackages": {"packages": ["a"], "secretMounts": [{"key": "index", "envVar": "X"}]}}
    made: dict[str, Any] = {"spec": {"baseImage": "b", "layers": [layer]}}
    context.add_login(made, secrets)
    assert made["spec"].get("registrySecret") == login


@pytest.mark.parametrize(
    ("base", "registry", "told"),
    [
        ("ghcr.io/acme/base:1", None, True),
        ("ghcr.io/acme/base:1", {"key": "hub"}, False),
        ("ghcr.io/flyteorg/flyte:py3.12-v2.12.1", None, False),
    ],
)
def test_a_login_that_may_be_meant_is_told(base: str, registry: dict[str, str] | None, told: bool) -> None:
    """Of a secret that is the registry's and a layer's at once, the SDK says only that it is the layer's."""
    layer = {"commands": {"cmd": ["true"], "secretMounts": [{"key": "index"}]}}
    spec = {"baseImage": base, "layers": [layer], **({"registrySecret": registry} if registry else {})}
    note = context.login_note({"spec": spec})
    assert ("is pulled without a login" in note and "('index')" in note) is told
    assert context.login_note({"spec": {"baseImage": base, "layers": []}}) == ""


def test_it_is_told_in_the_output_of_the_build(gateway: Running) -> None:
    """Where a refusal of the registry is, too."""
    building(gateway).set()
    mounted = definition.Commands(cmd=["true"], secret_mounts=[security_pb2.Secret(key="both")])
    made = definition.ImageSpec(base_image="ghcr.io/acme/base:1", layers=[definition.Layer(commands=mounted)])
    place = keep(gateway, "spec.pb", made.SerializeToString())
    action = create(gateway, spec=place, context="", target_image=NAME)
    assert any("store it under a name of its own" in line for line in said(tail(gateway, action.id)))
