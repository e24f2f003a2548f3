"""Images on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flyted.daemon.images.images import Images
from flyted.plan.images.build_unit import BuildSettings

HALF = "a" * 32


def test_a_pipe_in_the_place_of_an_images_record_is_not_waited_for(tmp_path: Path) -> None:
    """Code of a package may have made it: the image is not a complete one."""
    nothing: Any = None
    images = Images(nothing, tmp_path, BuildSettings(), nothing, nothing, nothing, nothing)
    (tmp_path / HALF).mkdir()
    os.mkfifo(tmp_path / HALF / "image.json")
    assert images.found() == {HALF: False}
