"""The states of an app, and how a daemon that cannot start says so.

``flytectl app get --json`` and the gateway's answers are made from these states.
"""

from __future__ import annotations

import enum

CANNOT_START = "it cannot start: "
"""The beginning of the daemon's last status (sd_notify(3): ``STATUS=``) when it cannot start; systemd keeps it."""


class AppState(enum.StrEnum):
    """The state of an app, in the word that users see. The word of a newer daemon reads as ``UNKNOWN``."""

    DEPLOYING = "deploying"  # the first revision is being built or started
    STARTING = "starting"
    RUNNING = "running"
    FROZEN = "frozen"  # its processes stand still, in memory; the next request thaws it
    SLEEPING = "sleeping"  # scaled to zero; the next request wakes it
    STOPPING = "stopping"
    STOPPED = "stopped"  # by `flytectl app stop`: no request wakes it
    FAILED = "failed"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> AppState | None:
        return cls.UNKNOWN if isinstance(value, str) else None
