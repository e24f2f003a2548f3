"""Draws QR codes in a terminal, by the program qrencode(1)."""

from __future__ import annotations

import subprocess
import sys

from flyted.contract.errors import HostFailure


def text(content: str) -> str:
    """Return ``content`` as a QR code, in colours that every reader knows if standard output is a terminal.

    Raise :class:`HostFailure` if the program is missing or fails.
    """
    kind = "ANSIUTF8" if sys.stdout.isatty() else "UTF8"
    try:
        done = subprocess.run(
            ["qrencode", "-t", kind, "-m", "2", "-o", "-", content], stdin=subprocess.DEVNULL, capture_output=True,
            check=False,
        )  # fmt: skip
    except OSError as error:
        raise HostFailure("qrencode is not installed", hint="sudo apt install qrencode") from error
    if done.returncode != 0:
        raise HostFailure(
            f"qrencode failed: {done.stderr.decode(errors='replace').strip()}", hint="qrencode --version"
        )
    return done.stdout.decode().rstrip("\n")
