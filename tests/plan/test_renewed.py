"""What a rebuild makes anew, and what counts afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from flyted.plan.images.layers import Pulled, plan_of
from flyted.plan.images.renewed import Renewed, renewed_id
from flyted.plan.images.root import (
    Copy,
    DebianBase,
    ImageConfig,
    OciBase,
    RootPlan,
    RootRecipe,
    Run,
    Scratch,
    Stage,
    StageBase,
)
from flyted.plan.images.text import literal

ONE, TWO = Run("a", "apt-get install git", "git"), Run("b", "make", "make")
COPY = Copy("c", (literal("src"),), literal("/srv/"))
FROM = Copy("d", (literal("/built"),), literal("/srv/"), stage=0)
FOLDERS = ((".", "a" * 64),)
BASE = {"base": Pulled(((f"sha256:{'b' * 64}", "tar"),), ImageConfig())}
NEWER = {"base": Pulled(((f"sha256:{'c' * 64}", "tar"),), ImageConfig())}


def plan(
    *stages: Stage, pulled: Mapping[str, Pulled] = BASE, known: Mapping[str, str] | None = None, stamp: str = ""
) -> RootPlan:
    return plan_of(RootRecipe(stages, FOLDERS), "x86_64", pulled, known or {}, stamp)


def kinds(made: RootPlan, other: RootPlan) -> list[str]:
    """The steps whose layers another plan has not."""
    theirs = {job.id for job in other.jobs}
    return [job.job["step"]["kind"] for job in made.jobs if job.id not in theirs]


@pytest.mark.parametrize(
    ("stage", "again"),
    [
        (Stage(OciBase("base"), (ONE, COPY, TWO)), ["run", "copy", "run"]),
        (Stage(OciBase("base"), (COPY, ONE)), ["run"]),
        (Stage(DebianBase("bookworm", ("git",)), (COPY,)), ["debian", "copy"]),
        (Stage(OciBase("base"), (COPY,)), []),
        (Stage(OciBase("base")), []),
    ],
)
def test_what_ages_is_made_again_with_all_upon_it(stage: Stage, again: list[str]) -> None:
    """What is named by its content stays: a base and a copy. Each rebuild has layers of its own."""
    old, new, other = plan(stage), plan(stage, stamp="one"), plan(stage, stamp="two")
    assert kinds(new, old) == kinds(new, other) == again
    assert len(new.renewed) == bool(again)
    assert (old.keys, new.keys) == ((), tuple(dict(new.renewed)))
    assert plan(stage, stamp="one") == new
    for job in new.jobs:
        assert json.loads(job.text)["layer"] == job.id


@pytest.mark.parametrize("pulled", [BASE, NEWER])
def test_what_was_rebuilt_counts_for_whoever_needs_it(pulled: Mapping[str, Pulled]) -> None:
    """The same recipe gives the rebuilt image, another one that begins alike its first layers."""
    stage = Stage(OciBase("base"), (ONE, COPY))
    new = plan(stage, pulled=pulled, stamp="one")
    known = dict(new.renewed)
    assert plan(stage, pulled=pulled, known=known).layers == new.layers
    assert plan(stage, pulled=pulled, known={**known, "f" * 32: "0" * 32}).keys == tuple(known)
    longer = plan(Stage(OciBase("base"), (ONE, COPY, TWO)), pulled=pulled, known=known)
    assert longer.layers[:-1] == new.layers
    assert kinds(plan(Stage(OciBase("base"), (TWO,)), known=known), plan(Stage(OciBase("base"), (TWO,)))) == []


def test_a_second_rebuild_takes_the_place_of_the_first() -> None:
    """The same keys: nothing is left of the first."""
    stage = Stage(OciBase("base"), (ONE, TWO))
    first = plan(stage, stamp="one")
    second = plan(stage, known=dict(first.renewed), stamp="two")
    assert set(dict(first.renewed)) == set(dict(second.renewed))
    assert not set(second.layers[1:]) & set(first.layers)
    known = {**dict(first.renewed), **dict(second.renewed)}
    assert plan(stage, known=known).layers == second.layers


@pytest.mark.parametrize("base", [Scratch(), OciBase("base"), StageBase(0)])
def test_stages_that_are_copied_from_are_made_again(base: Scratch | OciBase | StageBase) -> None:
    """And what is copied from them is another layer by that; a command upon it too."""
    stages = Stage(OciBase("base"), (ONE,)), Stage(base, (FROM, TWO))
    old, new = plan(*stages), plan(*stages, stamp="one")
    assert kinds(new, old) == ["run", "copy", "run"]
    assert len(new.renewed) == 1
    assert plan(*stages, known=dict(new.renewed)).layers == new.layers
    assert plan(*stages, known=dict(new.renewed)).jobs == new.jobs


def test_a_command_on_a_newer_base_is_made_again_where_another_image_has_it_already() -> None:
    """The newer base may have had it for a month."""
    stage = Stage(OciBase("base"), (ONE,))
    assert kinds(plan(stage, pulled=NEWER, stamp="one"), plan(stage, pulled=NEWER)) == ["run"]


def test_a_rebuild_can_be_taken_back() -> None:
    """What counted before it does again; another one since then stays."""
    before = Renewed({"a": "1", "z": "0"}, {"i": "j"})
    last = Renewed({"a": "2", "b": "3"}, {"j": "k"})
    now = before.plus(last)
    assert now == Renewed({"a": "2", "z": "0", "b": "3"}, {"i": "j", "j": "k"})
    assert now.undone(last, before) == before
    since = now.plus(Renewed({"a": "4"}, {"k": "l"}))
    assert since.undone(last, before) == Renewed({"a": "4", "z": "0"}, {"i": "j", "k": "l"})
    assert Renewed().undone(last, before) == Renewed()


def test_what_is_gone_from_the_disk_is_forgotten() -> None:
    """As soon as neither the old layer nor the new one is there, since what is made then is new anyway."""
    known = Renewed({"a": "1", "b": "2", "c": "3"}, {"i": "j", "k": "l"})
    assert known.needed({"a", "2", "i", "l"}, ()) == Renewed({"a": "1", "b": "2"}, {"i": "j"})
    assert known.needed((), {"c"}) == Renewed({"c": "3"})
    assert known.needed((), ()) == Renewed()


def test_an_image_says_what_it_was_rebuilt_as_last() -> None:
    """Through all rebuilds; also if a file says that they go in a circle."""
    known = Renewed({}, {"a": "b", "b": "c", "x": "y", "y": "x"})
    assert [known.rebuilt_as(each) for each in "abcx"] == ["c", "c", "", "y"]


def test_ids_of_rebuilds_are_like_others() -> None:
    """32 hex digits, one for each key and stamp."""
    ids = {renewed_id(key, stamp) for key in "ab" for stamp in "cd"}
    assert len(ids) == 4
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in ids)
