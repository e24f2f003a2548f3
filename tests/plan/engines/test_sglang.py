"""SGLang without a GPU, and its router."""

from __future__ import annotations

import pytest

from flyted.contract.errors import Unsupported
from flyted.plan.engines.check import check
from tests.plan.engines.commands import FSERVE, GIB, KEY, SGLANG_ARGS, SGLANG_CPU, added, cpu_shape
from tests.values import spec


def test_sglang_is_told_that_it_has_a_processor_and_how_much_memory() -> None:
    """16 GiB of 24, a third of that; of an app that may have all of the machine, a third of it."""
    assert dict(cpu_shape(*SGLANG_CPU).env)["SGLANG_USE_CPU_ENGINE"] == "1"
    assert added(*SGLANG_CPU) == ("--sleep-on-idle", "--mem-fraction-static", "0.222")
    assert added(*SGLANG_CPU, memory_bytes=64 * GIB)[-1] == "0.333"
    assert added(*SGLANG_CPU, machine=0) == ("--sleep-on-idle",)
    assert added(*SGLANG_CPU, "--sleep-on-idle", "--max-total-tokens", "2048") == ()


def test_sglangs_router_is_served_behind_a_token_only() -> None:
    """router=True of the plug-in: no list of what its key leaves open is known."""
    command = (*FSERVE, "python", "-m", "sglang_router.launch_server", *SGLANG_ARGS[1:])
    with pytest.raises(Unsupported, match="flyted cannot tell which of its paths that key protects"):
        check(spec(command=command, port=8080, requires_auth=False))
    check(spec(command=command, port=8080, requires_auth=True))
    check(spec(command=command[: -len(KEY)], port=8080, requires_auth=False))  # open to all, as the file says
    check(spec(command=(*FSERVE, *SGLANG_ARGS), port=8080, requires_auth=False))
