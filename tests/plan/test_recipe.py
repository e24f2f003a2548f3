"""A recipe on its way to the builder: what its hash depends on, its text, its size."""

from __future__ import annotations

import json

import pytest

from flyted.contract.errors import InvalidInput
from flyted.plan.images.recipe import Install, Machine, Recipe, recipe_hash, recipe_json
from tests.plan.image_specs import HERE, installed


def test_the_hash_is_stable_and_depends_on_what_is_installed_only() -> None:
    """Python, packages, options, their order and the machine count; variables and names of layers do not."""
    recipe = Recipe("3.12", (Install("a", ("x", "y"), ("--no-deps",)),), (("A", "1"),))
    first = recipe_hash(recipe, HERE)
    assert first == "f3fcb88235a2348707596b2b7da0b10a"  # a change of this is a change of format: raise FORMAT
    same = Recipe("3.12", (Install("b", ("x", "y"), ("--no-deps",)),), (("A", "2"),))
    assert recipe_hash(same, HERE) == first
    others = [
        recipe_hash(Recipe("3.13", recipe.installs), HERE),
        recipe_hash(Recipe("3.12", (Install("a", ("y", "x"), ("--no-deps",)),)), HERE),
        recipe_hash(Recipe("3.12", (Install("a", ("x", "y")),)), HERE),
        recipe_hash(
            Recipe("3.12", (Install("a", ("x",), ("--no-deps",)), Install("a", ("y",), ("--no-deps",)))), HERE
        ),
        recipe_hash(recipe, Machine("aarch64", "glibc 2.41", "3.13")),
        recipe_hash(recipe, Machine("x86_64", "glibc 2.36", "3.13")),
        recipe_hash(recipe, Machine("x86_64", "glibc 2.41", "3.11")),
    ]
    assert len({first, *others}) == 8


def test_a_recipe_is_one_line_of_ascii() -> None:
    """It travels in a unit property: no control character, whatever a file's name has in it."""
    text = recipe_json(Recipe("3.12", (Install("layer 1 (r\u00e9q.txt)", ('a; x<"3"', "b # %n")),)))
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["installs"][0]["requirements"] == ['a; x<"3"', "b # %n"]


def test_a_recipe_that_is_too_large_is_refused_with_its_size() -> None:
    """128 KiB: more than any list of direct requirements, less than systemd's line limit."""
    with pytest.raises(InvalidInput, match="KiB of requirements"):
        installed({"requirements": {"file": "r"}}, r="\n".join(f"package-{n}=={n}" for n in range(10_000)))
