"""Limits the standard output and error of an app that runs in this process (``bound.py``)."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

from .bound import Bound
from .surroundings import flush

_OUTPUTS = (1, 2)


class _Stream(io.RawIOBase):
    """A file descriptor to which only the lines within the limit are written."""

    def __init__(self, target: int, bound: Bound) -> None:
        self._target, self._bound = target, bound

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._target

    def isatty(self) -> bool:
        return os.isatty(self._target)

    def write(self, data: Any) -> int:
        text = bytes(data)
        write_all(self._target, self._bound.passes(text))
        return len(text)


def write_all(target: int, text: bytes) -> None:
    """Write all of ``text``, even if the other side accepts only parts at once. Raise ``OSError`` if a write fails."""
    while text:
        text = text[os.write(target, text) :]


class Output:
    """Both streams of this process, with one limit for both."""

    def __init__(self) -> None:
        self._bound = Bound()
        os.register_at_fork(after_in_child=self._bound.renew)

    def install(self) -> None:
        """Replace ``sys.stdout`` and ``sys.stderr`` by streams with the limit."""
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(
                io.BufferedWriter(_Stream(output, self._bound)),
                encoding="utf-8", errors="backslashreplace", line_buffering=True,
            )
            for output in _OUTPUTS
        )  # fmt: skip

    def finish(self) -> None:
        """Flush both streams, and print the last lines if the limit held them back."""
        flush()
        with contextlib.suppress(OSError):  # the app has closed the descriptor
            write_all(_OUTPUTS[1], self._bound.rest())
