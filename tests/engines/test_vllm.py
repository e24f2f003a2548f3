"""The guide's vllm_with_auth.py, byte for byte, with the real vLLM on a processor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines import checks
from tests.engines.serving import Served, served

CLOSED = (
    "/invocations", "/tokenize", "/detokenize", "/pause", "/metrics", "/docs", "/openapi.json", "/version", "/load",
    "/ping", "/server_info", "/sleep", "/wake_up", "/scale_elastic_ep",
)  # fmt: skip
CACHES = ("HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


@pytest.fixture(scope="module")
def vllm() -> Iterator[Served]:
    """One start for all of these tests."""
    with served("vllm_with_auth.py", "vllm-app-with-auth") as engine:
        yield engine


def test_it_is_served(vllm: Served) -> None:
    """Serve says what it took and what is open; what the file has no words for on a processor was added."""
    checks.serves(vllm, ("/v1", "/v2", "/inference", "/cohere", "/health"))
    assert vllm.environ()["VLLM_CPU_KVCACHE_SPACE"] == "5"  # a third of the file's 16Gi


def test_it_answers_who_has_the_key(vllm: Served) -> None:
    """200 with the model's own words, 401 otherwise."""
    checks.answers(vllm)


def test_what_the_key_does_not_guard_is_closed(vllm: Served) -> None:
    """vLLM itself answers a chat at /invocations without a key: asked inside, where nothing is closed."""
    checks.is_closed(vllm, CLOSED)
    assert "vllm:" in vllm.inside("/metrics")


def test_the_key_is_nowhere(vllm: Served) -> None:
    """Not in an argument of any process, nor in a file or the journal."""
    checks.keeps_the_key(vllm)


def test_its_caches_survive_a_sleep(vllm: Served) -> None:
    """A wake compiles and downloads nothing again."""
    checks.caches_survive(vllm, CACHES)


def test_openais_client(vllm: Served) -> None:
    """Chat, stream, models, bad key."""
    checks.openai_client(vllm)


def test_hanging_up(vllm: Served) -> None:
    """A cancelled stream is not written to its end."""
    checks.hanging_up_ends_the_work(vllm, "vllm:num_requests_running")


def test_it_sleeps_and_wakes(vllm: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """All its processes go; the next request starts it, waits, and is answered."""
    checks.sleeps_and_wakes(vllm)
    with capsys.disabled():
        checks.tell(vllm)
