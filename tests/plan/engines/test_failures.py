"""An engine's hundred lines of traceback become the one sentence that helps. Each text is one that was printed."""

from __future__ import annotations

import pytest

from flyted.contract.answers.events import LogLine
from flyted.plan.engines.failures import engine_failure
from flyted.plan.engines.registry import ENGINES
from flyted.plan.reasons import reason_of

TAIL = (
    "(EngineCore pid=1552) ERROR 11-24 15:21:36 [core.py:1510] Exception: WorkerProc initialization failed due to",
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    "flyted: the program exited with status 1 and never listened",
)
WORKER = "(VllmWorker-0 pid=1571) ERROR 11-24 15:21:33 [multiproc_executor.py:953] "
TOO_LONG = (
    "(EngineCore pid=9) ERROR 11-24 15:21:36 [core.py:1510] ValueError: To serve at least one request with the"
    " model's max seq len (40960), (4.38 GiB KV cache is needed, which is larger than the available KV cache"
    " memory (1.0 GiB). Based on the available memory, the estimated maximum model length is 9344."
)
TRIED = "[2026-11-24 15:29:30] Ignore import error when loading x: No module named 'torch.x'"


def why(*texts: str) -> str:
    """What is made of these lines and those that always follow."""
    own = [failure for engine in ENGINES for failure in engine.failures]
    return engine_failure(
        [LogLine(time=0, revision=1, source="app", text=text) for text in ("starting", *texts, *TAIL)], own
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            WORKER
            + "ValueError: Available memory on node 0 (21.44/23.54 GiB) on startup is less than desired CPU memory"
            " utilization (0.92, 21.66 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls the",
            "21.44 of 23.54 GiB of memory free, and it wants 21.66 GiB",
        ),
        (
            WORKER
            + "ValueError: Available memory on node 0 (2.1/4.0 GiB) on kv cache allocation is less than requested"
            " memory for kv (5.0 GiB). Decrease --kv-cache-memory-bytes",
            "2.1 of 4.0 GiB of memory free, and it wants 5.0 GiB",
        ),
        (
            WORKER
            + "ValueError: Free memory on device cuda:0 (10.2/44.4 GiB) on startup is less than desired GPU memory"
            " utilization (0.92, 40.85 GiB). Decrease GPU memory utilization or reduce GPU memory used by other",
            "the GPU has 10.2 of 44.4 GiB free, and it wants 40.85 GiB at its start: give it a smaller share",
        ),
        (
            WORKER
            + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity",
            "the GPU has too little memory for the model",
        ),
        (
            TOO_LONG,
            "a text of 40960 tokens, the model's longest, takes 4.38 GiB, and 1.0 GiB are left",
        ),
        (
            "[2026-11-24 15:29:30] RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
            "no memory is left for a single text",
        ),
        ("ModuleNotFoundError: No module named 'vllm'", "vllm is not installed in its environment"),
        ("ImportError: libnuma.so.1: cannot open shared object file: No such file", "sudo apt install libnuma1"),
        (
            "bin/llama-server: error while loading shared libraries: libgomp.so.1: cannot open shared object file: No",
            "it needs libgomp: sudo apt install libgomp1",
        ),
        (WORKER + "torch._inductor.exc.InvalidCxxCompiler: No working C++ compiler found", "sudo apt install g++"),
        ("RuntimeError: Failed to infer device type, please set `VLLM_LOGGING_LEVEL=DEBUG`", "a build for CPUs"),
        (
            "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them",
            "the model was not found: OSError: We couldn't connect",
        ),
        (
            "OSError: /srv/m does not appear to have a file named config.json. Checkout",
            "the model was not found: OSError: /srv/m does not appear",
        ),
        (
            "PermissionError: [Errno 13] Permission denied: '/srv/models/q/config.json'",
            "it has no permission for /srv/models/q/config.json",
        ),
    ],
)
def test_what_is_known_is_told_in_words(said: str, told: str) -> None:
    """With the numbers, and what to do."""
    assert told in why(said)


def test_the_first_error_counts_where_nothing_is_known() -> None:
    """Not the last line, which says that something went wrong elsewhere."""
    assert why(WORKER + "KeyError: 'model.layers.0'", "ValueError: later") == "KeyError: 'model.layers.0'"
    assert (
        why(TRIED, WORKER + "zmq.error.ZMQError: ipc path is too long") == "zmq.error.ZMQError: ipc path is too long"
    )


def test_what_was_only_tried_is_no_cause() -> None:
    """SGLang tries to import all models that it knows; vLLM all its kernels."""
    assert why(TRIED) == ""
    assert engine_failure([LogLine(time=0, revision=1, source="systemd", text="RuntimeError: x")]) == ""


def test_it_stands_in_the_reason() -> None:
    """In place of the app's last line; control characters of a log reach nobody."""
    lines = [
        LogLine(
            time=0, revision=1, source="systemd", text="x.service: Main process exited, code=exited, status=1/FAILURE"
        )
    ]
    assert reason_of(lines, 300, "KeyError: 1").endswith("exited with status 1 during its start: KeyError: 1")
    assert "\x1b" not in why("\x1b[31mValueError: red\x1b[0m")
