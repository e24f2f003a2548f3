"""Jobs are one contract: whatever the planner accepts, the program of the steps takes; else the planner refuses it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError, InvalidInput
from flyted.layers import words
from flyted.plan.images.root import ImageConfig, RootRecipe
from flyted.plan.images.spec import image_from_spec
from tests.plan.roots import ARCH, docker, only, planned

ODD = st.sampled_from(
    ["/", ".", "..", "*", "[", "a", "/a", "a/", "/a/../..", "//", "\\", "$X", "${X:-/}", "é", "\0", "\ud800", "\t",
     "0", "me", "me:us", "-x", ":", "", " ", "'", '"', "=", "\x1b[1m", "\udc80", "a b", "007", "7777", "http://a"]
)  # fmt: skip
WORD = st.lists(ODD, min_size=1, max_size=3).map("".join)
LINES = [
    "RUN {}", "RUN --mount=type=bind,source={},target={} x", "RUN --mount=from=s,source={},target={},rw x",
    "RUN --mount=type=cache,target={} x", "RUN --mount=type=tmpfs,target={} x",
    "RUN --mount=type=secret,id={},target={} x", "RUN --mount=type=secret,id=a,env={} x", 'RUN ["{}", "{}"]',
    "COPY {} {}", "COPY --from=s {} {}", "COPY --chown={} --chmod={} a b", "ADD {} {}", "WORKDIR {}", "USER {}",
    "ENV A={}", "ARG X={}", 'SHELL ["{}"]', "VOLUME {}", "ENV {} {}",
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(LINES), WORD, WORD), min_size=1, max_size=6))
def test_dockerfiles(lines: list[tuple[str, str, str]]) -> None:
    """Any words in any instruction."""
    text = "".join(line.format(*words) + "\n" for line, *words in lines)
    try:
        docker(f"FROM a AS s\nFROM b\n{text}RUN last\nCOPY last /x\n")
    except FlytedError as error:
        assert error.message


BODIES = [
    ("commands", lambda a, b: {"cmd": [a, b]}), ("aptPackages", lambda a, b: {"packages": [a, b]}),
    ("pipPackages", lambda a, b: {"packages": ["six"], "options": {"extraArgs": a}}),
    ("copyConfig", lambda a, b: {"src": a, "dst": b}), ("workdir", lambda a, b: {"workdir": a}),
    ("env", lambda a, b: {"envVariables": {"A": a, b: "c"}}), ("requirements", lambda a, b: {"file": "r.txt"}),
    ("pythonWheels", lambda a, b: {"dir": a, "packageName": b}),
    ("uvProject", lambda a, b: {"pyproject": a, "uvlock": b}),
    ("uvProject", lambda a, b: {"pyproject": a, "options": {"extraArgs": "--no-install-project"}, "editable": [b]}),
    ("poetryProject", lambda a, b: {"pyproject": a, "poetryLock": b}),
    ("commands", lambda a, b: {"cmd": ["x"], "secretMounts": [{"key": a}, {"key": "b", "mountPath": b}]}),
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(BODIES), WORD, WORD), min_size=1, max_size=4), WORD)
def test_image_specs(layers: list[tuple[Any, str, str]], requirement: str) -> None:
    """Any words in any layer."""
    spec = {"baseImage": "nginx", "layers": [{kind: body(a, b)} for (kind, body), a, b in layers]}
    try:
        recipe = image_from_spec(spec, {"r.txt": requirement}, {".": "c" * 64, "a": "a" * 64}, ARCH)
        if isinstance(recipe, RootRecipe):
            planned(recipe)
    except FlytedError as error:
        assert error.message


@given(st.builds(ImageConfig, st.lists(st.tuples(WORD, WORD)).map(tuple), WORD, WORD))
def test_configs_of_bases(config: ImageConfig) -> None:
    """What a registry says of an image is a stranger's."""
    try:
        docker("FROM b\nWORKDIR x\nRUN x\nCOPY a b\n", config)
    except FlytedError as error:
        assert error.message


@pytest.mark.parametrize("mount", ["type=cache,target=/", "type=tmpfs,target=/w/..", "type=secret,id=x,target=/"])
def test_nothing_is_mounted_over_the_root(mount: str) -> None:
    """Of any kind."""
    with pytest.raises(InvalidInput, match="nothing can be mounted over the image's /"):
        docker(f"FROM scratch\nRUN --mount={mount} x\n")


def test_there_is_one_format() -> None:
    """Of jobs and of ids: the program's."""
    job = only(docker("FROM scratch\nRUN x\n"), "run")
    assert json.loads(job.text)["format"] == words.FORMAT
