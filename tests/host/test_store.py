"""What the user wants survives crashes and full disks, and is never guessed from a damaged file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import AlreadyExists, InvalidInput, NotFound, StoreCorrupt
from flyted.contract.names import AppKey, Replica
from flyted.host.database import FORMATS, WAY_BACK
from flyted.host.store import KEPT_FAILURES, KEPT_REVISIONS, Store
from flyted.host.tokens import Tokens
from flyted.plan.facts import ImageFact
from flyted.plan.ingress.pools import POOLS
from flyted.plan.tokens import Token
from tests.values import spec

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes every database that a test opened: Python 3.13 complains of the others."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remembered(*words: Any, **named: Any) -> sqlite3.Connection:
        opened.append(connect(*words, **named))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remembered)
    yield
    for connection in opened:
        connection.close()


ROOT = Path(__file__).parent.parent.parent
IMAGE = ImageFact("/i", "h", "3.13.5", "3.12", "note", (("A", "b"),))


def test_a_revision_comes_back_as_it_went(tmp_path: Path) -> None:
    """Spec, image and fingerprint survive a restart of the daemon."""
    store = Store(tmp_path / "db")
    assert store.add_revision(spec("a", memory_bytes=5 << 20), IMAGE, "f", 1.0) == 1
    store.serve("a", 1, 2.0)
    store.close()
    app = Store(tmp_path / "db").app("a")
    assert (app.serving, app.wanted, app.created_at, app.updated_at) == (1, "started", 1.0, 2.0)
    assert app.current is not None
    assert (app.current.spec, app.current.image, app.current.fingerprint) == (
        spec("a", memory_bytes=5 << 20),
        IMAGE,
        "f",
    )


def test_a_failed_deploy_leaves_the_old_revision_serving(tmp_path: Path) -> None:
    """The new one is on record with its reason; ``serving`` has not moved."""
    store = Store(tmp_path / "db")
    store.add_revision(spec(), IMAGE, "f", 1.0)
    store.serve("a", 1, 1.5)
    assert store.add_revision(spec(), IMAGE, "g", 2.0) == 2
    store.fail("a", 2, "it exited", 3.0)
    store.want("a", "started", 4.0)  # a deploy that changes nothing
    app = store.app("a")
    assert (app.serving, app.serving_since) == (1, 1.5)
    assert [(r.number, r.status, r.reason) for r in app.revisions] == [(1, "ready", ""), (2, "failed", "it exited")]


def test_a_deploy_that_was_cut_off_is_a_failed_one(tmp_path: Path) -> None:
    """After a crash no revision stays pending, and numbers are never used twice."""
    store = Store(tmp_path / "db")
    store.add_revision(spec(), IMAGE, "f", 1.0)
    store.fail_pending("cut off", 2.0)
    assert store.app("a").revisions[0].status == "failed"
    assert store.add_revision(spec(), IMAGE, "f", 3.0) == 2


def test_old_revisions_are_forgotten_but_not_what_serves(tmp_path: Path) -> None:
    """The last few stay."""
    store = Store(tmp_path / "db")
    for _ in range(KEPT_REVISIONS + 5):
        store.serve("a", store.add_revision(spec(), IMAGE, "f", 1.0), 1.0)
    app = store.app("a")
    assert len(app.revisions) == KEPT_REVISIONS
    assert app.current is app.revisions[-1]


def test_only_the_last_failures_are_kept(tmp_path: Path) -> None:
    """Each holds a code bundle; what serves stays however often its next revision fails, and numbers go on."""
    store = Store(tmp_path / "db")
    store.serve("a", store.add_revision(spec(), IMAGE, "f", 1.0), 1.0)
    for number in range(2, 10):
        assert store.add_revision(spec(), IMAGE, "f", 1.0) == number
        store.fail("a", number, "it exited", 1.0)
    assert [r.number for r in store.app("a").revisions] == [1, *range(10 - KEPT_FAILURES, 10)]
    assert store.app("a").serving == 1


ONE, OTHER = (f"two-apps-that-would-share-one-user-{number}-and-more" for number in ("089332", "123876"))
"""Their hashes are the same where a user's name has room for 32 bits only."""


def test_two_names_are_never_one_app(tmp_path: Path) -> None:
    """The second is refused before anything of it is on record, and says why; deleted, the first is not in its way."""
    store = Store(tmp_path / "db")
    store.add_revision(spec(ONE), IMAGE, "f", 1.0)
    for attempt in (lambda: store.known(spec(OTHER).key), lambda: store.add_revision(spec(OTHER), IMAGE, "f", 2.0)):
        with pytest.raises(AlreadyExists, match=f"app '{OTHER}' cannot be distinguished from app '{ONE}'"):
            attempt()
    assert [app.key.name for app in store.apps()] == [ONE]
    assert len(store.apps()[0].revisions) == 1
    store.delete(store.apps()[0].key.id)
    assert store.add_revision(spec(OTHER), IMAGE, "f", 3.0) == 1


def test_an_app_keeps_the_id_that_flyted_0_1_0_gave_it(tmp_path: Path) -> None:
    """A shorter hash, in its units, folders and address: nothing of it moves, and no other app gets it."""
    store = Store(tmp_path / "db")
    key = AppKey("shop", "production", "api")
    old = "api-shop-production-9be7a2bb"
    with store.database.transaction():
        store.database.execute(
            "INSERT INTO app (id, project, domain, name, wanted, serving, created_at, updated_at)"
            " VALUES (?, 'shop', 'production', 'api', 'started', NULL, 1.0, 1.0)",
            (old,),
        )
    store.close()
    store = Store(tmp_path / "db")
    assert key.id != old
    assert store.known(key).id == old
    assert store.known(key) == key
    shop = dataclasses.replace(spec(), key=key)
    store.serve(old, store.add_revision(shop, IMAGE, "f", 2.0), 2.0)
    (app,) = store.apps()
    assert (app.key.id, app.current and app.current.spec.key.id) == (old, old)
    assert app.current is not None
    assert app.current.spec.digest() == shop.digest(), "it is unchanged when it is served again"
    assert AppKey("default", "development", old).id != old


def test_delete_forgets_everything(tmp_path: Path) -> None:
    """Its revisions too: a new app of the name begins at 1."""
    store = Store(tmp_path / "db")
    store.add_revision(spec(), IMAGE, "f", 1.0)
    store.delete("a")
    with pytest.raises(NotFound):
        store.app("a")
    assert store.add_revision(spec(), IMAGE, "f", 1.0) == 1


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    """Said by name; the evidence is not overwritten."""
    (tmp_path / "db").write_bytes(content)
    with pytest.raises(StoreCorrupt, match="db"):
        Store(tmp_path / "db").apps()
    assert (tmp_path / "db").read_bytes() == content


@pytest.mark.parametrize("fault", [KeyError("x"), TypeError("x"), ValueError("x")])
def test_a_fault_of_ours_in_a_transaction_is_not_told_as_damage(tmp_path: Path, fault: Exception) -> None:
    """It goes on as what it is, and nothing has changed: nobody restores a good database from a backup."""
    store = Store(tmp_path / "db")
    store.add_revision(spec(), IMAGE, "f", 1.0)
    database = store.database
    for begin in (database.transaction, database.freeing):
        with pytest.raises(type(fault)) as caught, begin():
            database.execute("DELETE FROM app")
            raise fault
        assert caught.value is fault
        assert database.rows("SELECT count(*) FROM app") == [(1,)]


@pytest.mark.parametrize("column", ["spec", "image", "notes"])
@pytest.mark.parametrize("content", ["[]", "7", "null", '"a"', "{", '{"a": 1}', "[[1]]"])
def test_an_entry_of_another_form_is_told_as_damage(tmp_path: Path, column: str, content: str) -> None:
    """Whatever it is: no traceback of ours."""
    Store(tmp_path / "db").add_revision(spec(), IMAGE, "f", 1.0)
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute(f"UPDATE revision SET {column} = ?", (content,))
    with contextlib.suppress(StoreCorrupt):
        Store(tmp_path / "db").apps()


@pytest.mark.parametrize("content", ['{"a": 1}', "[[", "{}"])
def test_a_revision_that_cannot_be_read_is_told_with_the_way_back(tmp_path: Path, content: str) -> None:
    """As one of a newer flyted, whose apps may say more."""
    Store(tmp_path / "db").add_revision(spec(), IMAGE, "f", 1.0)
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("UPDATE revision SET spec = ?", (content,))
    with pytest.raises(StoreCorrupt) as caught:
        Store(tmp_path / "db").apps()
    assert caught.value.hint == WAY_BACK


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A downgrade never rewrites what it does not understand."""
    db = sqlite3.connect(tmp_path / "db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreCorrupt, match="format 99"):
        Store(tmp_path / "db")


def test_a_file_of_every_older_format_is_brought_up_to_date(tmp_path: Path) -> None:
    """What it holds is kept, and what is new can be stored."""
    for old in range(1, len(FORMATS)):
        path = tmp_path / f"db{old}"
        db = sqlite3.connect(path)
        for number, step in enumerate(FORMATS[:old], 1):
            db.executescript(f"{step} PRAGMA user_version = {number}")
        db.execute(
            "INSERT INTO app (id, project, domain, name, wanted, serving, created_at, updated_at)"
            " VALUES ('a', 'p', 'd', 'n', 'started', NULL, 1.0, 1.0)"
        )
        db.commit()
        db.close()
        store = Store(path)
        assert store.app("a").key.name == "n"
        Tokens(store.database).add(Token("d", "i", "named", "bob", 1, "", "n", 1.0, 2.0))
        assert len(Tokens(store.database).all()) == 1


WRITER = """
import sys
from flyted.host.store import Store
from tests.host.test_store import IMAGE
from tests.values import spec
from pathlib import Path
store = Store(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    number = store.add_revision(spec(), IMAGE, "f", 1.0)
    store.serve("a", number, 1.0)
    print(number, flush=True)
"""


def test_kill_9_of_the_writer_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """Whatever was reported done is there afterwards, and the file is sound."""
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "db")], cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
        told = int((rest.splitlines() or lines)[-1] or lines[-1])
        app = Store(tmp_path / "db").app("a")
        assert app.serving is not None
        assert app.serving >= told


def test_a_revision_keeps_who_deployed_it_and_what_it_said(tmp_path: Path) -> None:
    """One of an older format has nobody."""
    store = Store(tmp_path / "flyted.db")
    store.add_revision(spec(), IMAGE, "f", 1.0, "alice")
    store.add_revision(spec(), IMAGE, "g", 2.0, "bob")
    store.serve("a", 2, 3.0, ("said",))
    for opened in (store, Store(tmp_path / "flyted.db")):
        assert [revision.deployed_by for revision in opened.app("a").revisions] == ["alice", "bob"]
        assert [revision.notes for revision in opened.app("a").revisions] == [(), ("said",)]


def test_an_app_of_several_replicas_has_a_pool_of_its_own(tmp_path: Path) -> None:
    """From its first revision that may have them until it is deleted; then the next app gets it."""
    store = Store(tmp_path / "db")
    for name, most in (("one", 1), ("a", 2), ("b", 3)):
        store.add_revision(spec(name, max_replicas=most), IMAGE, "f", 1.0)
    assert [store.app(name).pool for name in ("one", "a", "b")] == [None, 0, 1]
    store.add_revision(spec("a"), IMAGE, "g", 2.0)
    store.add_revision(spec("one", max_replicas=2), IMAGE, "g", 2.0)
    assert [store.app(name).pool for name in ("one", "a", "b")] == [2, 0, 1]
    store.delete("a")
    store.close()
    again = Store(tmp_path / "db")
    assert [again.app(name).pool for name in ("one", "b")] == [2, 1]
    again.add_revision(spec("c", max_replicas=2), IMAGE, "f", 3.0)
    assert again.app("c").pool == 0


def test_there_are_as_many_pools_as_the_ingress_has(tmp_path: Path) -> None:
    """The next app is refused, and nothing of it is stored; one that has a pool is not."""
    store = Store(tmp_path / "db")
    for number in range(POOLS):
        store.add_revision(spec(f"a{number}", max_replicas=2), IMAGE, "f", 1.0)
    with pytest.raises(InvalidInput, match=f"{POOLS} apps of this machine"):
        store.add_revision(spec("b", max_replicas=2), IMAGE, "f", 1.0)
    with pytest.raises(NotFound):
        store.app("b")
    store.add_revision(spec("b"), IMAGE, "f", 1.0)
    assert store.add_revision(spec("a5", max_replicas=3), IMAGE, "g", 1.0) == 2


def test_a_pool_that_its_app_does_not_need_is_given_away_when_there_is_no_other(tmp_path: Path) -> None:
    """Not before: a check changes nothing, and an app that has one keeps it. The other app has none from then on."""
    store = Store(tmp_path / "db")
    for number in range(POOLS - 1):
        store.add_revision(spec(f"a{number}", max_replicas=2), IMAGE, "f", 1.0)
    store.add_revision(spec("b", max_replicas=2), IMAGE, "f", 1.0, unused=["a7"])
    assert (store.app("b").pool, store.app("a7").pool) == (POOLS - 1, 7)
    assert store.check_pool(spec("c", max_replicas=2), ["a9", "a7"]) == 7
    assert store.app("a7").pool == 7
    store.add_revision(spec("c", max_replicas=2), IMAGE, "f", 1.0, unused=["a9", "a7"])
    assert (store.app("c").pool, store.app("a7").pool, store.app("a9").pool) == (7, None, 9)
    store.close()
    again = Store(tmp_path / "db")
    assert (again.app("c").pool, again.app("a7").pool) == (7, None)


def test_the_replicas_that_a_revision_has_had_are_known(tmp_path: Path) -> None:
    """So many as there were at most, beyond those that it always has: their lines are its log."""
    store = Store(tmp_path / "db")
    for name, least in (("a", 0), ("b", 2)):
        store.add_revision(spec(name, min_replicas=least, max_replicas=64), IMAGE, "f", 1.0)
        store.begun(Replica(name, 1))
    assert store.app("a").revisions[0].replicas == 0
    before = store.app("a")
    for number in (0, 3, 1):
        store.begun(Replica("a", 1, number))
    assert [each.number for each in store.app("a").replicas_so_far(1)] == [0, 1, 2, 3]
    assert [each.number for each in store.app("b").replicas_so_far(1)] == [0, 1]
    assert store.app("a") is not before
    store.serve("a", 1, 2.0)
    store.close()
    again = Store(tmp_path / "db")
    assert len(again.app("a").replicas_so_far(1)) == 4
    again.add_revision(spec("a", max_replicas=64), IMAGE, "g", 3.0)
    assert len(again.app("a").replicas_so_far(2)) == 1
