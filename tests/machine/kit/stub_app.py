"""A stand-in for launch inside a unit: does what a test asks over the app's socket, so tests see what an app sees.

Each connection sends one Python expression and gets ``repr`` of its value, or of the exception. ``READY=1`` is sent
at once, unless the app's command is ``crash`` (exit 3), ``refuse`` (exit 78) or ``silent`` (never ready).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    """Serves until SIGTERM."""
    told = json.loads(Path(os.environ["CREDENTIALS_DIRECTORY"], "start").read_text())
    os.environ.update(told["environment"])
    sys.argv += told["words"]
    command = sys.argv[-1]
    if command in ("crash", "refuse"):
        print("this app dies at once", flush=True)
        sys.exit(3 if command == "crash" else 78)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if command != "silent":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    listener = socket.socket(fileno=3)
    while True:
        conn, _ = listener.accept()
        with conn:
            source = conn.makefile("rb").readline().decode()
            try:
                value = repr(eval(source, {"os": os, "sys": sys, "socket": socket}))
            except BaseException as error:
                value = repr(error)
            conn.sendall(value.encode())


main()
