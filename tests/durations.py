"""Compares the seconds of test modules with ``durations.txt``: ``tests.durations FOLDER [--record]``.

FOLDER is the one of ``tests/share.py``. A module's *share* is its part of the time of all modules, so that a slow or a
busy machine changes nothing. A module that has outgrown its recorded share fails the run: make it faster, split it, or
record the new figures with ``--record`` and say why in the commit.
"""

from __future__ import annotations

import sys
from pathlib import Path

RECORD = Path(__file__).with_name("durations.txt")
GROWTH = 3.0  # times its recorded share: machines differ in their network, too
SMALLEST = 0.015  # of the whole, some 75 s: below it a module may grow as it likes


def recorded() -> dict[str, float]:
    """Returns the recorded seconds of each module."""
    return parse(RECORD.read_text()) if RECORD.exists() else {}


def parse(text: str) -> dict[str, float]:
    """Returns module → seconds, from lines ``SECONDS MODULE``."""
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {module: float(seconds) for seconds, module in lines}


def render(seconds: dict[str, float]) -> str:
    """Returns the text of the record, the longest first."""
    lines = [f"{took:6.0f} {module}\n" for module, took in sorted(seconds.items(), key=lambda row: (-row[1], row[0]))]
    return "# seconds of each module in the booted machine: tests/run --record writes this file\n" + "".join(lines)


def measured(folder: Path) -> dict[str, float]:
    """Returns the seconds that ``tests/share.py`` left in ``folder``."""
    return {file.parent.name.replace(":", "/"): float(file.read_text()) for file in folder.glob("*/seconds")}


def outgrown(now: dict[str, float], then: dict[str, float]) -> list[str]:
    """Returns a sentence for each module that takes more of the whole than its record allows.

    Only modules that both have are weighed, so that a new module does not make the others look small.
    """
    both = now.keys() & then.keys()
    whole_now, whole_then = sum(now[module] for module in both), sum(then[module] for module in both)
    if not whole_now or not whole_then:  # a few small modules: tests/run -- -k NAME
        return []
    return [
        f"{module}: {share:.1%} of the whole ({now[module]:.0f} s), recorded {before:.1%}"
        for module in sorted(both)
        if (share := now[module] / whole_now) > max(GROWTH * (before := then[module] / whole_then), SMALLEST)
    ]


def main(folder: str, *options: str) -> int:
    """Prints the ten longest modules and those that have outgrown their record. Returns the exit status."""
    now = measured(Path(folder))
    print(f"{sum(now.values()):.0f} s in {len(now)} modules; the longest:")
    print("".join(render(now).splitlines(keepends=True)[1:11]), end="")
    if "--record" in options:
        RECORD.write_text(render(now))
        return 0
    found = outgrown(now, recorded())
    for sentence in found:
        print(f"outgrown: {sentence}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
