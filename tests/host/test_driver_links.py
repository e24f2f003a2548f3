"""The folder of links to the driver's files: exactly the wanted ones, and no moment without one that stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure
from flyted.host.gpu import Gpu


def shown(folder: Path) -> dict[str, str]:
    """What is in the folder."""
    found = (Path(where, name) for where, _folders, names in os.walk(folder) for name in names)
    return {str(path.relative_to(folder)): str(path.readlink()) for path in found}


def test_the_links_follow_the_driver(tmp_path: Path) -> None:
    """An upgrade changes some, adds and removes others; what stays is not touched."""
    folder = tmp_path / "nvidia"
    gpus = Gpu(links=folder)
    gpus.show({})
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "lib", folder / "bin")] == [0o755] * 3
    old = {
        "lib/libcuda.so.1": "/h/libcuda.so.570.1",
        "lib/libcuda.so.570.1": "/h/libcuda.so.570.1",
        "bin/nvidia-smi": "/h/smi",
    }
    gpus.show(old)
    assert shown(folder) == old
    kept = (folder / "bin/nvidia-smi").lstat().st_ino
    new = {
        "lib/libcuda.so.1": "/h/libcuda.so.580.2",
        "lib/libcuda.so.580.2": "/h/libcuda.so.580.2",
        "bin/nvidia-smi": "/h/smi",
    }
    (folder / "lib/.libcuda.so.1").symlink_to("left by a flyted that was killed")
    gpus.show(new)
    gpus.show(new)
    assert shown(folder) == new
    assert (folder / "bin/nvidia-smi").lstat().st_ino == kept


def test_a_folder_that_cannot_be_written_is_a_failure_of_the_host(tmp_path: Path) -> None:
    """The start gets no lease then, and is told why."""
    (tmp_path / "nvidia").write_text("")
    with pytest.raises(HostFailure, match="the links to the NVIDIA driver cannot be made"):
        Gpu(links=tmp_path / "nvidia").show({})
