"""What a program prints, on its way to the journal: without the app's secrets, and not without end.

Servers print the arguments that they were started with (SGLang its whole ``server_args``, the key included), and what
is in the journal stays there and is read by others. So the program writes to a pipe, and what comes out of it goes on
to where launch itself writes. Unlike a level of its log, that holds for any program, and for whatever it starts.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import threading
from collections.abc import Iterable

from .bound import Bound
from .guard import SHORTEST
from .output import write_all

HIDDEN = b"***"
_AT_ONCE = 65536
_OUTPUTS = (1, 2)


class Log:
    """Pipes in place of standard output and error. Made before the fork; each side then calls its own method."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._forms = sorted({form for value in values for form in forms(value)}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(form) for form in self._forms)) if self._forms else None
        self._bound = Bound()
        self._threads: list[threading.Thread] = []
        first = os.pipe()
        # output → its pipe; outputs that are one file share one
        self._pipes = {1: first, 2: first if os.path.sameopenfile(*_OUTPUTS) else os.pipe()}

    def enter(self) -> None:
        """In the program's process: from now on it writes to the pipes."""
        for output, (_, write) in self._pipes.items():
            os.dup2(write, output)
        self._close(read=True, write=True)

    def watch(self) -> None:
        """In the other: hands on what comes, until the last writer has closed."""
        self._close(write=True)
        for output, read in {read: output for output, (read, _) in self._pipes.items()}.items():
            thread = threading.Thread(target=self._hand_on, args=(output, read), daemon=True)
            thread.start()
            self._threads.append(thread)

    def finish(self, wait_s: float) -> None:
        """Waits until all is handed on; a process that was left behind may hold the pipe for longer."""
        for thread in self._threads:
            thread.join(wait_s)
        _write(2, self._bound.rest())

    def without_secrets(self, text: bytes) -> bytes:
        """The text with each value of a secret replaced."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)

    def _hand_on(self, source: int, target: int) -> None:
        """Line by line: half a line may hold half a value. The journal waits for whole lines as well."""
        held = b""
        while chunk := os.read(source, _AT_ONCE):
            lines, newline, held = (held + chunk).rpartition(b"\n")
            _write(target, self._bound.passes(self.without_secrets(lines + newline)))
            if len(held) > _AT_ONCE:
                clean = self.without_secrets(held)
                keep = len(self._forms[0]) if self._forms else 0
                _write(target, self._bound.passes(clean[: len(clean) - keep]))
                held = clean[len(clean) - keep :]
        _write(target, self._bound.passes(self.without_secrets(held)))

    def _close(self, *, read: bool = False, write: bool = False) -> None:
        for pipe in set(self._pipes.values()):
            for end in (pipe[0],) * read + (pipe[1],) * write:
                os.close(end)


def forms(value: bytes) -> set[bytes]:
    """How a value may stand in a line: as it is, in Python's or JSON's quotes, in an address, in base64, in hex.

    Of a value of several lines each one counts: a log is read by lines.
    """
    found: set[bytes] = set()
    for piece in value.splitlines():
        if len(piece) < SHORTEST:
            continue
        text = piece.decode("utf-8", "surrogateescape")
        escaped = [repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]]
        found |= {piece, *(each.encode("utf-8", "surrogateescape") for each in escaped), _in_address(piece)}
    if len(value) >= SHORTEST:
        whole = len(value) // 3 * 4  # of the last three bytes it also depends on what follows
        found |= {base64.b64encode(value)[:whole], base64.urlsafe_b64encode(value)[:whole], value.hex().encode()}
    return found


def _in_address(value: bytes) -> bytes:
    plain = b"-._~"
    return b"".join(bytes([c]) if bytes([c]).isalnum() or c in plain else b"%%%02X" % c for c in value)


def _write(target: int, text: bytes) -> None:
    with contextlib.suppress(OSError):  # a journal that is gone must not stop the program
        write_all(target, text)
