"""An import of data that is cancelled leaves nothing of the archive on the disk."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

LAUNCH = Path(__file__).parents[2] / "flyted" / "launch"


def test_an_import_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """By SIGTERM, as when the client leaves or the app is deleted: the disk would keep what nobody wanted."""
    state = tmp_path / "flyted-app-notes"
    (state / "work").mkdir(parents=True)
    (state / "work" / "notes.db").write_text("milk")
    environment = {"STATE_DIRECTORY": str(state), "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    words = [sys.executable, "-IS", str(LAUNCH), "--import", "refuse-links"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        process.stdin.write(_archive()[: 3 << 20])
        process.stdin.flush()
        end = time.monotonic() + 20
        while not (state / ".flyted-import/new/work/large").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read() if process.stderr is not None else b""
        process.stdin.close()
    assert json.loads(said) == {"error": "it was cancelled"}
    assert [str(each.relative_to(state)) for each in sorted(state.rglob("*"))] == ["work", "work/notes.db"]


def _archive() -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as made:
        header = tarfile.TarInfo("work/large")
        header.size = 5 << 20
        made.addfile(header, io.BytesIO(bytes(header.size)))
    return written.getvalue()
