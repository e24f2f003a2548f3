"""The whole life of apps with GPUs, in milliseconds, on the machine of ``life.py``."""

from __future__ import annotations

import gc
import warnings

from flyted.contract.names import Replica
from tests.daemon.life import Life, service, up
from tests.daemon.rest import rest


def test_idle_apps_give_their_gpu_and_busy_ones_do_not(life: Life) -> None:
    """The second app waits for the first one's request; then it gets the GPU, whose memory has come back."""
    first = up(life, "g", gpu_count=1, scaledown_after_s=300.0)
    running = life.request("g", 15.0)
    asked = life.serve("h", gpu_count=1)
    life.run(14)
    assert (asked.end, service(life, first)) == ("", "active")
    life.run(14)
    assert (running.end, asked.end, service(life, first)) == ("answered", "done", "inactive")
    assert life.world.pairs[Replica("h", 1)].devices == ("GPU-1",)
    rest(life)


def test_a_start_that_gets_no_gpu_in_time_fails_and_is_tried_again(life: Life) -> None:
    """Its visitor hears 503; when there is a GPU, the next one is served."""
    up(life, "g", gpu_count=1)
    holder = life.request("g", 100.0)
    asked = life.serve("h", gpu_count=1)
    life.run(40)
    assert asked.end.startswith("DeployFailed: revision 1 of app 'h' did not start")
    assert any("held by g (busy)" in text for text in asked.says)
    life.run(100)
    assert holder.end == "answered"
    rest(life)


def test_a_lost_gpu_takes_its_app_down_until_it_is_back(life: Life) -> None:
    """The app backs off, and serves again behind the reset."""
    replica = up(life, "g", gpu_count=1)
    life.world.gpus.lose("GPU-1", heard=True)
    life.run(1)
    assert service(life, replica) in ("", "inactive")
    life.world.gpus.restore()
    life.run(20)
    request = life.request("g")
    life.run(5)
    assert request.end == "answered"
    rest(life)


def test_a_daemon_that_restarts_knows_who_holds_a_gpu(life: Life) -> None:
    """It neither takes it away nor gives it twice."""
    replica = up(life, "g", gpu_count=1, scaledown_after_s=300.0)
    life.request("g", 20.0)
    life.end(killed=True)
    life.run(3)
    life.start()
    asked = life.serve("h", gpu_count=1)
    life.run(10)
    assert (asked.end, service(life, replica)) == ("", "active")
    life.run(30)
    assert asked.end == "done"
    rest(life)


def test_nothing_is_done_to_an_app_while_somebody_starts_it(life: Life) -> None:
    """Its GPU was lost, and the loop takes its units down as the verb comes: one after the other."""
    up(life, "g", gpu_count=1)
    life.world.job_s = 2.0
    life.world.gpus.lose("GPU-1", heard=True)
    life.run(1)
    asked = life.call("start", "g")
    life.run(60)
    assert asked.end
    rest(life)


def test_a_request_that_comes_just_before_an_eviction_is_not_cut(life: Life) -> None:
    """A pass gives the GPU of an idle app to another one, and a look at the GPUs takes a second."""
    first = up(life, "g", gpu_count=1, scaledown_after_s=300.0)
    life.world.pace(gpus_s=1.0)
    asked = life.serve("h", gpu_count=1)
    assert life.until("Evict", 20) == "g"
    request = life.request("g", 10.0)
    life.run(9)
    assert (asked.end, service(life, first)) == ("", "active")
    life.run(40)
    assert (request.end, asked.end) == ("answered", "done")
    rest(life)


def test_a_daemon_that_ends_as_a_gpu_is_lost_leaves_no_work_behind(life: Life) -> None:
    """The look at the GPUs is not begun any more, and Python has nothing to warn of."""
    up(life, "g", gpu_count=1)
    life.world.gpus.lose("GPU-1", heard=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        life.end(killed=False)
        gc.collect()
    assert [str(each.message) for each in caught] == []
    life.start()
    rest(life)
