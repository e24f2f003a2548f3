"""The guide's sglang_with_auth.py, byte for byte, with the real SGLang on a processor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines import checks
from tests.engines.serving import KEY, Served, served

CLOSED = (
    "/invocations", "/tokenize", "/metrics", "/docs", "/openapi.json", "/server_info", "/get_server_info",
    "/health_generate", "/flush_cache", "/release_memory_occupation", "/update_weights_from_disk", "/ping",
)  # fmt: skip
CACHES = ("HF_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "FLASHINFER_WORKSPACE_BASE")


@pytest.fixture(scope="module")
def sglang() -> Iterator[Served]:
    """One start for all of these tests."""
    with served("sglang_with_auth.py", "sglang-app-with-auth") as engine:
        yield engine


def test_it_is_served(sglang: Served) -> None:
    """Serve says what it took and what is open."""
    checks.serves(sglang, ("/v1", "/generate", "/encode", "/classify", "/model_info", "/get_model_info", "/health"))


def test_it_answers_who_has_the_key(sglang: Served) -> None:
    """200 with the model's own words, 401 otherwise."""
    checks.answers(sglang)


def test_what_the_key_does_not_guard_is_closed(sglang: Served) -> None:
    """SGLang itself shows its metrics to everybody, and its key to those who have it."""
    checks.is_closed(sglang, CLOSED)
    assert KEY in sglang.inside("/server_info")


def test_the_key_is_nowhere(sglang: Served) -> None:
    """SGLang prints its key at its start: in the journal there are stars."""
    assert "'api_key': '***'" in sglang.journal()
    checks.keeps_the_key(sglang)


def test_its_caches_survive_a_sleep(sglang: Served) -> None:
    """A wake compiles and downloads nothing again."""
    checks.caches_survive(sglang, CACHES)


def test_openais_client(sglang: Served) -> None:
    """Chat, stream, models, bad key."""
    checks.openai_client(sglang)


def test_hanging_up(sglang: Served) -> None:
    """A cancelled stream is not written to its end."""
    checks.hanging_up_ends_the_work(sglang, "sglang:num_running_reqs{")


def test_it_sleeps_and_wakes(sglang: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """All its processes go; the next request starts it, waits, and is answered."""
    checks.sleeps_and_wakes(sglang)
    with capsys.disabled():
        checks.tell(sglang)
