"""The system's bundle of certificates, where update-ca-certificates cannot do its work."""

from __future__ import annotations

from pathlib import Path

import pytest

from flytectl import trust
from flyted.contract.errors import HostFailure

pytestmark = pytest.mark.slow


def test_what_could_not_be_undone_is_not_told_as_undone_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system trusts it until its bundle is made anew, and so says a repeated uninstall."""
    anchor = tmp_path / "flyted.crt"
    anchor.write_text("certificate")
    monkeypatch.setattr(trust, "root_environment", lambda: {"PATH": str(tmp_path)})
    for _ in range(2):
        with pytest.raises(HostFailure, match="update-ca-certificates is not installed"):
            trust.uninstall_system(anchor)
    program = tmp_path / "update-ca-certificates"
    program.symlink_to("/bin/true")
    assert trust.uninstall_system(anchor)
    assert list(tmp_path.iterdir()) == [program]
    assert not trust.uninstall_system(anchor)
