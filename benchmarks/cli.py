"""How long ``flytectl`` takes, next to a Python that does nothing: ``python3 benchmarks/cli.py``.

Needs the installed package; ``app ls`` also a daemon that answers. Runs alternate, so that other load hits both alike;
medians in milliseconds, with the limits that the project has set itself. Exit status 1 when one is exceeded.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
FLYTECTL = "/usr/bin/flytectl"
COMMANDS = {
    "pass": ["/usr/bin/python3", "-c", "pass"],
    "--help": [FLYTECTL, "--help"],
    "app ls": [FLYTECTL, "app", "ls"],
}


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """The median wall time of each command, in milliseconds; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if number:
                times[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> int:
    """Measures, prints, compares."""
    found = measure(COMMANDS, ROUNDS)
    limits = {"--help": 1.5 * found["pass"] + 60, "app ls": 120.0}
    print(f"python3 -c pass  {found['pass']:6.1f} ms")
    for name, limit in limits.items():
        word = "ok" if found[name] <= limit else "TOO SLOW"
        ratio = found[name] / found["pass"]
        print(f"flytectl {name:<7} {found[name]:6.1f} ms  {ratio:4.1f} x pass, limit {limit:.1f} ms: {word}")
    return int(any(found[name] > limit for name, limit in limits.items()))


if __name__ == "__main__":
    sys.exit(main())
