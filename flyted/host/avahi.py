"""Says whether Avahi runs, which announces names in the local network (``flyted/mdns``)."""

from __future__ import annotations

from pathlib import Path

_GROUP = Path("/sys/fs/cgroup/system.slice/avahi-daemon.service")


def runs() -> bool:
    """Report whether Avahi's daemon runs: systemd removes a unit's control group with its last process.

    Avahi itself leaves its PID file behind, and a call to its socket or bus name would start it.
    """
    return _GROUP.exists()
