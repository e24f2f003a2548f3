"""What the store answers from memory is what a daemon would read that starts now, whatever was done and failed."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError
from flyted.contract.names import AppKey
from flyted.host.store import Store
from flyted.plan.facts import ImageFact
from tests.values import spec

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c")
IMAGE = ImageFact("/i")
Step = Callable[[Store, float], object]


class Failing:
    """A connection whose statement number ``at``, counted from the next one, the disk refuses."""

    def __init__(self, db: sqlite3.Connection, at: int) -> None:
        self._db, self._left = db, at

    def execute(self, *words: Any) -> sqlite3.Cursor:
        """As the connection does, but for the one."""
        self._left -= 1
        if self._left == 0:
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(*words)

    def close(self) -> None:
        """Closes the connection."""
        self._db.close()


def deploy(name: str, command: str) -> Step:
    """A deploy's first record."""
    return lambda store, now: store.add_revision(spec(name, command=("fserve", command)), IMAGE, command, now)


names = st.sampled_from(NAMES)
numbers = st.integers(1, 14)
wanted = st.sampled_from(("started", "stopped", "nonsense"))  # SQLite's own check refuses the last
steps = st.one_of(
    st.builds(deploy, names, st.sampled_from("xyz")),
    st.builds(lambda name, n: lambda store, now: store.serve(name, n, now), names, numbers),
    st.builds(lambda name, n: lambda store, now: store.fail(name, n, "boom", now), names, numbers),
    st.builds(lambda name, w: lambda store, now: store.want(name, w, now), names, wanted),
    st.builds(lambda name: lambda store, _now: store.delete(name), names),
    st.just(lambda store, now: store.fail_pending("cut off", now)),
)  # fmt: skip


@settings(max_examples=settings().max_examples * 3 // 5, deadline=None)
@given(st.lists(st.tuples(steps, st.integers(0, 12)), max_size=12))
def test_the_answers_are_those_of_a_store_that_is_opened_now(sequence: list[tuple[Step, int]]) -> None:
    """After each transaction, also one whose n-th statement failed, COMMIT among them: nothing of it is in memory."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "db"))
        real = store.database._db
        real.execute("PRAGMA synchronous = OFF")
        for now, (step, fails_at) in enumerate(sequence):
            store.database._db = Failing(real, fails_at)  # type: ignore[assignment]
            with contextlib.suppress(FlytedError):
                step(store, float(now % 7))  # the clock may be set back
            store.database._db = real
            with contextlib.closing(Store(Path(folder, "db"))) as fresh:
                assert store.apps() == fresh.apps()
                assert store.ids() == {app.key.id for app in fresh.apps()}
                for name in NAMES:
                    key = AppKey("default", "development", name)
                    assert store.find(key) == fresh.find(key)
        store.close()


def test_no_question_reads_the_file(tmp_path: Path) -> None:
    """After the store is opened, only changes go to SQLite."""
    store = Store(tmp_path / "db")
    store.add_revision(spec("a"), IMAGE, "f", 1.0)
    asked: list[str] = []
    store.database._db.set_trace_callback(asked.append)
    assert store.find(AppKey("default", "development", "a")) == store.app("a") == store.apps()[0]
    assert store.ids() == {"a"}
    assert store.known(AppKey("default", "development", "b")).id == "b"
    assert asked == []
    store.close()
