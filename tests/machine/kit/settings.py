"""Settings of the operator's, flyted.toml(5), for the time of a test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SETTINGS = Path("/etc/flyted/flyted.toml")


@contextmanager
def settings(text: str) -> Iterator[None]:
    """Restart flyted with these lines after those that are there; at the end restart it with those alone.

    The first restart may fail: a test of wrong settings wants it to.
    """
    before = SETTINGS.read_text() if SETTINGS.exists() else None
    SETTINGS.parent.mkdir(exist_ok=True)
    SETTINGS.write_text(f"{before or ''}\n{text}\n")
    try:
        subprocess.run(["systemctl", "restart", "flyted.service"], check=False, capture_output=True)
        yield
    finally:
        if before is None:
            SETTINGS.unlink()
        else:
            SETTINGS.write_text(before)
        subprocess.run(["systemctl", "restart", "flyted.service"], check=True)
