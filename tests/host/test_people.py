"""Membership is asked of the name service, with name and number together."""

from __future__ import annotations

import grp
import pwd
from types import SimpleNamespace

import pytest

from flyted.host import people


def test_root_may() -> None:
    """Whatever groups there are."""
    assert people.name_of(0) == "root"
    if any(g.gr_name == people.GROUP for g in grp.getgrall()):
        assert people.may_operate(0, "root")


@pytest.fixture
def _passwd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users root, bob (member), dora (by primary group) and eve (no member)."""
    users = {0: ("root", 0), 1001: ("bob", 1001), 1002: ("dora", 500), 1003: ("eve", 1003)}

    def getpwuid(uid: int) -> SimpleNamespace:
        name, gid = users[uid]
        return SimpleNamespace(pw_name=name, pw_gid=gid)

    def getgrnam(name: str) -> SimpleNamespace:
        return SimpleNamespace(gr_gid={people.GROUP: 500}[name])

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    monkeypatch.setattr(grp, "getgrnam", getgrnam)
    monkeypatch.setattr("os.getgrouplist", lambda name, gid: [gid, 500] if name == "bob" else [gid])


@pytest.mark.usefixtures("_passwd")
@pytest.mark.parametrize(
    ("uid", "name", "may"),
    [
        (0, "root", True), (1001, "bob", True), (1002, "dora", True), (1003, "eve", False),
        (1001, "eve", False), (1003, "bob", False), (0, "bob", False), (4711, "4711", False), (1001, "", False),
    ],
)  # fmt: skip
def test_members_and_root_may_and_nobody_else(uid: int, name: str, may: bool) -> None:
    """By supplementary or primary group; never under a name that is another's, or by a number that is nobody's."""
    assert people.may_operate(uid, name) is may


def test_without_the_group_nobody_but_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was deleted: no member is left."""

    def gone(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(grp, "getgrnam", gone)
    assert people.may_operate(0, "root")
    other = next((u for u in pwd.getpwall() if u.pw_uid != 0), None)
    if other is not None:
        assert not people.may_operate(other.pw_uid, other.pw_name)


def test_a_user_without_a_name_is_called_by_its_number() -> None:
    """A dynamic user of a unit, say."""
    assert people.name_of(2_000_000_123) == "2000000123"
