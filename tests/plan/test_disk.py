"""Room on the disk for what an app asks for."""

from __future__ import annotations

import pytest

from flyted.contract.errors import InvalidInput
from flyted.contract.names import AppKey
from flyted.plan.disk import check_room

KEY = AppKey("default", "development", "a")
GIB = 1 << 30


def test_an_app_with_room_is_let_through() -> None:
    """To the byte, and over both file systems where state and cache lie apart."""
    check_room(KEY, 10 * GIB, 0, {"/var/lib": 10 * GIB})
    check_room(KEY, 10 * GIB, 0, {"/var/lib": 4 * GIB, "/var/cache": 6 * GIB})


def test_an_app_without_room_is_told_the_arithmetic() -> None:
    """What it asks for, what there is, and where."""
    with pytest.raises(InvalidInput, match=r"asks for 10.0 GiB of disk; free: 3.5 GiB in /var/lib") as caught:
        check_room(KEY, 10 * GIB, 0, {"/var/lib": 7 * GIB // 2})
    assert "flyte.Resources(disk=" in caught.value.hint
    with pytest.raises(InvalidInput, match=r"1.0 GiB in /var/cache and 3.0 GiB in /var/lib"):
        check_room(KEY, 10 * GIB, 0, {"/var/lib": 3 * GIB, "/var/cache": GIB})


def test_what_an_app_may_have_filled_already_is_not_asked_for_twice() -> None:
    """A model of 8 GiB in its cache must not keep the app from being served again."""
    check_room(KEY, 10 * GIB, 10 * GIB, {"/var/lib": 0})
    check_room(KEY, 4 * GIB, 10 * GIB, {"/var/lib": 0})
    with pytest.raises(InvalidInput, match=r"12.0 GiB of disk \(2.0 GiB more than before\); free: 1.0 GiB"):
        check_room(KEY, 12 * GIB, 10 * GIB, {"/var/lib": GIB})
