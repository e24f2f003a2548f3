"""What a first start does to the working folder, with 10,000 files, beside the unpacking of the same bundle.

In this process, without an app: a later start does not depend on the number of files, and a deploy's first one does
no more than a part of what unpacking does.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flyted.launch import bundle, workdir
from tests.launch.harness import bundle as packed

FILES, FOLDERS, DEPLOYS = 10_000, 100, 5
Promise = Callable[..., None]


def code(version: int) -> dict[str, str | bytes]:
    """All files of one version: each is another one than in the version before."""
    return {f"pkg{n % FOLDERS}/m{n}.{'py' if n % 4 else 'txt'}": f"{version} {n}" for n in range(FILES)}


def cpu_ms(work: Callable[[], object]) -> float:
    """The processor's time for one piece of work: disks differ too much."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e3


def files(promise: Promise) -> None:
    """First starts of five versions, and a later one of each; the app writes a file of its own in each folder."""
    unpacking, arranging, again = [], [], []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = {"STATE_DIRECTORY": f"{name}/state", "CACHE_DIRECTORY": f"{name}/cache"}
        (folder / "state/code").mkdir(parents=True)
        for version in range(DEPLOYS):
            archive = str(packed(folder, code(version)))
            unpacking.append(cpu_ms(lambda: bundle.unpacked(archive, f"{name}/state/code")))  # noqa: B023
            arranging.append(cpu_ms(lambda: start(archive, environ)))  # noqa: B023
            again.append(cpu_ms(lambda: start(archive, environ)))  # noqa: B023
            for number in range(FOLDERS):
                (folder / f"state/work/pkg{number}/own").write_text("own")
        os.chdir(before)
    unpacked, arranged, later = (statistics.median(each) for each in (unpacking, arranging, again))
    promise("a new bundle of 10,000 files: its links", arranged, unpacked, "ms", f"unpacking: {unpacked:.0f} ms")
    promise("a later start's working folder", later, 3, "ms")


def start(archive: str, environ: dict[str, str]) -> None:
    """What launch does to the working folder at a start, and when the app serves."""
    workdir.enter(archive, environ)
    workdir.tidy(environ)
