"""``on_startup`` and ``on_shutdown`` that take their time, when SIGTERM comes in the middle."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.harness import App, Unit, app_bundle, fserve

pytestmark = pytest.mark.slow

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]


def started(unit: Unit, folder: Path) -> App:
    return unit.start(app_bundle(folder, "slow_hooks.py"), fserve("slow_hooks:env"))


@pytest.mark.parametrize("kind", ["starts", "starts-async"])
def test_sigterm_ends_an_app_that_is_still_starting(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, kind: str
) -> None:
    """At once, and without a traceback: nothing serves yet that could be asked to finish."""
    app = running(started(make_unit(variables={"KIND": kind}), tmp_path)).until("starting")
    began = time.monotonic()
    assert app.stop() == 0
    assert time.monotonic() - began < 10
    assert "Traceback" not in app.err


@pytest.mark.parametrize("kind", ["ends", "ends-async"])
def test_a_stop_function_runs_to_its_end(make_unit: MakeUnit, running: Keep, tmp_path: Path, kind: str) -> None:
    """Also if SIGTERM comes again while it runs: systemd's own limit is the only one."""
    unit = make_unit(variables={"KIND": kind})
    app = running(started(unit, tmp_path)).ready()
    assert app.get() == (200, "served")
    app.process.send_signal(signal.SIGTERM)
    app.until("ending")
    app.process.send_signal(signal.SIGTERM)
    assert app.wait() == 0, app.err
    assert app.out.splitlines()[-2:] == ["ending", "ended"]
