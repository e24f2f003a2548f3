"""What an error quotes of a user's file is short, however long it is there: a few lines that a person reads."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.errors import FlytedError
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.spec import image_from_spec, recipe_from_spec
from tests.plan.roots import ARCH, docker, planned

LENGTHS = [3_000, 100_000]
"""Below the limits of most texts, and above them."""
MOST = 500
"""Characters of a message, or of its hint: a place, what is wrong there, and a name or two."""

LINES = [
    "@ a", "@", "RUN --@ x", "RUN --network=@ x", "RUN --mount=@=1,target=/a x", "RUN --mount=type=@ x",
    "RUN --mount=target=/a,from=@ x", "RUN --mount=type=secret,id=@ x", "RUN --mount=type=secret,id=a,env=1@ x",
    "RUN --mount=type=secret,id=a,env=LD_@ x", "RUN --mount=type=secret,id=a,target=$@ x",
    "RUN --mount=type=cache,target=/a/../../@ x", "RUN --mount=type=cache,target=${@} x", "RUN <<@", "RUN x <<'@'",
    "COPY @", "COPY ../@ /x", "COPY --from=@ a /x", "COPY --chmod=@ a /x", "COPY --chown=${@ a /x", "COPY @ b /@",
    "COPY --chown=@:@:@ a /x", "COPY <<@ /x", "ADD https://@ /x", "ADD https://x /@", "ENV @", "ENV @=@",
    "ENV 1@=x", "ENV A=${@", "ENV A=${@#b}", "ENV A=${@:?@}", "ENV A=${B:?@}", "ENV A=${@:?x}", "ENV A='@",
    "ENV A=1 @", "ARG @=${A", "ENV A=${@:-${@", "ARG 1@=2", "USER @:@:@", "USER @ a", "USER $@", "WORKDIR ../@",
    "WORKDIR /@", "EXPOSE @", "EXPOSE 1/@", "VOLUME $@", "VOLUME @", "SHELL @", "ENTRYPOINT @", "ONBUILD @",
    "HEALTHCHECK --@ x", "HEALTHCHECK @", "STOPSIGNAL @", "FROM @", "FROM @:@", "FROM a AS @", "FROM a AS 1@",
    "FROM a b @", "FROM --platform=@ a", "FROM --@ a", "FROM ${@}", "FROM ${A:-@", "# escape=@",
]  # fmt: skip
SECRET = {"key": "A", "envVar": "A"}
LAYERS: list[dict[str, Any]] = [
    {"@": {}}, {"@": 1}, {"aptPackages": {"packages": ["@;"]}}, {"aptPackages": {"@": 1}},
    {"aptPackages": {"secretMounts": [{"key": "@"}]}},
    {"aptPackages": {"secretMounts": [{"key": "a", "envVar": "@"}]}},
    {"aptPackages": {"secretMounts": [{"key": "@", "groupVersion": "1"}]}},
    {"aptPackages": {"secretMounts": [{"key": "@", "mountRequirement": "@"}]}},
    {"commands": {"cmd": ["@\0"]}}, {"commands": {"cmd": {"@": 1}}}, {"pipPackages": {"packages": ["@ @"]}},
    {"pipPackages": {"packages": ["$@"], "secretMounts": [SECRET]}}, {"pipPackages": {"packages": ["https://a:b@@"]}},
    {"pipPackages": {"packages": ["-@"]}}, {"pipPackages": {"packages": ["/@"]}},
    {"pipPackages": {"options": {"indexUrl": "@"}, "packages": ["a"]}}, {"pipPackages": {"options": {"@": "a"}}},
    {"pipPackages": {"options": {"extraArgs": "--@"}}}, {"pipPackages": {"options": {"extraArgs": "'@"}}},
    {"pipPackages": {"options": {"extraArgs": "--prerelease=@"}}}, {"pipPackages": {"options": {"extraArgs": "$A@"}}},
    {"requirements": {"file": "@"}}, {"requirements": {"file": "r.txt"}}, {"pythonWheels": {"dir": "@"}},
    {"pythonWheels": {"dir": "d", "packageName": "@ @"}}, {"uvProject": {"pyproject": "@"}},
    {"poetryProject": {"pyproject": "d", "poetryLock": "@"}}, {"copyConfig": {"src": "@", "dst": "/"}},
    {"copyConfig": {"src": "../@", "dst": "/"}}, {"copyConfig": {"src": "d", "dst": "${@"}},
    {"workdir": {"workdir": "${@"}},
    {"workdir": {"workdir": "@"}}, {"env": {"envVariables": {"@ ": "b"}}}, {"env": {"envVariables": {"A": "@"}}},
    {"env": {"envVariables": {"LD_@": "b"}}}, {"env": {"envVariables": {"A": "${@ }"}}},
    {"env": {"envVariables": {"A@": "$B@", "B@": "$A@"}}},
]  # fmt: skip


def short(error: FlytedError) -> bool:
    """Report whether both parts of it fit on a screen."""
    return len(error.message) <= MOST and len(error.hint) <= MOST


def longer(value: Any, word: str) -> Any:
    """Return a part of an ImageSpec with ``word`` for each @ of its keys and texts."""
    if isinstance(value, dict):
        return {name.replace("@", word): longer(each, word) for name, each in value.items()}
    if isinstance(value, list):
        return [longer(each, word) for each in value]
    return value.replace("@", word) if isinstance(value, str) else value


@pytest.mark.parametrize("line", LINES)
def test_an_error_about_a_dockerfile_is_short(line: str) -> None:
    """Wherever in an instruction the long word is, in the first of a file or in a later one."""
    for before in ("", "FROM scratch\n", "FROM scratch AS a\nARG A=1\nFROM scratch\n"):
        for length in LENGTHS:
            try:
                found = docker(before + line.replace("@", "x" * length) + "\n")
            except FlytedError as error:
                assert short(error), (before, length, error.message[:300], error.hint[:300])
            else:
                assert found.jobs is not None


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: str(layer)[:60])
def test_an_error_about_a_layer_is_short(layer: dict[str, Any]) -> None:
    """In an image of packages, and in one that is more."""
    for length in LENGTHS:
        word = "X" * length
        files = {"r.txt": f"{word} {word}\n"}
        for base in ("", "nginx", word):
            spec = {"baseImage": base or "auto", "layers": [longer(layer, word)]}
            try:
                recipe = image_from_spec(spec, files, {"d": "1" * 64}, ARCH)
                if isinstance(recipe, RootRecipe):
                    planned(recipe)
                recipe_from_spec(spec, files)
            except FlytedError as error:
                assert short(error), (base[:20], length, error.message[:300], error.hint[:300])
