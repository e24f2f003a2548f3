"""Looks for a secret everywhere on the machine where it could lie in the clear."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.machine.kit.users import until

PLACES = ("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var")
LARGEST = 64 << 20
MAPPED = ("/run/", "/var/log/")
"""Where files are written through mappings, of which their ctime need not tell."""
SETTLED_S = 60
"""So old is the last change of a file that another change will show: the kernel writes mappings back in half of it."""
SKIPPED = ("credentials",)  # /run/credentials: memory that only the unit and root see, which is the point
_BUS = Path("/dev/shm/dbus.log")


def forms(value: str) -> list[bytes]:
    """The value, and what it looks like in base64 and hex; base64 at each of the three offsets."""
    raw = value.encode()
    shifted = [base64.b64encode(b"x" * n + raw)[4 if n else 0 : -4] for n in range(3)]
    return [raw, raw.hex().encode(), raw.hex().upper().encode(), *shifted]


class Search:
    """For some values, in any form."""

    def __init__(self, *values: str) -> None:
        needles = {needle for value in values for needle in forms(value)}
        self._needles = [each for each in needles if not any(other in each for other in needles - {each})]
        self._clean: dict[tuple[int, int], tuple[int, int]] = {}  # inode → ctime and size, when it held none

    def holds(self, data: bytes) -> bool:
        """Whether one of them is in it."""
        return any(needle in data for needle in self._needles)

    def found(self) -> list[str]:
        """Where they are: files, command lines, the journal, unit properties, systemd's own copies.

        A file that held none and has not changed since is not read again, nor is one that has another name, too.
        """
        places = [path for path, status in _files() if self._in_file(path, status)]
        places += self.in_command_lines()
        for name, command in {
            "journal": ["journalctl", "--boot", "--output=json", "--all", "--no-pager"],
            "units": ["systemctl", "show", "*", "--all", "--no-pager"],
            "cores": [
                "sh",
                "-c",
                "cat /var/lib/systemd/coredump/* /core* /var/lib/private/*/core* 2>/dev/null || true",
            ],
        }.items():
            if self.holds(subprocess.run(command, capture_output=True, check=True).stdout):
                places.append(name)
        return places

    def in_command_lines(self) -> list[str]:
        """The processes whose arguments, which all users may read, have one of them."""
        places = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.holds((process / "cmdline").read_bytes()):
                    places.append(f"{process}/cmdline")
        return places

    def _in_file(self, path: str, status: os.stat_result) -> bool:
        inode, state = (status.st_dev, status.st_ino), (status.st_ctime_ns, status.st_size)
        if self._clean.get(inode) == state:
            return False
        with contextlib.suppress(OSError), Path(path).open("rb") as file:
            if self.holds(file.read()):
                return True
            if time.time() - status.st_ctime > SETTLED_S and not path.startswith(MAPPED):
                self._clean[inode] = state
        return False

    @contextlib.contextmanager
    def never_in_command_lines(self) -> Iterator[None]:
        """All command lines, again and again meanwhile: those of processes that soon end, too."""
        seen: list[str] = []
        rounds = 0
        over = threading.Event()

        def look() -> None:
            nonlocal rounds
            while not over.wait(0.02):
                seen.extend(self.in_command_lines())
                rounds += 1

        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()
        assert rounds > 3
        assert seen == []

    @contextlib.contextmanager
    def never_on_the_bus(self) -> Iterator[None]:
        """Everything on D-Bus is written down meanwhile, and searched at the end."""
        with _BUS.open("wb") as log:
            monitor = subprocess.Popen(["dbus-monitor", "--system"], stdout=log)
        try:
            until(lambda: _BUS.stat().st_size > 0)
            yield
        finally:
            monitor.terminate()
            monitor.wait()
        said = _BUS.read_bytes()
        _BUS.unlink()
        assert b"StartTransientUnit" in said
        assert not self.holds(said)


def _files() -> Iterator[tuple[str, os.stat_result]]:
    """Every regular file that could hold it."""
    for place in PLACES:
        for folder, folders, names in os.walk(place, followlinks=False):
            folders[:] = [
                f for f in folders if f not in SKIPPED and (folder == "/run" or not Path(folder, f).is_mount())
            ]
            for name in names:
                path = f"{folder}/{name}"
                with contextlib.suppress(OSError):
                    status = os.lstat(path)
                    if stat.S_ISREG(status.st_mode) and status.st_size < LARGEST:
                        yield path, status
