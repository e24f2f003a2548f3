"""A process that is killed at every one of its changes of the disk, one after the other."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# From Python 3.12 on, for threads that another test may have left; the children here only use the store and end.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

STEPS = ("open", "mkdir", "rename", "fsync", "unlink", "rmdir")  # of `os`: all by which the store changes the disk


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder in memory where there is some: hundreds of stores, and a kill does not care where they are."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


def in_child(work: Callable[[], object]) -> int:
    """Runs ``work`` in a forked process; gives how that ended: 0, 9 (killed itself), 1 (raised)."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def dying_at(step: int, *others: tuple[object, str]) -> None:
    """From here on the process dies just before its ``step``-th change of the disk, or call of one of the ``others``.

    These are methods: an object, and the method's name.
    """
    counter = itertools.count(1)
    for where, name in (*((os, name) for name in STEPS), *others):
        real = getattr(where, name)

        def dying(*args: object, _real: Callable[..., object] = real, **kwargs: object) -> object:
            if next(counter) == step:
                os._exit(9)
            return _real(*args, **kwargs)

        setattr(where, name, dying)


def each_death(folder: Path, scratch: Path, change: Callable[[Path], object]) -> Iterator[Path]:
    """A copy of ``folder`` for each step at which ``change`` can be killed; last, one in which it was not."""
    for step in itertools.count(1):
        copy = scratch / str(step)
        shutil.copytree(folder, copy)

        def killed(copy: Path = copy, step: int = step) -> None:
            dying_at(step)
            change(copy)

        ended = in_child(killed)
        assert ended in (0, 9)
        yield copy
        if ended == 0:
            assert step > 3  # it did go through steps
            return
