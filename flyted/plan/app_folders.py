"""The units that act on an app's folders when none of its own does: one deletes them, one counts. Pure.

The daemon may not look into them: they belong to the app's user, whom PID 1 makes for as long as a unit runs.
"""

from __future__ import annotations

from typing import Any

from flyted.contract.names import state_name, user_of
from flyted.plan.sandbox import Network, sandbox
from flyted.plan.units import Layout

PYTHON = "/usr/bin/python3"
STATE = "/var/lib/private"
CACHE = "/var/cache/private"
"""Where systemd keeps the state and the cache of units with a user of their own (systemd.exec(5), DynamicUser=)."""
LONGEST_S = 20
_WARNING = 4  # syslog(3)


def folder_of(app_id: str) -> str:
    """The folder in which an app keeps its data."""
    return f"{STATE}/{state_name(app_id)}"


def folders_of(app_id: str) -> tuple[str, ...]:
    """All folders that an app keeps."""
    return folder_of(app_id), f"{CACHE}/{state_name(app_id)}"


def erase_unit(app_id: str) -> dict[str, Any]:
    """A service that does nothing but own an app's folders, so that systemd can be told to delete them."""
    return {
        "Description": f"Removal of the state of Flyte app {app_id}",
        "ExecStartEx": [("/bin/true", ["/bin/true"], ["no-env-expand"])],
        **_owner(app_id),
    }


def measure_unit(app_id: str, output_fd: int, launch: str = Layout.launch) -> dict[str, Any]:
    """A service that counts an app's files and writes the result to ``output_fd`` (launch/measure.py)."""
    return {
        "Description": f"Size of the data of Flyte app {app_id}",
        "ExecStartEx": [(PYTHON, [PYTHON, "-I", launch, "--measure"], ["no-env-expand"])],
        "TimeoutStartUSec": LONGEST_S * 1_000_000,
        "StandardOutputFileDescriptor": output_fd,
        "LogLevelMax": _WARNING,  # PID 1 does not write that it starts and ends
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
