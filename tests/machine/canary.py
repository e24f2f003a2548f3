"""Looks for a secret everywhere on the machine: it is where it may be, and nowhere else."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.machine.people import until

PLACES = ("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var")
SKIPPED = ("credentials",)  # /run/credentials: memory that only the unit and root see, which is the point
BUS_LOG = Path("/dev/shm/dbus.log")


def forms(value: str) -> list[bytes]:
    """The value, and what it looks like in base64 and hex; base64 at each of the three offsets."""
    raw = value.encode()
    shifted = [base64.b64encode(b"x" * n + raw)[4 if n else 0 : -4] for n in range(3)]
    return [raw, raw.hex().encode(), raw.hex().upper().encode(), *shifted]


class Canary:
    """The secrets that are looked for."""

    def __init__(self, *values: str) -> None:
        self.needles = [form for value in values for form in forms(value)]

    def in_(self, data: bytes) -> bool:
        """Whether one of them is in it, in any form."""
        return any(needle in data for needle in self.needles)

    def found(self) -> list[str]:
        """Where they are: files, command lines, the journal, unit properties, systemd's own copies."""
        places = [str(path) for path in _files() if self._in_file(path)] + self.in_command_lines()
        for name, command in {
            "journal": ["journalctl", "--boot", "--output=json", "--all", "--no-pager"],
            "units": ["systemctl", "show", "*", "--all", "--no-pager"],
            "cores": [
                "sh",
                "-c",
                "cat /var/lib/systemd/coredump/* /core* /var/lib/private/*/core* 2>/dev/null || true",
            ],
        }.items():
            if self.in_(subprocess.run(command, capture_output=True, check=True).stdout):
                places.append(name)
        return places

    def in_command_lines(self) -> list[str]:
        """Processes that show one to every user, as their arguments are at this moment."""
        shown = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_bytes()
                if self.in_(line):
                    shown.append(f"{process}/cmdline: {line[:200]!r}")
        return shown

    def _in_file(self, path: Path) -> bool:
        with contextlib.suppress(OSError):
            whole = path.is_file() and not path.is_symlink() and path.stat().st_size < 64 << 20
            return whole and self.in_(path.read_bytes())
        return False

    @contextmanager
    def off_the_bus(self) -> Iterator[None]:
        """All that is said on D-Bus meanwhile is written down, and holds none."""
        with BUS_LOG.open("wb") as log:
            monitor = subprocess.Popen(["dbus-monitor", "--system"], stdout=log)
        until(lambda: BUS_LOG.stat().st_size > 0)
        yield
        monitor.terminate()
        monitor.wait()
        said = BUS_LOG.read_bytes()
        BUS_LOG.unlink()
        assert b"StartTransientUnit" in said
        assert not self.in_(said)


def _files() -> Iterator[Path]:
    """Every regular file that could hold it."""
    for place in PLACES:
        for folder, folders, names in os.walk(place, followlinks=False):
            folders[:] = [
                f for f in folders if f not in SKIPPED and (folder == "/run" or not Path(folder, f).is_mount())
            ]
            yield from (Path(folder, name) for name in names)
