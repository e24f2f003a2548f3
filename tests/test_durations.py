"""The order in which machines take modules, and when a module has outgrown its record."""

from __future__ import annotations

import time
from pathlib import Path

from tests import share
from tests.durations import measured, outgrown, parse, recorded, render
from tests.share import FIRST, longest_first, once_per_machine, taken

THEN = {"a": 100.0, "b": 50.0, "c": 50.0}


def test_the_story_is_first_then_the_unknown_then_the_longest() -> None:
    assert longest_first(["c", "new", "a", FIRST], THEN) == [FIRST, "new", "a", "c"]


def test_a_module_is_taken_once(tmp_path: Path) -> None:
    assert taken(tmp_path / "a")
    assert not taken(tmp_path / "a")


def test_a_slow_machine_outgrows_nothing() -> None:
    assert outgrown({module: 5 * took for module, took in THEN.items()}, THEN) == []


def test_a_module_that_takes_three_times_its_share_is_named() -> None:
    said = outgrown({**THEN, "c": 700.0}, THEN)
    assert [sentence.split(":")[0] for sentence in said] == ["c"]
    assert "recorded 25.0%" in said[0]


def test_new_and_small_modules_are_no_reason() -> None:
    assert outgrown({**THEN, "new": 1000.0}, THEN) == []
    assert outgrown({**THEN, "d": 3.0}, {**THEN, "d": 1.0}) == []


def test_modules_that_take_no_time_are_not_weighed() -> None:
    """Of a run with ``-k``, as recorded; that was a division by zero."""
    assert outgrown({"d": 0.1}, {**THEN, "d": 0.0}) == []
    assert outgrown({"a": 0.0}, THEN) == []


def test_the_record_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "tests:x.py").mkdir()
    (tmp_path / "tests:x.py" / "seconds").write_text("12.4")
    (tmp_path / "tests:y.py").mkdir()  # taken, and never done
    assert measured(tmp_path) == {"tests/x.py": 12.4}
    assert parse(render(measured(tmp_path))) == {"tests/x.py": 12.0}


def test_what_is_made_once_for_a_machine_is_no_modules() -> None:
    """A base or an installation would make the module look slow that happens to come first."""
    with once_per_machine():
        time.sleep(0.02)
    assert sum(share._once) >= 0.02


def test_every_recorded_module_is_there() -> None:
    root = Path(__file__).parents[1]
    assert [module for module in recorded() if not (root / module).is_file()] == []
