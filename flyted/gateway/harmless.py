"""Makes text of strangers safe to print, since the stock `flyte` prints what it gets as it is."""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # ECMA-48 8.3.117 (SGR): many loggers print these


def harmless(line: str) -> str:
    """Return a line without colours, so that no character of it can move a terminal's cursor."""
    if line.isprintable():  # nearly all are
        return line
    line = _COLOUR.sub("", line).expandtabs()
    for char in {each for each in line if not each.isprintable()}:
        line = line.replace(char, " ")
    return line


def harmless_lines(text: str) -> str:
    """Return a text of several lines, each as of :func:`harmless`."""
    return "\n".join(map(harmless, text.splitlines()))
