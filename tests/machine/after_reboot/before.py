"""Before the reboot: an app that serves, one that sleeps, one that is stopped, a secret. after.py looks at them."""

from __future__ import annotations

from tests.machine.lively import serve
from tests.machine.people import alice, curl, join_group


def test_apps_to_come_back_to() -> None:
    """Three wanted states, all of them real before the machine goes down."""
    join_group()
    alice("sudo", "flytectl", "ca", "install")
    alice("flytectl", "secret", "create", "REBOOT", "-", "--replace", typed="kept over a reboot")
    for name in ("boot-serves", "boot-sleeps", "boot-stopped"):
        assert curl(serve(name))[0] == 200
    alice("flytectl", "app", "sleep", "boot-sleeps")
    alice("flytectl", "app", "stop", "boot-stopped")
