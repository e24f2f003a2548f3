"""Names of bundles: what is no digest, comes twice or is too many is refused where it is first read."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract import wire
from flyted.contract.bundles import MOST, checked, of_image
from flyted.contract.errors import InvalidInput
from tests.values import spec

ONE, TWO = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("digests", "words"),
    [
        (ONE, None), ([ONE, TWO], None), ([], None), ([ONE, ONE], "twice"), ([ONE[1:]], "SHA-256"), ([""], "SHA-256"),
        ([ONE.upper()], "SHA-256"), ([f"{ONE}\n"], "SHA-256"), ([1], "SHA-256"), (None, "SHA-256"), ({}, "SHA-256"),
        ([f"{n:064x}" for n in range(MOST)], None), ([f"{n:064x}" for n in range(MOST + 1)], "too many"),
    ],
)  # fmt: skip
def test_the_digests_of_a_request(digests: object, words: str | None) -> None:
    if words is None:
        assert checked(digests) == (tuple(digests) if isinstance(digests, list) else (digests,))
        return
    with pytest.raises(InvalidInput, match=words):
        checked(digests)
    with pytest.raises(InvalidInput, match=words):
        _ = wire.Request("v", {"bundles": digests}).bundles


def test_what_an_image_copies_is_named_once() -> None:
    """Two paths with the same content are one bundle."""
    assert of_image({"folders": {"x": TWO, "y": ONE, "z": TWO}}) == (ONE, TWO)
    assert of_image({}) == of_image({"folders": None}) == ()


@pytest.mark.parametrize("folders", [[ONE], "x", {"x": 1}, {"x": ["y"]}, {"x": None}, {"x": "/etc/shadow"}])
def test_folders_that_are_no_map_of_digests_are_refused(folders: Any) -> None:
    """Before a path is made of one."""
    with pytest.raises(InvalidInput):
        spec("a", image={"spec": {}, "folders": folders})


def test_an_app_names_its_code_and_what_its_image_copies() -> None:
    """Together no more than a request carries."""
    assert spec("a", bundle=TWO, image={"spec": {}, "folders": {"x": ONE, "y": TWO}}).bundles == (TWO, ONE)
    folders = {f"{n}": f"{n:064x}" for n in range(MOST)}
    assert len(spec("a", image={"spec": {}, "folders": folders}).bundles) == MOST
    with pytest.raises(InvalidInput, match="too many"):
        spec("a", bundle=ONE, image={"spec": {}, "folders": folders})
