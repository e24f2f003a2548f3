"""Passes a step's output on, without the secrets that it was given."""

from __future__ import annotations

import base64
import os
import urllib.parse
from collections.abc import Iterable

HIDDEN = b"***"
_LINE = 1 << 16  # bytes: what is longer is passed on in parts


class Output:
    """The output of one step. With secrets it is passed on by whole lines, so that none is cut in two and missed."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spelled = {spelling for value in secrets for spelling in _spellings(value)}
        self._spellings = sorted(spelled, key=len, reverse=True)
        self._kept = b""

    def heard(self, data: bytes) -> None:
        """Pass on what the step has said, as far as it is certain; b"" is its end."""
        self._kept += data
        cut = len(self._kept) if not data or not self._spellings else self._kept.rfind(b"\n") + 1
        if not cut and len(self._kept) > _LINE:
            self._kept = self._hidden(self._kept)  # the cut may be within one that is whole
            cut = max(0, len(self._kept) - max(map(len, self._spellings)))
        told, self._kept = self._kept[:cut], self._kept[cut:]
        _write(self._hidden(told))

    def _hidden(self, text: bytes) -> bytes:
        for spelling in self._spellings:
            text = text.replace(spelling, HIDDEN)
        return text


def _spellings(value: str) -> Iterable[bytes]:
    """Yield a secret as it is, line by line, and as it is written in addresses and headers."""
    yield from (line.encode() for line in value.splitlines() if len(line) > 2)
    yield urllib.parse.quote(value, safe="").encode()
    yield base64.b64encode(value.encode())


def _write(data: bytes) -> None:
    while data:
        try:
            data = data[os.write(1, data) :]
        except BrokenPipeError:  # the reader has gone; the step continues
            return
