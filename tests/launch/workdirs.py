"""The folders of one app, without a unit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from flyted.launch import bundle, workdir
from tests.launch.harness import bundle as packed


class Machine:
    """The folders of one app, and the starts of its revisions. A unit's ``CACHE/revision`` is not shared."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.cache = folder, folder / "state", folder / "cache"
        self.work = self.state / "work"
        self.environ = {"STATE_DIRECTORY": str(self.state), "CACHE_DIRECTORY": str(self.cache)}

    def start(self, files: Mapping[str, str | bytes] | None, *, serves: bool = True, image: str = "") -> workdir.Place:
        """A start, up to the app's code; then, if it ``serves``, what happens when it is ready."""
        bundled = str(packed(self.folder, dict(files))) if files is not None else None
        place = workdir.enter(bundled, self.environ, image)
        if serves:
            workdir.tidy(self.environ)
        return place

    def seen(self) -> dict[str, str]:
        """What the app finds in its working folder."""
        return {
            str(path.relative_to(self.work)): path.read_text()
            for path in self.work.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }


def released(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no code is in use: the revisions of this process have ended."""
    monkeypatch.setattr(bundle, "in_use", lambda _folder: False)
