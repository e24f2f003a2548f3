"""How a layer's archive is refused."""

from __future__ import annotations


class Damaged(Exception):
    """An archive that is not unpacked any further: ``str()`` is the line to show, without the layer's name."""


def shown(name: bytes) -> str:
    """Return a name out of an archive as printable ASCII of at most 80 characters, for a message."""
    text = ascii(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 80 else f"{text[:38]}...{text[-39:]}"
