"""The units that keep apps frozen."""

from __future__ import annotations

from pathlib import Path

from flyted.contract.names import freezer_of, frozen_by, replica_of
from tests.machine.kit.programs import unit
from tests.machine.kit.units import sh
from tests.machine.kit.users import until

APPS = Path("/sys/fs/cgroup/flyted.slice/flyted-apps.slice")


def freezer(name: str) -> str:
    """The unit that keeps an app frozen."""
    replica = replica_of(unit(name))
    assert replica is not None
    return freezer_of(replica)


def is_frozen_by(what: str) -> bool:
    """As the kernel sees it, not PID 1. It works without flyted."""
    replica = frozen_by(what)
    assert replica is not None
    return "frozen 1" in (APPS / replica.service / "cgroup.events").read_text()


def until_frozen(name: str) -> None:
    """It has been idle for as long as it said."""
    what = freezer(name)
    until(lambda: sh("systemctl", "is-active", what) == "active")
    assert is_frozen_by(what)
