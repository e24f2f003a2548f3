"""Keeps the folder of links to NVIDIA's driver, which apps in roots of images see (plan/gpus/driver.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from flyted.contract.errors import HostFailure


def show(links: Mapping[str, str], folder: Path) -> None:
    """Make the folder contain exactly these links: ``lib/NAME`` → target. Links that are right are not touched.

    A link is replaced in one step, since apps may be using it. Raises :class:`HostFailure`.
    """
    try:
        for sub in ("", "lib", "bin"):
            place = folder / sub
            place.mkdir(exist_ok=True)
            place.chmod(0o755)
        for name in _names(folder) - links.keys():
            (folder / name).unlink()
        for name, target in links.items():
            if _target(folder / name) != target:
                _replace(folder / name, target)
    except OSError as error:
        raise HostFailure(f"the links to the NVIDIA driver cannot be made: {error}") from error


def _names(folder: Path) -> set[str]:
    return {f"{sub}/{each.name}" for sub in ("lib", "bin") for each in (folder / sub).iterdir()}


def _target(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return str(path.readlink())
    return None


def _replace(path: Path, target: str) -> None:
    draft = path.with_name(f".{path.name}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.rename(path)
