"""Writes the files from which PID 1 reads an app's variables and arguments at its start (``plan.start``).

They are for root alone, and gone after a reboot. A file belongs to a unit, which names it in ``LoadCredential=``, and
is there as long as the unit is. So an app starts without the daemon.

No other user sees them, and any text arrives unchanged, since units do not contain it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container
from pathlib import Path

from flyted.contract.errors import HostFailure
from flyted.host import whole_file


def write(path: Path, data: bytes) -> None:
    """Write a unit's file, or raise :class:`HostFailure` when it cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HostFailure(f"cannot make {path.parent}: {error.strerror}") from error
    whole_file.write(path, data, 0o600)


def read(path: Path) -> bytes:
    """Return the bytes of a unit's file; none if there is no file, as for a unit that flyted 0.1.0 made."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def remove(path: Path) -> None:
    """Remove a unit's file, if it is there."""
    path.unlink(missing_ok=True)


def sweep(folder: Path, units: Container[str]) -> None:
    """Remove the files of units that are not there any more."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.name not in units:
                path.unlink(missing_ok=True)
