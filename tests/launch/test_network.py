"""Waiting for the default route of an app's network: the kernel's table of routes, as proc(5) shows it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from flyted.launch import network
from flyted.launch.refused import Refused
from flyted.launch.words import EX_TEMPFAIL

pytestmark = pytest.mark.slow

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
CLOSED = "*\t0000FEA9\t00000000\t0201\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
NEAR = "eth0\t010012C6\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
REJECTED = "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n"
OUT = "eth0\t00000000\t010012C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"


@pytest.fixture
def routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table, to be written."""
    monkeypatch.setattr(network, "_ROUTES", str(tmp_path / "route"))
    return tmp_path / "route"


@pytest.mark.parametrize("rows", ["", CLOSED, NEAR + CLOSED, REJECTED])
def test_a_network_without_a_route_is_not_begun_in(routes: Path, rows: str) -> None:
    """The app gives up after its time, in words that are looked for, and may be started again."""
    routes.write_text(HEAD + rows)
    with pytest.raises(Refused, match="its network was not ready") as refused:
        network.await_egress(0.05)
    assert refused.value.status == EX_TEMPFAIL


def test_a_route_that_is_there_is_not_waited_for(routes: Path) -> None:
    """One look."""
    routes.write_text(HEAD + CLOSED + OUT + NEAR)
    network.await_egress(0)


CALLS = "eth0\t01FF12C6\t010012C6\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"


def test_an_app_that_reaches_only_apps_waits_for_the_route_to_them(routes: Path) -> None:
    """It has no default route."""
    routes.write_text(HEAD + CLOSED + NEAR + OUT)
    with pytest.raises(Refused, match="its network was not ready"):
        network.await_route("198.18.255.1", 0.05)
    routes.write_text(HEAD + CLOSED + NEAR + CALLS)
    network.await_route("198.18.255.1", 0)
    with pytest.raises(Refused, match="its network was not ready"):
        network.await_egress(0.05)


def test_a_route_that_comes_late_is_enough(routes: Path) -> None:
    """Seen soon after."""
    routes.write_text(HEAD)
    threading.Timer(0.2, lambda: routes.write_text(HEAD + OUT)).start()
    began = time.monotonic()
    network.await_egress(10)
    assert 0.15 < time.monotonic() - began < 5
