"""The record of data whose app was deleted: whose it is, and the app that takes it over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.errors import AlreadyExists
from flyted.contract.names import AppKey
from flyted.host.store import Store
from flyted.plan.facts import ImageFact
from tests.values import spec

WEB = AppKey("default", "development", "web")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty one."""
    made = Store(tmp_path / "db")
    yield made
    made.close()


def serve(store: Store, by: str, name: str = "web") -> int:
    """A revision that is recorded, and its number."""
    return store.add_revision(spec(name), ImageFact("/i"), "f", 1.0, by)


def test_the_owner_is_who_deployed_what_served(store: Store) -> None:
    """A failed deploy of somebody else's changes nothing; without one that served, it is the newest."""
    store.serve("web", serve(store, "alice"), 1.0)
    store.fail("web", serve(store, "mallory"), "x", 2.0)
    store.delete("web", kept_since=5.0)
    ((kept),) = store.kept_data.all()
    assert (kept.key, kept.key.id, kept.owner, kept.deleted_at) == (WEB, "web", "alice", 5.0)
    serve(store, "bob", "new")
    store.delete("new", kept_since=6.0)
    assert [each.owner for each in store.kept_data.all()] == ["alice", "bob"]


def test_an_app_of_the_name_takes_it_over(store: Store) -> None:
    """Then there is none that waits; also if nothing was kept, or if it is deleted."""
    serve(store, "alice")
    store.delete("web", kept_since=5.0)
    serve(store, "bob")
    assert store.kept_data.all() == ()
    store.delete("web")
    assert store.kept_data.find(WEB) is None
    serve(store, "alice")
    store.delete("web", kept_since=5.0)
    store.kept_data.remove("web")
    assert store.kept_data.all() == ()


def test_an_app_gets_the_id_that_its_data_is_kept_under(store: Store) -> None:
    """The way in which ids are made may have changed since."""
    store.kept_data.claim(WEB.known_as("web-1234"), "alice", 5.0)
    assert store.known(WEB).id == "web-1234"


def test_no_other_app_gets_it(store: Store) -> None:
    """One with another name and the same id, which is a hash, would."""
    other = AppKey("default", "development", "other").known_as("web")
    store.kept_data.claim(other, "alice", 5.0)
    with pytest.raises(AlreadyExists, match="cannot be distinguished from app 'other'"):
        store.known(WEB)
