"""Which process's namespace an app is connected to."""

from __future__ import annotations

import os
import subprocess

import pytest

from flyted.net import plan, veth
from flyted.net.netlink import Failed


def test_only_who_holds_the_routers_namespace_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the router begins its processes are in the machine's own network: no veth pair may go there."""
    monkeypatch.setattr(veth, "_LOOKS", 2)
    monkeypatch.setattr(veth, "_listed", lambda: ["4194304", str(os.getpid())])
    with pytest.raises(Failed, match="is not running"):
        veth.router()
    with subprocess.Popen([plan.HOLD, "60"]) as holder:
        monkeypatch.setattr(veth, "_listed", lambda: [str(os.getpid()), str(holder.pid)])
        try:
            assert veth.router() == holder.pid
        finally:
            holder.kill()


def test_without_a_router_there_is_nobody() -> None:
    """Here runs none: neither its cgroup nor what tells of it need be there."""
    assert veth._listed() == []
