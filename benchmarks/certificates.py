"""How long a new app waits for a certificate that clients trust: with pebble as the authority, on this machine."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tests.machine.kit.pebble import DIRECTORY, LOST, Pebble, running, visit
from tests.machine.kit.users import answer

Promise = Callable[..., None]

APP, DOMAIN = "authenticated-api", "apps.example.org"  # that of figures.py
ROUNDS, LONGEST_S = 5, 60.0


def first_answer_s(pebble: Pebble, port: int, root: Path) -> float:
    """From the command that orders certificates to the first answer that a client trusts, in seconds."""
    command = [
        "flytectl", "domain", "set", DOMAIN, "--email", "me@example.org", "--acme-server", DIRECTORY,
        "--acme-server-ca", str(pebble.authority), "--yes",
    ]  # fmt: skip
    began = time.monotonic()
    try:
        subprocess.run(command, check=True, capture_output=True)
        while visit(f"{APP}.{DOMAIN}", port, root) == LOST:
            if time.monotonic() - began > LONGEST_S:
                break  # the promise is broken, and the other figures are still of interest
        return time.monotonic() - began
    finally:
        subprocess.run(["flytectl", "domain", "rm", DOMAIN, "--yes"], check=True, capture_output=True)


def certificates(promise: Promise) -> None:
    """What is promised: an app's visitors trust it within seconds of its first serve."""
    port = urlsplit(answer("app", "get", APP)["url"]).port or 443
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), {443: 80}.get(port, 8080)) as pebble:
        pebble.leads_here(f"{APP}.{DOMAIN}")
        root = Path(folder) / "root.pem"
        root.write_bytes(pebble.root())
        found = [first_answer_s(pebble, port, root) for _ in range(ROUNDS)]
    note = f"slowest: {max(found):.1f} s"
    promise("order of a certificate → trusted answer", statistics.median(found), 5, "s", note)
