"""What a step of an image gets of the machine's settings of apt."""

from __future__ import annotations

from pathlib import Path

from flyted.layers.view import without_files


def test_files_of_the_machine_are_not_named_but_its_authorities_trusted(tmp_path: Path) -> None:
    """apt refuses every mirror if it cannot read a file that its settings name, and a step has none of these."""
    (tmp_path / "all.pem").write_text("first\n")
    (tmp_path / "one.pem").write_text("second\n")
    (tmp_path / "client.key").write_text("private\n")
    kept = b'Acquire::http::Proxy "http://proxy.lan:3142";\nAcquire::https::Verify-Peer "true";\n'
    files = (
        f'Acquire::https::CAInfo "{tmp_path}/all.pem";\n'
        f'Acquire::https::mirror.lan::CAInfo "{tmp_path}/one.pem";\n'
        f'Acquire::https::mirror.lan::SslKey "{tmp_path}/client.key";\n'
        f'Acquire::https::CAInfo "{tmp_path}/missing.pem";\n'
    )
    assert without_files(kept + files.encode()) == (kept, b"first\nsecond\n")
    assert without_files(b"") == (b"", b"")
