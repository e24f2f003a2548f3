"""Why a language model server did not come up: its own words, a hundred lines of traceback back, for people. Pure.

An engine is several processes: the one that fails says why, and each that waited for it says only that another failed.
So it is the first error of a start that counts, not the last line. The texts are those of vLLM 0.32 and SGLang 0.5.23
(vllm/v1/worker, vllm/v1/core/kv_cache_utils.py, sglang/srt/model_executor), of torch and of huggingface_hub.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from flyted.plan.reasons import Line, clean

LINES = 400  # of the journal: what all processes of one start say
_LONG = 2000

_ERROR = re.compile(r"(?:^|[\] ])((?:[A-Za-z_]\w*\.)*(?:\w*(?:Error|Exception)|NotImplemented): \S.*)$")
_SIZES = r"\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\)"
_LESS = (
    "the machine has {free} of {total} GiB of memory free, and it wants {asked} GiB: "
    "ask for less memory in the app's resources, or set VLLM_CPU_KVCACHE_SPACE (GiB)"
)
_TOO_LONG = (
    "a text of {length} tokens, the model's longest, takes {needed} GiB, and {there} GiB are left for texts: "
    "--max-model-len auto, or more memory"
)
_NO_GPU = (
    "its build is one for GPUs, and the app has none: "
    "serve it with a GPU, or with --python-env and a build for processors"
)
_SMALLER = (
    "give it a smaller share (--gpu-memory-utilization for vLLM, --mem-fraction-static for SGLang) or a smaller model"
)

_KNOWN: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(rf"Free memory on device (?P<device>\S+) {_SIZES} on startup.*\([\d.]+, (?P<asked>[\d.]+) GiB\)"),
        "the GPU has {free} of {total} GiB free, and it wants {asked} GiB at its start: " + _SMALLER,
    ),
    (
        re.compile(rf"Available memory on node \S+ {_SIZES} on.*\((?:[\d.]+, |[\d.]+/)?(?P<asked>[\d.]+) GiB\)"),
        _LESS,
    ),
    (
        re.compile(r"max seq len \((?P<length>\d+)\), \((?P<needed>[\d.]+) GiB .*memory \((?P<there>[\d.]+) GiB\)"),
        _TOO_LONG,
    ),
    (
        re.compile(r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|CUDA error: out of memory"),
        "the GPU's memory is not enough for the model: " + _SMALLER,
    ),
    (
        re.compile(r"No available memory for the cache bl|Cannot auto-fit max_model_len|Not enough memory\. Please"),
        "after the model was loaded no memory is left for a single text: more memory, or a smaller model",
    ),
    (
        re.compile(r"lib(?P<library>numa|gomp)\.so\.1: cannot open shared object file"),
        "it needs lib{library}: sudo apt install lib{library}1",
    ),
    (
        re.compile(r"InvalidCxxCompiler|Failed to find C compiler|No working C\+\+ compiler"),
        "it compiles its model, and there is no compiler: sudo apt install g++ python3-dev, or --enforce-eager",
    ),
    (
        re.compile(r"No module named '(?P<module>vllm|sglang|torch|sgl_kernel|sglang_router)(?:\.[\w.]*)?'"),
        "{module} is not installed in its environment: install {module} there (uv pip install --python DIR {module})",
    ),
    (
        re.compile(r"Failed to infer device type|No accelerator \(CUDA"),
        _NO_GPU,
    ),
    (
        re.compile(r"driver version is insufficient|driver on your system is too old"),
        "the GPU's driver is older than its build of CUDA: update the driver, or install a build for it",
    ),
    (
        re.compile(
            r"(?:LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to 'https://huggingface\.co"
            r"|RepositoryNotFoundError|GatedRepoError|Repo id must be|Invalid repository ID"
            r"|does not appear to have a file named)"
        ),
        "the model was not found: {error}; flytectl model add NAME DIR takes one from a folder of this machine",
    ),
    (
        re.compile(r"PermissionError: .*Permission denied: '(?P<path>/[^']*)'"),
        "it may not read or write {path}; apps have their own users: sudo chmod -R o+rX, for a model's folder",
    ),
)  # fmt: skip
_AFTERMATH = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|background process|Failed core proc"
    r"|Failed to import from vllm|Ignore import error"
)


def engine_failure(lines: Sequence[Line]) -> str:
    """What is known of the cause, or the first error that was printed; "" if there is none.

    A cause that is known counts before what is printed first: some errors are caught and tried in another way.
    """
    said = [clean(line.text, _LONG) for line in lines if line.source == "app"]
    errors = [found[1] for text in said if (found := _ERROR.search(text)) and not _AFTERMATH.search(text)]
    first = errors[0] if errors else ""
    for pattern, words in _KNOWN:
        match = next((found for text in said if (found := pattern.search(text)) and not _tried(text)), None)
        if match is not None:
            return clean(words.format(**match.groupdict(), error=_own(match.string)))
    return clean(first)


def _tried(text: str) -> bool:
    """Whether the line tells of something that is only tried; libnuma's is the word of a kernel that fails later."""
    return _AFTERMATH.search(text) is not None and "libnuma" not in text


def _own(text: str) -> str:
    found = _ERROR.search(text)
    return found[1] if found else text
