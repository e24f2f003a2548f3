"""Copies a program's output to the journal, without the app's secrets, and within a limit.

Servers print the arguments that they were started with (SGLang its whole ``server_args``, the key included), and the
journal keeps these lines, where others read them. So the program writes to a pipe, and launch copies from the pipe to
its own output. Unlike the program's log level, that works for any program, and for the processes that it starts.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator

from .argv_guard import SHORTEST
from .bound import Bound
from .output import write_all

HIDDEN = b"***"
_AT_ONCE = 65536
_OUTPUTS = (1, 2)
_KEPT_IN_ADDRESSES = (b"-._~", b"-._~/", b"-._~!'()*")  # urllib's quote(safe=""), quote(), encodeURIComponent()
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Log:
    """The pipes in place of standard output and error.

    They are made before the fork; then the child calls ``enter``, and the parent ``watch``.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        self._forms = sorted({form for value in values for form in forms(value)}, key=len, reverse=True)
        self._bound = Bound()
        self._threads: list[threading.Thread] = []
        first = os.pipe()
        # output → its pipe; if both outputs are the same file, they share one pipe
        self._pipes = {1: first, 2: first if os.path.sameopenfile(*_OUTPUTS) else os.pipe()}

    def enter(self) -> None:
        """Make this process, which becomes the program, write to the pipes."""
        for output, (_, write) in self._pipes.items():
            os.dup2(write, output)
        self._close(read=True, write=True)

    def watch(self) -> None:
        """Start to copy the pipes to the journal, in threads, until every writer has closed them."""
        self._close(write=True)
        for output, read in {read: output for output, (read, _) in self._pipes.items()}.items():
            thread = threading.Thread(target=self._hand_on, args=(output, read), daemon=True)
            thread.start()
            self._threads.append(thread)

    def finish(self, wait_s: float) -> None:
        """Wait until everything is copied, at most ``wait_s`` seconds per pipe; then print the lines held back.

        A process that the program left behind may keep a pipe open for longer.
        """
        for thread in self._threads:
            thread.join(wait_s)
        _write(2, self._bound.rest())

    def without_secrets(self, text: bytes) -> bytes:
        """Return the text with each value of a secret replaced by ``HIDDEN``."""
        present = [form for form in self._forms if form in text]  # mostly none; far faster than one pattern of all
        return re.sub(b"|".join(map(re.escape, present)), HIDDEN, text) if present else text

    def _hand_on(self, source: int, target: int) -> None:
        """Copy ``source`` to ``target`` by whole lines: half a line may hold half a value.

        The journal waits for whole lines as well. Of a line longer than ``_AT_ONCE`` bytes the end is held back, as
        far as a value may begin there.
        """
        held = b""
        while chunk := os.read(source, _AT_ONCE):
            lines, newline, held = (held + chunk).rpartition(b"\n")
            _write(target, self._bound.passes(self.without_secrets(lines + newline)))
            if len(held) > _AT_ONCE:
                clean = self.without_secrets(held)
                keep = len(self._forms[0]) if self._forms else 0
                end = max(0, len(clean) - keep)
                _write(target, self._bound.passes(clean[:end]))
                held = clean[end:]
        _write(target, self._bound.passes(self.without_secrets(held)))

    def _close(self, *, read: bool = False, write: bool = False) -> None:
        for pipe in set(self._pipes.values()):
            for end in (pipe[0],) * read + (pipe[1],) * write:
                os.close(end)


def forms(value: bytes) -> set[bytes]:
    """Return the forms in which a value may appear in a line.

    These are: as it is, quoted as in Python, JSON or HTML, in a URL, in base64, in hex. Each line of a value with
    several lines has forms of its own, since a log is read by lines. Other encodings, and parts of a value, are not
    recognised.
    """
    found: set[bytes] = set()
    for piece in value.splitlines():
        if len(piece) < SHORTEST:
            continue
        text = piece.decode("utf-8", "surrogateescape")
        escaped = [repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], _html(text)]
        found |= {piece, *(each.encode("utf-8", "surrogateescape") for each in escaped), repr(piece)[2:-1].encode()}
        for kept in _KEPT_IN_ADDRESSES:
            quoted = _in_address(piece, kept)
            found |= {quoted, quoted.replace(b"%20", b"+")}
    if len(value) >= SHORTEST:
        found |= {*_base64(value), value.hex().encode(), value.hex().upper().encode()}
    return {form for form in found if len(form) >= SHORTEST}


def _base64(value: bytes) -> Iterator[bytes]:
    """Yield the base64 forms of a value within a longer text of unknown length, such as Basic's ``user:value``.

    Three bytes become four characters, so the text before the value can shift it in three ways. A character that also
    holds bits of a neighbouring byte is left out.
    """
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value)
        inside = encoded[-(-before * 4 // 3) : (before + len(value)) * 4 // 3]
        yield from (inside, inside.translate(_URL_SAFE))


def _in_address(value: bytes, kept: bytes) -> bytes:
    return b"".join(bytes([c]) if bytes([c]).isalnum() or c in kept else b"%%%02X" % c for c in value)


def _html(text: str) -> str:
    for char, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;")):
        text = text.replace(char, name)
    return text


def _write(target: int, text: bytes) -> None:
    with contextlib.suppress(OSError):  # the loss of the journal must not stop the program
        write_all(target, text)
