"""Defines the units that delete and measure an app's folders. Pure.

The daemon may not look into the folders: they belong to the app's user, who exists only while PID 1 runs a unit.
"""

from __future__ import annotations

from typing import Any

from flyted.contract.names import state_name, user_of
from flyted.launch.words import MEASURE
from flyted.plan.sandbox import Network, sandbox
from flyted.plan.units import Layout

PYTHON = "/usr/bin/python3"
STATE = "/var/lib/private"
CACHE = "/var/cache/private"
"""The parents of the state and cache folders of units with a user of their own (systemd.exec(5), DynamicUser=)."""
LONGEST_S = 20
_WARNING = 4  # syslog(3)


def folder_of(app_id: str) -> str:
    """Return the folder in which an app keeps its data."""
    return f"{STATE}/{state_name(app_id)}"


def folders_of(app_id: str) -> tuple[str, ...]:
    """Return all folders that systemd keeps for an app: state and cache."""
    return folder_of(app_id), f"{CACHE}/{state_name(app_id)}"


def erase_unit(app_id: str) -> dict[str, Any]:
    """Return a service that does nothing but own an app's folders, so that systemd can be asked to delete them."""
    return {
        "Description": f"Removal of the state of Flyte app {app_id}",
        "ExecStartEx": [("/bin/true", ["/bin/true"], ["no-env-expand"])],
        **_owner(app_id),
    }


def measure_unit(app_id: str, output_fd: int, launch: str = Layout.launch) -> dict[str, Any]:
    """Return a service that measures an app's files and writes the result to ``output_fd`` (launch/measure.py)."""
    return {
        "Description": f"Size of the data of Flyte app {app_id}",
        "ExecStartEx": [(PYTHON, [PYTHON, "-IS", launch, MEASURE], ["no-env-expand"])],
        "TimeoutStartUSec": LONGEST_S * 1_000_000,
        "StandardOutputFileDescriptor": output_fd,
        "LogLevelMax": _WARNING,  # so that PID 1 does not log its start and end
        "CPUWeight": 20,
        **sandbox(Network.NONE),
        **_owner(app_id),
    }


def _owner(app_id: str) -> dict[str, Any]:
    state = state_name(app_id)
    return {
        "Type": "oneshot",
        "DynamicUser": True,
        "User": user_of(app_id),
        "StateDirectory": [state],
        "StateDirectoryMode": 0o700,
        "CacheDirectory": [state],
        "CacheDirectoryMode": 0o700,
        "CollectMode": "inactive-or-failed",
    }
