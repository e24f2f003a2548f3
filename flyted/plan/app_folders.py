"""Defines the units that delete, measure, export and import an app's data. Pure.

The daemon may not look into the folders: they belong to the app's user, who exists only while PID 1 runs a unit.
"""

from __future__ import annotations

from typing import Any

from flyted.contract.names import state_name, user_of
from flyted.launch.words import EXPORT, IMPORT, MEASURE, REFUSE_LINKS, SKIP_LINKS
from flyted.plan.data_folder import STATE
from flyted.plan.layout import Layout
from flyted.plan.sandbox import Network, sandbox

PYTHON = "/usr/bin/python3"
CACHE = "/var/cache/private"
"""The parent of the cache folders of units with a user of their own, as STATE is of the state folders."""
LONGEST_S = 20
TRANSFER_BYTES = 1 << 30
"""The memory that an export or import may take: it holds the names of all files."""
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


def export_unit(app_id: str, output_fd: int, said_fd: int, launch: str = Layout.launch) -> dict[str, Any]:
    """Return a service that writes an app's data to ``output_fd`` and what it says to ``said_fd`` (launch/export.py).

    ``output_fd`` is a file that the client has opened. It goes from the client to the service, and nobody in between
    reads or writes it.
    """
    return {
        "Description": f"Export of the data of Flyte app {app_id}",
        "ExecStartEx": [(PYTHON, [PYTHON, "-IS", launch, EXPORT], ["no-env-expand"])],
        "StandardOutputFileDescriptor": output_fd,
        "StandardErrorFileDescriptor": said_fd,
        **_transfer(app_id),
    }


def import_unit(
    app_id: str, input_fd: int, said_fd: int, *, skip_links: bool, launch: str = Layout.launch
) -> dict[str, Any]:
    """Return a service that replaces an app's data by the archive in ``input_fd`` (launch/unpack_data.py)."""
    links = SKIP_LINKS if skip_links else REFUSE_LINKS
    return {
        "Description": f"Import of the data of Flyte app {app_id}",
        "ExecStartEx": [(PYTHON, [PYTHON, "-IS", launch, IMPORT, links], ["no-env-expand"])],
        "StandardInputFileDescriptor": input_fd,
        "StandardErrorFileDescriptor": said_fd,
        **_transfer(app_id),
    }


def _transfer(app_id: str) -> dict[str, Any]:
    # exec: the job ends with the start, however long the transfer takes
    return {
        **sandbox(Network.NONE),
        **_owner(app_id),
        "Type": "exec",
        "LogLevelMax": _WARNING,
        "CPUWeight": 20,
        "IOWeight": 20,
        "MemoryMax": TRANSFER_BYTES,
        "TasksMax": 16,
        "TimeoutStopUSec": 10_000_000,
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
