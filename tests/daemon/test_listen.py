"""The ports of the ingress: kept for the daemon's next start, whatever happens while they are written."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flyted.contract.errors import HostFailure
from flyted.daemon.ingress.listen import choose_ingress_ports
from flyted.daemon.settings import Settings

SETTINGS = Settings(https_port=20443, http_port=20080)
OTHERS = Settings(https_port=21443, http_port=21080)


def units(*, runs: bool) -> Any:
    """systemd, with an ingress that listens or none."""
    return SimpleNamespace(listening=lambda _name: ("127.0.0.1:20443",) if runs else (), list=lambda _names: [])


def test_the_ports_are_kept_while_the_ingress_listens(tmp_path: Path) -> None:
    """What was got at the last start counts before what is free now, as long as the settings are the same."""
    (tmp_path / "ports.json").write_text(json.dumps([20443, 20080, 30443, 30080]))
    kept = choose_ingress_ports(SETTINGS, units(runs=True), tmp_path)
    assert (kept.https_port, kept.http_port) == (30443, 30080)
    new = choose_ingress_ports(OTHERS, units(runs=True), tmp_path)
    assert (new.https_port, new.http_port) == (21443, 21080)


def test_the_file_is_whole_at_each_moment(tmp_path: Path) -> None:
    """A daemon that is killed as it writes leaves the old ports or the new ones: the old file is never emptied."""
    choose_ingress_ports(SETTINGS, units(runs=False), tmp_path)
    file = tmp_path / "ports.json"
    with file.open() as old:
        choose_ingress_ports(OTHERS, units(runs=False), tmp_path)
        assert json.load(old) == [20443, 20080, 20443, 20080]
    assert json.loads(file.read_text()) == [21443, 21080, 21443, 21080]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_told_without_a_traceback(tmp_path: Path) -> None:
    """As the daemon's other errors, which its main function prints in one line."""
    with pytest.raises(HostFailure, match=r"cannot write .*/ports\.json"):
        choose_ingress_ports(SETTINGS, units(runs=False), tmp_path / "gone")
