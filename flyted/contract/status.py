"""What the daemon says about an app: the schema behind ``flytectl app get --json`` and the gateway's answers."""

from __future__ import annotations

import enum


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
