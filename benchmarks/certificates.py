"""How long a new app waits for a certificate that clients trust: with pebble as the authority, on this machine."""

from __future__ import annotations

import json
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
BOUND_S = 5.0
LEGO_PAUSE_S = 7.5
"""The longest time until lego asks whether the authority has seen a proof: 5 s, more or less by half, where it does
not say when to ask, as pebble and Let's Encrypt do not (lego 4.9, challenge/resolver/solver_manager.go)."""


def first_answer(pebble: Pebble, port: int, root: Path) -> tuple[float, float]:
    """Seconds to the first answer that a client trusts: from the command that orders, and from the certificate."""
    command = [
        "flytectl", "domain", "set", DOMAIN, "--email", "me@example.org", "--acme-server", DIRECTORY,
        "--acme-server-ca", str(pebble.authority), "--yes",
    ]  # fmt: skip
    began = time.time()
    try:
        subprocess.run(command, check=True, capture_output=True)
        while visit(f"{APP}.{DOMAIN}", port, root) == LOST:
            if time.time() - began > LONGEST_S:
                break  # the promise is broken, and the other figures are still of interest
        end = time.time()
        return end - began, end - max(began, issued_at())
    finally:
        subprocess.run(["flytectl", "domain", "rm", DOMAIN, "--yes"], check=True, capture_output=True)


def issued_at() -> float:
    """When flyted last got a certificate for the app, in seconds since 1970, by what it told the journal."""
    said = f"^{APP}.{DOMAIN} has a certificate of"
    words = ["journalctl", "--unit=flyted", "--output=json", "--lines=1", f"--grep={said}"]
    found = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return int(json.loads(found)["__REALTIME_TIMESTAMP"]) / 1e6


def certificates(promise: Promise) -> None:
    """What is promised: an app's visitors trust it within seconds of its first serve."""
    port = urlsplit(answer("app", "get", APP)["url"]).port or 443
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), {443: 80}.get(port, 8080), reuse=100) as pebble,
    ):
        pebble.leads_here(f"{APP}.{DOMAIN}")
        root = Path(folder) / "root.pem"
        root.write_bytes(pebble.root())
        proved, first = first_answer(pebble, port, root)
        whole, shown = zip(*(first_answer(pebble, port, root) for _ in range(ROUNDS)), strict=True)
    pause = f"with lego's pause of at most {LEGO_PAUSE_S} s"
    promise("first order of a certificate → trusted answer", proved, BOUND_S + LEGO_PAUSE_S, "s", pause)
    note = f"slowest: {max(whole):.1f} s; the proof still counts"
    promise("order of a certificate → trusted answer", statistics.median(whole), BOUND_S, "s", note)
    note = f"median: {statistics.median(shown):.2f} s"
    promise("new certificate → trusted answer", max(first, *shown), BOUND_S, "s", note)
