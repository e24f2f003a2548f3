"""The variables of an image: what they stand for, in which order, and what is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.contract.texts import MAX_TEXT
from flyted.plan.images.spec import env_of, recipe_from_spec
from tests.plan.image_specs import spec


def test_variables_stand_for_the_layers_before_as_in_a_dockerfile() -> None:
    """`$NAME`, `${NAME}`: values of earlier layers, and of the same one, which has no order; unset ones vanish."""
    layers = (
        {"env": {"envVariables": {"CUDA_HOME": "/usr/local/cuda", "PATH": "/opt/x/bin:$PATH"}}},
        {
            "env": {
                "envVariables": {
                    "PATH": "${CUDA_HOME}/bin:$PATH",
                    "COPY": "$PATH",
                    "NONE": "a$UNSET.b",
                    "COST": "\\$5 $ 5",
                }
            }
        },
    )
    own = "/images/h/bin:/usr/local/bin:/usr/bin:/bin"
    assert dict(env_of(recipe_from_spec(spec(*layers)), "/images/h")) == {
        "CUDA_HOME": "/usr/local/cuda",
        "PATH": f"/usr/local/cuda/bin:/opt/x/bin:{own}",
        "COPY": f"/usr/local/cuda/bin:/opt/x/bin:{own}",
        "NONE": "a.b",
        "COST": "$5 $ 5",
    }


@pytest.mark.parametrize(
    "variables",
    [
        {"LD_PRELOAD": "x"},
        {"PYTHONPATH": "x"},
        {"A-B": "x"},
        {"A": "x\ny"},
        {"A": 1},
        {"A": "${B:-x}"},
        {"": "x"},
        ["A"],
    ],
)
def test_variables_that_an_app_may_not_have_are_refused(variables: Any) -> None:
    """The rules for an app's variables hold for its image's; of a Dockerfile's forms only `$A` and `${A}` exist."""
    with pytest.raises(FlytedError):
        recipe_from_spec(spec({"env": {"envVariables": variables}}))


@pytest.mark.parametrize(
    "variables",
    [
        {"Z": "/z", "A": "$Z/a"},
        {"C": "1", "B": "${C}2", "A": "$B$C", "B2": "\\$A"},
        {"P2": "$PATH", "PATH": "/x:$PATH"},
    ],
)
def test_a_variable_comes_after_those_that_it_names(variables: dict[str, str]) -> None:
    """In every order in which the map may arrive."""
    found = {
        env_of(recipe_from_spec(spec({"env": {"envVariables": dict(order)}})), "/i")
        for order in permutations(variables.items())
    }
    assert len(found) == 1
    assert dict(found.pop()) == in_a_dockerfile(sorted(variables.items(), key=lambda each: each[0] == "P2"))


def in_a_dockerfile(variables: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What ENV lines make of them, one after another: the line is Flyte's builder's, the rules are Docker's."""
    known = {"PATH": "/i/bin:/usr/local/bin:/usr/bin:/bin"}
    for name, value in variables:
        text = re.sub(r"(?<!\\)\$\{?(\w+)\}?", lambda found: known.get(found[1], ""), value)
        known[name] = text.replace("\\$", "$")
    return {name: known[name] for name, _ in variables}


@given(st.data())
def test_variables_are_what_flytes_own_builder_makes_of_them(data: st.DataObject) -> None:
    """Whatever a file defines before it uses it: the SDK's own description, and the lines of its own builder."""
    flyte = pytest.importorskip("flyte")
    from flyte._internal.imagebuild.docker_builder import EnvHandler
    from flyte._internal.imagebuild.remote_builder import _get_layers_proto
    from google.protobuf.json_format import MessageToDict

    image = flyte.Image.from_debian_base(python_version=(3, 12), flyte_version="2.12.1")
    lines = ""
    known = ["PATH", "UNSET"]
    for _ in range(data.draw(st.integers(1, 3))):
        variables: dict[str, str] = {}
        names = data.draw(st.lists(st.sampled_from("ABCDEF"), unique=True, min_size=1))
        for name in names:
            before = [each for each in known if each not in names or each in variables or each == name]
            words = st.sampled_from([form % each for each in before for form in ("$%s", "${%s}")] + ["/x", "\\$A"])
            variables[name] = "-".join(data.draw(st.lists(words, min_size=1, max_size=3)))
            known.append(name)
        image = image.with_env_vars(variables)
        lines = asyncio.run(EnvHandler.handle(image._layers[-1], Path("/nonexistent"), lines))
    written = [line.removeprefix("ENV ").partition("=")[::2] for line in lines.splitlines() if line]
    expected = in_a_dockerfile(written)
    assume(max(map(len, expected.values())) < MAX_TEXT // 4)  # the folder of a real image has a longer name than /i
    recipe = recipe_from_spec(MessageToDict(_get_layers_proto(image, Path("/nonexistent"))))
    assert dict(env_of(recipe, "/i")) == expected


def test_variables_of_a_layer_that_name_each_other_are_refused() -> None:
    """Which one is first is not known; a chain of any length is no such case."""
    with pytest.raises(Unsupported, match="'A', 'B' refer to each other"):
        recipe_from_spec(spec({"env": {"envVariables": {"A": "$B", "B": "x$A", "C": "$A"}}}))
    chain = {f"V{n:03}": f"$V{n + 1:03}" for n in range(200)}
    assert dict(env_of(recipe_from_spec(spec({"env": {"envVariables": {**chain, "V200": "x"}}})), "/i"))["V000"] == "x"


def test_variables_that_grow_with_each_other_are_refused() -> None:
    """A value that names the one before it twice: a few dozen of them would fill the machine's memory."""
    doubling = {f"V{n:02}": f"$V{n - 1:02}$V{n - 1:02}" for n in range(1, 16)}
    with pytest.raises(InvalidInput, match="'V13' of the image is too long"):
        recipe_from_spec(spec({"env": {"envVariables": {"V00": "x", **doubling}}}))
    with pytest.raises(InvalidInput, match="300 variables; the limit is 256"):
        recipe_from_spec(
            spec(
                *({"env": {"envVariables": {f"V{n}": "x"}}} for n in range(50)),
                {"env": {"envVariables": {f"W{n}": "x" for n in range(250)}}},
            )
        )
