"""What a registry tells about an image: merged into a recipe's config, and refused if it is not as it must be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.plan.images.dockerfile import recipe_of_dockerfile
from flyted.plan.images.layers import MAX_STACK, Pulled, plan_of
from flyted.plan.images.oci_config import image_config
from flyted.plan.images.root import ImageConfig
from tests.plan.roots import ARCH

DIGEST = "sha256:" + "a" * 64
NGINX: dict[str, Any] = {
    "ExposedPorts": {"80/tcp": {}},
    "Env": ["PATH=/usr/sbin:/usr/bin", "NGINX_VERSION=1.27.0", "EMPTY="],
    "Entrypoint": ["/docker-entrypoint.sh"],
    "Cmd": ["nginx", "-g", "daemon off;"],
    "Labels": {"maintainer": "x"},
    "StopSignal": "SIGQUIT",
    "WorkingDir": "/srv",
    "User": "101:101",
    "Volumes": {"/var/cache": {}, "/data": {}},
}


def test_a_config_is_read():
    """Of Docker's and of OCI's form: nulls and missing fields are nothing."""
    assert image_config("nginx", NGINX) == ImageConfig(
        (("PATH", "/usr/sbin:/usr/bin"), ("NGINX_VERSION", "1.27.0"), ("EMPTY", "")), "101:101", "/srv",
        ("/docker-entrypoint.sh",), ("nginx", "-g", "daemon off;"), ("80/tcp",), ("/data", "/var/cache"),
    )  # fmt: skip
    bare = {"Env": None, "Cmd": None, "Volumes": None}
    assert image_config("x", bare) == image_config("x", None) == ImageConfig()


def test_a_recipe_is_merged_into_it():
    """Later wins, lists grow, the path is extended; what the recipe does not name stays."""
    text = "FROM nginx\nENV PATH=$PATH:/opt NGINX_VERSION=2\nEXPOSE 80 443\nVOLUME /more\nWORKDIR sub\n"
    recipe = recipe_of_dockerfile(text, "Dockerfile", {}, ARCH)
    plan = plan_of(recipe, ARCH, {"nginx": Pulled(((DIGEST, "tar"),), image_config("nginx", NGINX))})
    assert plan.config == ImageConfig(
        (("PATH", "/usr/sbin:/usr/bin:/opt"), ("NGINX_VERSION", "2"), ("EMPTY", "")), "101:101", "/srv/sub",
        ("/docker-entrypoint.sh",), ("nginx", "-g", "daemon off;"), ("80/tcp", "443/tcp"),
        ("/data", "/var/cache", "/more"),
    )  # fmt: skip
    assert plan.jobs[0].job["step"] == {"kind": "oci", "blob": DIGEST, "media": "tar"}


def test_an_image_with_onbuild_is_refused():
    """Its instructions would be left out."""
    with pytest.raises(Unsupported, match="ONBUILD"):
        image_config("x", {"OnBuild": ["RUN x"]})


@pytest.mark.parametrize(
    "config",
    [
        5, [], {"Env": ["A"]}, {"Env": ["=b"]}, {"Env": "A=b"}, {"Env": ["A=b"] * 1000}, {"User": 5}, {"Cmd": [5]},
        {"Volumes": ["/x"]}, {"Entrypoint": ["x\0"]}, {"WorkingDir": "x" * 10_000},
        *({key: ["A=\ud800"]} for key in ("Env", "Cmd", "Entrypoint")),
        *({key: text} for key in ("User", "WorkingDir") for text in ("/\ud800", "/x\n", "/\x1b[2J")),
        *({key: {text: {}}} for key in ("Volumes", "ExposedPorts") for text in ("/\ud800", "/x\n", "/\x1b[2J")),
    ],
)  # fmt: skip
def test_what_is_not_of_the_form_is_refused(config):
    """A registry is a stranger."""
    with pytest.raises(InvalidInput, match="base image 'x' is not usable"):
        image_config("x", config)


_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NGINX, "x"]), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=2 * settings().max_examples)
@given(_ANY)
def test_any_answer_is_a_config_or_our_error(config):
    """And can be built upon."""
    try:
        image = Pulled((), image_config("x", config))
        plan_of(recipe_of_dockerfile("FROM x\nENV A=$PATH\nRUN y\n", "D", {}, ARCH), ARCH, {"x": image})
    except FlytedError:
        return


def test_a_base_of_too_many_layers_is_refused_before_any_is_made():
    """As an overlay has room for so many only; a few less leave room for steps."""
    recipe = recipe_of_dockerfile("FROM big\n", "D", {}, ARCH)
    layers = tuple((f"sha256:{number:064x}", "tar") for number in range(MAX_STACK + 1))
    assert len(plan_of(recipe, ARCH, {"big": Pulled(layers[1:], ImageConfig())}).layers) == MAX_STACK
    with pytest.raises(InvalidInput, match="has 101 layers, more than 100"):
        plan_of(recipe, ARCH, {"big": Pulled(layers, ImageConfig())})
