"""What each version of the SDK has that flyted supports, so that tests know it without a network.

``python -m tests.compat.versions VERSION...`` installs these versions from the package index, one after the other, and
writes ``versions.txt``: all versions, and then each name with the versions that have it, or alone if all have it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("versions.txt")
ABOUT = "# python -m tests.compat.versions wrote what each version of flyte has; a name without versions is in all\n"


def read(text: str) -> dict[str, list[str]]:
    """Return version → ``KIND NAME`` of each name that it has, from the text of the file."""
    lines = [line.partition(": ") for line in text.splitlines() if not line.startswith("#")]
    (_, _, all_of_them), *rows = lines
    found: dict[str, list[str]] = {version: [] for version in all_of_them.split()}
    for name, _, which in rows:
        for version in which.split() or found:
            found[version].append(name)
    return found


def written(found: Mapping[str, Iterable[str]]) -> str:
    """Return the text of the file."""
    having: dict[str, list[str]] = {}
    for version, names in found.items():
        for name in names:
            having.setdefault(name, []).append(version)
    rows = (name if len(which) == len(found) else f"{name}: {' '.join(which)}" for name, which in having.items())
    return "".join((ABOUT, f"versions: {' '.join(found)}\n", *(f"{row}\n" for row in sorted(rows))))


def span(name: str, found: Mapping[str, Iterable[str]]) -> str:
    """Return since or until when the SDK has a name, ``KIND NAME``; empty if all versions have it.

    Raise ValueError for a name that came and went more than once, or that none has.
    """
    versions = list(found)
    having = [version for version in versions if name in found[version]]
    first, last = versions.index(having[0]) if having else 0, versions.index(having[-1]) if having else -1
    if not having or having != versions[first : last + 1]:
        raise ValueError(f"{name} is in {having}")
    words = [f"since {having[0]}"] if first else []
    return ", ".join([*words, f"until {having[-1]}"] if last + 1 < len(versions) else words)


def asked(version: str) -> list[str]:
    """Return what a version has, by installing it. Raise CalledProcessError if it cannot be installed or read."""
    packages = [word for name in (f"flyte=={version}", "fastapi", "uvicorn") for word in ("--with", name)]
    run = [_uv(), "run", "-q", "--system-certs", "--isolated", "--no-project", "--python", sys.executable]
    command = [*run, *packages, "python", "-W", "ignore", "-m", "tests.compat.names"]
    with tempfile.TemporaryDirectory() as folder:
        more = {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1", "UV_NO_PROGRESS": "1"}
        done = subprocess.run(
            command, cwd=folder, env=os.environ | more, stdout=subprocess.PIPE, text=True, check=True
        )
    return done.stdout.splitlines()


def _uv() -> str:
    """The one beside this Python, or the package's, in a machine whose Python is the distribution's."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else "/usr/lib/flyted/bin/uv"


def main(versions: list[str]) -> None:
    FILE.write_text(written({version: asked(version) for version in versions}))


if __name__ == "__main__":
    main(sys.argv[1:])
