"""Keeps what replicas that call other apps need: a file with the number of each, and its /etc/hosts.

They are in memory, and gone after a reboot, as the units are. flyted/net/veth.py reads the numbers, so that an app has
its address when it starts without the daemon.
"""

from __future__ import annotations

from pathlib import Path

from flyted.contract.errors import HostFailure
from flyted.host import whole_file

_NUMBER, _HOSTS = ".number", ".hosts"


def read(folder: Path) -> dict[str, int]:
    """Return replica's server name → number."""
    found = {}
    for path in folder.glob(f"*{_NUMBER}"):
        text = path.read_text("ascii", "replace").strip()
        if text.isascii() and text.isdigit():
            found[path.name.removesuffix(_NUMBER)] = int(text)
    return found


def write(folder: Path, server: str, number: int, hosts: str) -> None:
    """Write a replica's files, or raise :class:`HostFailure` when they cannot be written."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise HostFailure(f"cannot make {folder}: {error.strerror}") from error
    whole_file.update(folder / f"{server}{_HOSTS}", hosts.encode())
    whole_file.update(folder / f"{server}{_NUMBER}", f"{number}\n".encode())


def remove(folder: Path, server: str) -> None:
    """Remove a replica's files, if they are there."""
    for end in (_NUMBER, _HOSTS):
        (folder / f"{server}{end}").unlink(missing_ok=True)
