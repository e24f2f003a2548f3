"""Why a program of an image cannot be run, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyted.launch.program import plan, replace
from flyted.launch.refused import Refused


def made(folder: Path, content: bytes, mode: int = 0o755) -> str:
    """A file of an image; its path."""
    file = folder / "entry.sh"
    file.write_bytes(content)
    file.chmod(mode)
    return str(file)


def test_a_file_that_is_not_executable_is_not_called_missing(tmp_path: Path) -> None:
    """COPY keeps the mode that a script has on the machine of who wrote it."""
    with pytest.raises(Refused, match=r"entry\.sh' is not executable: chmod \+x"):
        plan([made(tmp_path, b"#!/bin/sh\n", 0o644)])
    for name in (str(tmp_path), str(tmp_path / "none"), "no-such-program"):
        with pytest.raises(Refused, match="is not in the image"):
            plan([name])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#!/bin/sh\r\nexec x\r\n", r"its first line, '#!/bin/sh\\r', names a program that is not in the image"),
        (b"#!/no/such/\xff", "its first line, '#!/no/such/\\\\ufffd', names"),
        (b"neither", "Exec format error"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    """The kernel's error is that of the script itself: no such file or directory."""
    with pytest.raises(Refused, match=words):
        replace(plan([made(tmp_path, content)]), "entry.sh")
