"""What the daemon says about an app: the schema behind ``flytectl app get --json`` and the gateway's answers."""

from __future__ import annotations

import enum

CANNOT_START = "it cannot start: "
"""How the daemon's last words to systemd begin, which keeps them (sd_notify(3): ``STATUS=``)."""


class AppState(enum.StrEnum):
    """A user's word for what an app is doing."""

    DEPLOYING = "deploying"  # the first revision is being built or started
    STARTING = "starting"
    RUNNING = "running"
    SLEEPING = "sleeping"  # scaled to zero; the next request wakes it
    STOPPING = "stopping"
    STOPPED = "stopped"  # by `flytectl app stop`: nothing wakes it
    FAILED = "failed"
    UNKNOWN = "unknown"
