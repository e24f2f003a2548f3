"""flytectl doctor against a machine that has something wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flyted.daemon.doctor import names
from tests.machine.people import by, join_group


def test_a_name_server_that_apps_cannot_ask_is_named() -> None:
    """A resolver on 127.0.0.1 is closed to apps: doctor says so, with what to do, and is content when it is gone."""
    join_group()
    file = Path("/etc/resolv.conf")
    before = file.read_text()
    try:
        file.write_text("nameserver 127.0.0.1\n")
        bad = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
    finally:
        file.write_text(before)
    good = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
    found, later = ({c["name"]: c for c in checks}["name servers"] for checks in (bad, good))
    assert found["ok"] is False
    assert "127.0.0.1" in found["detail"]
    assert "systemd-resolved" in found["hint"]
    assert later["ok"] is True


@pytest.mark.parametrize(
    ("servers", "ok", "named"),
    [
        (("127.0.0.53",), True, ""),
        (("192.0.2.1", "2001:db8::1"), True, ""),
        ((), True, ""),
        (("127.0.0.1", "192.0.2.1"), None, "127.0.0.1"),
        (("127.0.0.1", "::1"), False, "127.0.0.1, ::1"),
        (("168.63.129.16",), False, "168.63.129.16"),
    ],
)
def test_name_servers_that_apps_cannot_ask_are_named(servers: tuple[str, ...], ok: bool | None, named: str) -> None:
    """None left is a fault, some left a warning; the hint says what to type."""
    check = names(servers)
    assert check.ok is ok
    assert named in check.detail
    assert ok or "systemd-resolved" in check.hint
