"""What is on the disk when, as an image of layers is made: a power cut at any moment leaves no half layer as whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.daemon.life import Life
from tests.daemon.test_life_roots import recorded, serve
from tests.daemon.world_layers import Layers


class Disk:
    """The order of what is written: ends of units, flushes of files and of folders."""

    def __init__(self, life: Life, patch: pytest.MonkeyPatch) -> None:
        self.happened: list[tuple[str, str]] = []
        self._named: set[Path] = set()
        self._roots = life.world.folder / "roots"
        make = Layers._make

        async def made(layers: Layers, wanted: object) -> object:
            end = await make(layers, wanted)  # type: ignore[arg-type]
            self.happened.append(("unit ended", layers.made[-1].partition('"layer":"')[2][:32]))
            return end

        patch.setattr(Layers, "_make", made)
        patch.setattr(os, "fsync", self._flushed)

    def records(self) -> set[Path]:
        """The records that have their name."""
        return {*self._roots.glob("*.json"), *self._roots.glob("layers/*.json")}

    def _flushed(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if self._roots in (path, *path.parents) or path == self._roots.parent:
            for new in self.records() - self._named:
                self._named.add(new)
                self.happened.append(("named", new.stem))
            self.happened.append(("folder kept" if path.is_dir() else "bytes kept", path.name))


def test_records_come_after_what_they_say(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit, the bytes of its layer's record, its name, its folder; the image's record last, in the same way."""
    disk = Disk(life, monkeypatch)
    asked = serve(life, "a", "one")
    life.run(60)
    assert asked.end == "done"
    image = life.running.store.app("a").revisions[0].image
    assert image.root is not None
    happened = [event for event in disk.happened if event != ("folder kept", life.world.folder.name)]
    for layer in image.root.layers:
        at = happened.index(("unit ended", layer))
        what = [kind for kind, _name in happened[at : at + 4]]
        assert what == ["unit ended", "bytes kept", "named", "folder kept"], happened
        assert happened[at + 2] == ("named", layer)
        assert happened[at + 3] == ("folder kept", "layers")
    last = [event for event in happened if event[0] != "unit ended"][-2:]
    assert last == [("named", image.hash), ("folder kept", "roots")], happened
    assert recorded(life) == set(image.root.layers)


def test_new_folders_of_records_are_kept_too(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is gone after a power cut takes all records along."""
    disk = Disk(life, monkeypatch)
    serve(life, "a", "one")
    life.run(60)
    kept = [name for kind, name in disk.happened if kind == "folder kept"]
    assert kept[:3] == ["layers", "roots", life.world.folder.name], kept
