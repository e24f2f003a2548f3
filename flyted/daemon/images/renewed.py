"""Remembers which images were rebuilt, so that the newest build of each is used."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from flyted.host import whole_file
from flyted.plan.images.build_unit import is_hash
from flyted.plan.images.renewed import Renewed


@dataclass
class Rebuild:
    """One rebuild. ``bases``: the container images that the old image was made of; no other base may replace them.

    ``ids``: filled in by the build, see :class:`Renewed`.
    """

    stamp: str
    bases: frozenset[str] = frozenset()
    ids: dict[str, str] = field(default_factory=dict)


class Renewals:
    """The rebuilds that count, in memory and in ``file``. A file that cannot be read counts as one without any."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.known = _read(file)

    def keep(self, change: Renewed) -> None:
        """Store a rebuild: from now on its layers and images count. Raises :class:`HostFailure`."""
        self._write(self.known.plus(change))

    def undo(self, last: Renewed, before: Renewed) -> None:
        """Remove a rebuild. ``before``: :attr:`known` as it was before it. Raises :class:`HostFailure`."""
        self._write(self.known.undone(last, before))

    def made(self, image: str) -> None:
        """Record that an image was just built: its recipe now leads to it. Raises :class:`HostFailure`."""
        if image in self.known.images:
            images = {old: new for old, new in self.known.images.items() if old != image}
            self._write(Renewed(self.known.ids, images))

    def forget(self, found: Collection[str], keys: Collection[str]) -> None:
        """Delete what is no longer needed, see :meth:`Renewed.needed`. Raises :class:`HostFailure`."""
        needed = self.known.needed(found, keys)
        if needed != self.known:
            self._write(needed)

    def _write(self, renewed: Renewed) -> None:
        data = {"ids": dict(renewed.ids), "images": dict(renewed.images)}
        whole_file.write(self._file, json.dumps(data).encode(), 0o600)
        self.known = renewed


def _read(file: Path) -> Renewed:
    try:
        data = json.loads(file.read_text())
        ids, images = dict(data["ids"]), dict(data["images"])
    except (OSError, ValueError, TypeError, KeyError):
        return Renewed()
    texts = [text for pairs in (ids, images) for pair in pairs.items() for text in pair]
    return Renewed(ids, images) if all(isinstance(text, str) and is_hash(text) for text in texts) else Renewed()
