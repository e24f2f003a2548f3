"""Users and groups of an image, whose lists of them may hold anything."""

from __future__ import annotations

import pytest

from flyted.layers import users
from flyted.layers.failed import Failed

LONG = "9" * 5000  # more digits than int() takes
PASSWD = [
    ["web", "x", "33", "0033", "", "/srv", ""],
    ["long", "x", LONG, "0", "", "/", ""],
    ["no", "x", "", "0", "", "", ""],
]
GROUP = [["web", "x", "33", ""], ["more", "x", "44", "x,web"], ["long", "x", LONG, ""], ["odd", "x", "²", ""]]


@pytest.fixture(autouse=True)
def image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists of an image; reading them is another matter."""
    monkeypatch.setattr(users, "_rows", lambda path, _columns: PASSWD if "passwd" in path else GROUP)


def test_names_and_numbers() -> None:
    assert users.find("web") == users.Owner(33, 33, "/srv", (44,))
    assert users.find("0033") == users.Owner(33, 0, "/", ())
    assert users.find("7:more") == users.Owner(7, 44, "/", ())
    assert users.owner("7") == users.Owner(7, 7, "/", ())


@pytest.mark.parametrize("name", ["long", LONG, "web:long", f"web:{LONG}", "7:odd", "no", "65536"])
def test_what_is_no_number_is_refused_in_a_short_line(name: str) -> None:
    for find in (users.find, users.owner):
        with pytest.raises(Failed, match="are numbers below 65536") as refused:
            find(name)
        assert len(str(refused.value)) < 120
