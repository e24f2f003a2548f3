"""Engines that are refused at serve, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.app import AppSpec, from_dict, to_dict
from flyted.contract.errors import InvalidInput
from flyted.plan.engines.check import check
from flyted.plan.engines.vllm import OPENABLE
from tests.values import spec

VLLM = ("fserve", "--", "vllm-fserve", "serve", "m", "--port", "8080")


def sleeper(**changes: Any) -> AppSpec:
    """An app that is to sleep without ending."""
    return spec(**{"command": VLLM, "port": 8080, "engine_sleep": 1, **changes})


def test_vllm_sleeps_at_both_levels() -> None:
    """And the level crosses the border, and is a part of what was served."""
    for level in (0, 1, 2):
        check(sleeper(engine_sleep=level))
        assert from_dict(to_dict(sleeper(engine_sleep=level))).engine_sleep == level
    assert sleeper().digest() != sleeper(engine_sleep=2).digest()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": ("fserve", "--", "sglang-fserve", "--port", "8080")}, "for apps that run vLLM (it runs SGLang)"),
        ({"command": ("llama-server", "-m", "x")}, "(it runs llama.cpp)"),
        ({"command": ("fserve", "--"), "port": 0}, "for apps that run vLLM (it does not)"),
        ({"command": ("python", "serve.py")}, "(it does not)"),
        ({"min_replicas": 1}, "it is never idle"),
        ({"engine_sleep": 3}, "engine_sleep 3 is out of range"),
        ({"engine_sleep": -1}, "engine_sleep -1 is out of range"),
        ({"command": (*VLLM, "--ssl-keyfile=k")}, "with --ssl-keyfile vLLM cannot be put to sleep"),
        ({"command": (*VLLM, "--root_path", "/v1")}, "with --root-path vLLM cannot be put to sleep"),
        ({"command": (*VLLM, "--uds", "/tmp/s")}, "with --uds vLLM cannot be put to sleep"),
    ],
)
def test_what_cannot_sleep_so_is_refused(changes: dict[str, Any], said: str) -> None:
    """With the reason; without --idle all of them are fine."""
    with pytest.raises(InvalidInput) as refused:
        check(sleeper(**changes))
    assert said in refused.value.message
    assert refused.value.hint
    check(sleeper(**{**changes, "engine_sleep": 0}))


@pytest.mark.parametrize("path", ["/", "/sleep", "/wake_up", "/collective_rpc", "/metricsx", "/vv1", "/server_info"])
def test_what_would_let_others_in_is_refused(path: str) -> None:
    """An opened path is one of those that vLLM has without its development mode, or lies below one."""
    with pytest.raises(InvalidInput, match="cannot be combined with --idle sleep"):
        check(sleeper(open_paths=(path,)))
    check(sleeper(open_paths=("/metrics", "/v1/models", *OPENABLE)))
