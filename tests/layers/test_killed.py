"""The end of a step that was killed: its layer is removed when nobody can make a file in it any more."""

from __future__ import annotations

import os
import threading
import time

import pytest

from flyted.layers import layer


def test_the_end_of_a_killed_step_is_waited_for() -> None:
    """Each of its processes holds the pipe, also while it says something more."""
    reading, writing = os.pipe()

    def end() -> None:
        for _ in range(3):
            time.sleep(0.05)
            os.write(writing, b"x" * 100)
        ended.append(time.monotonic())
        os.close(writing)

    ended: list[float] = []
    dying = threading.Thread(target=end)
    dying.start()
    layer._wait_for_end(reading)
    assert ended
    assert time.monotonic() >= ended[0]
    dying.join()
    os.close(reading)


def test_it_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may keep a process for as long as a disk does not answer."""
    monkeypatch.setattr(layer, "_END_S", 0.05)
    reading, writing = os.pipe()
    began = time.monotonic()
    layer._wait_for_end(reading)
    assert time.monotonic() - began < 10
    os.close(reading)
    os.close(writing)
