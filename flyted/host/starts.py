"""Files from which PID 1 reads what an app is told at its start (``plan.start``): for root alone, gone at a reboot.

A file belongs to a unit, which names it in ``LoadCredential=``, and is there as long as the unit is. So an app starts
without the daemon.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container
from pathlib import Path

from flyted.contract.errors import HostFailure
from flyted.host import whole_file


def write(path: Path, data: bytes) -> None:
    """Raises :class:`HostFailure` when it cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HostFailure(f"cannot make {path.parent}: {error.strerror}") from error
    whole_file.write(path, data, 0o600)


def read(path: Path) -> bytes:
    """A unit's; nothing where there is none, as for one that flyted 0.1.0 made."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def remove(path: Path) -> None:
    """Forgets a unit's; it may not be there."""
    path.unlink(missing_ok=True)


def sweep(folder: Path, units: Container[str]) -> None:
    """Removes the files of units that are not there any more."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.name not in units:
                path.unlink(missing_ok=True)
