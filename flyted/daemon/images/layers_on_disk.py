"""Stores the layers on the disk: a folder for each, and a record of those that are complete."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from pathlib import Path

from flyted.host import whole_file
from flyted.plan.images.build_unit import is_hash
from flyted.plan.images.root import LayerJob
from flyted.plan.images.root_record import LayerRecord, layer_record, layer_text


class LayersOnDisk:
    """The layers below ``folder``, with their ``records``."""

    def __init__(self, folder: Path, records: Path) -> None:
        self.folder = folder
        self._records = records
        self._read: dict[str, LayerRecord] = {}  # images share layers, and a record never changes

    def folders(self) -> set[str]:
        """Return the layers that have a folder."""
        return {path.name for path in listed(self.folder) if is_hash(path.name)}

    def whole(self) -> set[str]:
        """Return the complete layers: those with a folder and a record."""
        return self.folders() & {path.stem for path in listed(self._records)}

    def are_whole(self, layers: Collection[str]) -> bool:
        """Report whether all of these layers are complete."""
        return all((self._records / f"{each}.json").exists() and (self.folder / each).is_dir() for each in layers)

    def record(self, layer: str) -> LayerRecord:
        """Return the record of a layer."""
        found = self._read.get(layer)
        if found is None:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found = self._read[layer] = layer_record((self._records / f"{layer}.json").read_text())
        return found or LayerRecord()

    def bytes_of(self, layers: Iterable[str]) -> int:
        """Return the bytes that layers take together, as far as that is known."""
        return sum(self.record(each).bytes for each in layers)

    def add(self, job: LayerJob, record: LayerRecord, made_at: float) -> None:
        """Record a layer that is whole, and on the disk. ``made_at``: seconds since 1970."""
        whole_file.write_and_keep(self._records / f"{job.id}.json", layer_text(job, record, made_at).encode())
        self._read[job.id] = record

    def forget(self, layer: str) -> None:
        """Delete the record of a layer, before the layer itself is."""
        (self._records / f"{layer}.json").unlink(missing_ok=True)
        self._read.pop(layer, None)


def listed(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing if it is not there."""
    with contextlib.suppress(FileNotFoundError):
        return list(folder.iterdir())
    return []
