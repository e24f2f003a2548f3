"""Apps that want each other's names, in whatever order they come."""

from __future__ import annotations

from typing import Any

import pytest

from tests.daemon.life import Life
from tests.daemon.rest import rest


def test_a_name_that_is_taken_while_an_image_is_built(life: Life) -> None:
    """An app of that name is deployed meanwhile: it keeps its name, and its visitors."""
    slow = life.serve("a", build="httpx", subdomain="chat")
    life.run(0.05)
    assert slow.end == ""
    quick = life.serve("chat")
    life.run(100)
    assert quick.end == "done"
    assert slow.end.startswith("AlreadyExists: subdomain='chat' is a name of app 'chat'")
    assert life.haproxy.state.names == {}
    rest(life)


@pytest.mark.parametrize("field", [{"subdomain": "chat"}, {"custom_domain": "chat.example.com"}])
def test_one_name_for_two(life: Life, field: dict[str, Any]) -> None:
    """The first one to be ready has it; the other one is as it was before."""
    first, second = life.serve("a", build="httpx", **field), life.serve("b", build="httpx", **field)
    life.run(200)
    assert sorted(each.end.partition(":")[0] for each in (first, second)) == ["AlreadyExists", "done"]
    rest(life)


def test_an_app_that_gives_its_name_up(life: Life) -> None:
    """With a new revision, or its deletion, others may have it."""
    named: dict[str, Any] = {"subdomain": "chat"}
    for app, field in (("a", named), ("a", {}), ("b", named)):
        asked = life.serve(app, **field)
        life.run(100)
        assert asked.end == "done"
    assert life.haproxy.state.names == {"chat.apps.localhost": "b.apps.localhost"}
    life.call("delete", "b", keep_data=False)
    life.run(100)
    assert life.serve("chat")
    life.run(100)
    assert life.haproxy.state.names == {}
    rest(life)
