"""What `flytectl gpu ls` takes beside `app ls`: with NVIDIA's helper running, and when systemd has to start it first.

A machine without a driver gets the tests' library; then the figures are all but the driver's own part.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import time
from collections.abc import Callable

from tests.machine.kit import gpus
from tests.machine.kit.users import alice

ROUNDS = 15
Promise = Callable[..., None]


def took_ms(*words: str) -> float:
    """One command of alice's, in milliseconds."""
    began = time.perf_counter()
    alice(*words)
    return (time.perf_counter() - began) * 1e3


def gpu(promise: Promise) -> None:
    """All of it, in turns."""
    apps, warm, cold = [], [], []
    with contextlib.ExitStack() as stack:
        if not gpus.real():
            stack.enter_context(gpus.driver())
            gpus.has(gpus.TWO)
        for _ in range(ROUNDS):
            subprocess.run(["systemctl", "stop", "flyted-gpu.service"], check=True, capture_output=True)
            cold.append(took_ms("flytectl", "gpu", "ls"))
            warm.append(took_ms("flytectl", "gpu", "ls"))
            apps.append(took_ms("flytectl", "app", "ls"))
    beside, asked, started = (statistics.median(each) for each in (apps, warm, cold))
    promise("flytectl gpu ls / app ls", asked / beside, 1.3, "x", f"{asked:.0f} ms / {beside:.0f} ms")
    promise("flytectl gpu ls, the helper not running", started, 500, "ms")
