"""The guide's vllm_with_auth.py with ``--idle sleep``: the real vLLM goes to sleep and is woken by a chat.

On a processor it gives no memory back; its endpoints, their order, and that a chat hangs while it sleeps are the same.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from tests.engines.serving import ANSWER, Served, served
from tests.machine.kit.users import alice, until

APP = "vllm-app-with-auth"


@pytest.fixture(scope="module")
def vllm() -> Iterator[Served]:
    """One start for all of these tests."""
    with served("vllm_with_auth.py", APP, "--idle", "sleep") as engine:
        yield engine


def sleeping(vllm: Served) -> bool:
    """What vLLM itself says, asked in its own network."""
    return bool(json.loads(vllm.inside("/is_sleeping"))["is_sleeping"])


def test_what_it_is_is_said(vllm: Served) -> None:
    """That nothing is gained without a GPU; and which paths are open."""
    assert "without a GPU vLLM frees no memory" in vllm.said
    assert "public paths (its API key required): /v1" in vllm.said


def test_it_sleeps_and_a_chat_wakes_it(vllm: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """The same processes answer; who comes while it sleeps waits in the socket, where nothing hangs."""
    processes = vllm.processes()
    assert not sleeping(vllm)
    took = []
    for _ in range(3):
        alice("flytectl", "app", "sleep", APP)
        assert vllm.state == "sleeping"
        assert sleeping(vllm)
        begun = time.monotonic()
        assert vllm.chat() == (200, ANSWER)
        took.append(time.monotonic() - begun)
        assert not sleeping(vllm)
        until(lambda: vllm.state == "running")
    assert set(processes) <= set(vllm.processes())
    with capsys.disabled():
        print(f"\nvLLM, asleep: a chat is answered after {min(took):.2f} to {max(took):.2f} s")


def test_many_wake_it_at_once(vllm: Served) -> None:
    """All are answered."""
    alice("flytectl", "app", "sleep", APP)
    answers: list[tuple[int, str]] = []
    threads = [threading.Thread(target=lambda: answers.append(vllm.chat())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert answers == [(200, ANSWER)] * 8


def test_its_development_endpoints_are_closed(vllm: Served) -> None:
    """They are there, inside, and nobody reaches them from outside, with the key or without."""
    assert vllm.inside("/is_sleeping")
    for path in ("/sleep?level=1", "/wake_up", "/is_sleeping", "/collective_rpc", "/server_info", "/%73leep",
                 "/reset_prefix_cache", "/v1/../sleep", "/pause"):  # fmt: skip
        assert (vllm.ask(path)[0], vllm.ask(path, {})[0]) == (403, 403), path
    assert not sleeping(vllm)
