"""What the program of a step does before it ends well: flyted takes its end for a layer that is on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyted.layers import kernel, layer
from flyted.layers.job import parse
from flyted.layers.room import Limits

NAME = "a" * 32
JOB = (
    b'{"cwd":"/","env":{},"format":1,"layer":"' + NAME.encode() + b'","parents":[],'
    b'"step":{"kind":"folder","target":"/x","owner":"0:0"},"user":"root"}'
)


def made(tmp_path: Path, patch: pytest.MonkeyPatch, status: int) -> list[str]:
    """What happens, in order, when a step ends with a status."""
    happened: list[str] = []
    patch.chdir(tmp_path)

    def step(*_words: Any) -> int:
        Path(NAME, "diff/file").write_text("x")
        happened.append("step")
        return status

    def sync(path: str) -> None:
        assert [each.name for each in Path(path).iterdir()] == ["diff"], "what is removed later is on the disk again"
        happened.append("syncfs")

    patch.setattr(layer, "_watched", step)
    patch.setattr(layer, "say", lambda text: happened.append(text.partition(" ")[0]))
    patch.setattr(kernel, "sync_file_system", sync)
    happened.append(str(layer.make(parse(JOB), {}, {}, Limits(1 << 30, 1000, 0), "")))
    return happened


def test_a_layer_is_on_the_disk_before_its_unit_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its file system is, and nothing is written to the layer after that."""
    assert made(tmp_path, monkeypatch, 0) == ["step", "syncfs", "takes", "0"]
    assert Path(NAME, "diff/file").exists()


def test_of_a_step_that_failed_nothing_is_left_to_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layer is removed."""
    assert made(tmp_path, monkeypatch, 1) == ["step", "1"]
    assert not Path(NAME).exists()
