"""Which apps of a file ``flytectl serve --idle sleep`` is for, by their command."""

from __future__ import annotations

import pytest

from flyted.contract.engines import can_sleep, starts_with


@pytest.mark.parametrize(
    "command",
    [
        ("fserve", "--", "vllm-fserve", "serve", "m", "--port", "8080"),
        ("/opt/env/bin/vllm", "serve", "m"),
        ("python3.12", "-u", "-m", "vllm.entrypoints.cli.main", "serve", "m"),
    ],
)
def test_vllm_can_sleep_and_stay(command: tuple[str, ...]) -> None:
    """By the plug-in, by its own program wherever that lies, and as a module."""
    assert can_sleep(command)


@pytest.mark.parametrize(
    "command", [(), ("fserve", "--"), ("vllm", "chat"), ("fserve", "--", "sglang-fserve"), ("echo", "vllm", "serve")]
)
def test_no_other_program_can(command: tuple[str, ...]) -> None:
    """Nor a server function, nor what only names vLLM."""
    assert not can_sleep(command)


def test_a_command_begins_in_one_of_several_ways() -> None:
    """As a program, or as a module of any Python 3; an empty one begins in none."""
    starts = (("tgi", "serve"), ("-m", "tgi"))
    assert starts_with(("/usr/bin/tgi", "serve", "m"), starts)
    assert starts_with(("python", "-m", "tgi"), starts)
    assert not starts_with(("tgi",), starts)
    assert not starts_with((), starts)
