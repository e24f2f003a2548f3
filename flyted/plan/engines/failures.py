"""Finds the reason why an engine did not start in its output, a hundred lines of traceback before the end. Pure.

An engine is several processes: the one that fails prints why, and each that waited for it prints only that another
failed. So the first error of a start counts, not the last line. The texts here are those of torch, huggingface_hub and
the loader, as vLLM 0.32 and SGLang 0.5.23 print them; texts that only one engine prints are in that engine's file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flyted.contract.answers.events import LogLine
from flyted.plan.reasons import clean

LINES = 400
"""The number of lines of the journal to read: enough for what all processes of one start print."""
_LONG = 2000

_ERROR = re.compile(r"(?:^|[\] ])((?:[A-Za-z_]\w*\.)*(?:\w*(?:Error|Exception)|NotImplemented): \S.*)$")
SIZES = r"\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\)"
"""Free and total memory, as both of vLLM's messages write them."""
_NO_GPU = "its build is for GPUs, and the app has none: serve it with a GPU, or with --python-env and a build for CPUs"
SMALLER = (
    "give it a smaller share (--gpu-memory-utilization for vLLM, --mem-fraction-static for SGLang) or a smaller model"
)
NO_ROOM_FOR_TEXT = (
    "after loading the model, no memory is left for a single text: give it more memory or a smaller model"
)


@dataclass(frozen=True)
class Failure:
    """A cause that is known by its text.

    ``message``: the cause for people; the pattern's groups and ``{error}``, the line's error, are filled in.
    """

    pattern: re.Pattern[str]
    message: str


_SHARED: tuple[Failure, ...] = (
    Failure(
        re.compile(r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|CUDA error: out of memory"),
        "the GPU has too little memory for the model: " + SMALLER,
    ),
    Failure(
        re.compile(r"lib(?P<library>numa|gomp)\.so\.1: cannot open shared object file"),
        "it needs lib{library}: sudo apt install lib{library}1",
    ),
    Failure(
        re.compile(r"InvalidCxxCompiler|Failed to find C compiler|No working C\+\+ compiler"),
        "it compiles its model and finds no compiler: sudo apt install g++ python3-dev, or add --enforce-eager",
    ),
    Failure(
        re.compile(r"No module named '(?P<module>vllm|sglang|torch|sgl_kernel|sglang_router)(?:\.[\w.]*)?'"),
        "{module} is not installed in its environment: install {module} there (uv pip install --python DIR {module})",
    ),
    Failure(re.compile(r"Failed to infer device type|No accelerator \(CUDA"), _NO_GPU),
    Failure(
        re.compile(r"driver version is insufficient|driver on your system is too old"),
        "the GPU driver is too old for its CUDA version: update the driver, or install a build for that driver",
    ),
    Failure(
        re.compile(
            r"(?:LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to 'https://huggingface\.co"
            r"|RepositoryNotFoundError|GatedRepoError|Repo id must be|Invalid repository ID"
            r"|does not appear to have a file named)"
        ),
        "the model was not found: {error}; to read it from a local folder: flytectl model add NAME DIR",
    ),
    Failure(
        re.compile(r"PermissionError: .*Permission denied: '(?P<path>/[^']*)'"),
        "it has no permission for {path}; apps run as users of their own: sudo chmod -R o+rX, for a model's folder",
    ),
)  # fmt: skip
_AFTERMATH = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|background process|Failed core proc"
    r"|Failed to import from vllm|Ignore import error"
)


def engine_failure(lines: Sequence[LogLine], own: Iterable[Failure] = ()) -> str:
    """Return the cause in ``lines`` if it is known, else the first error that was printed; "" if there is none.

    ``own``: the causes that only this engine's log names. A known cause goes before the first error, because an engine
    catches some errors and tries another way.
    """
    said = [clean(line.text, _LONG) for line in lines if line.source == "app"]
    for failure in (*own, *_SHARED):
        match = next((found for text in said if (found := failure.pattern.search(text)) and not _retried(text)), None)
        if match is not None:
            return clean(failure.message.format(**match.groupdict(), error=_error_in(match.string)))
    errors = [found[1] for text in said if (found := _ERROR.search(text)) and not _AFTERMATH.search(text)]
    return clean(errors[0] if errors else "")


def _retried(text: str) -> bool:
    """Report whether this error is not the cause: the engine catches it, or it follows from another error.

    An error about libnuma is always a cause.
    """
    return _AFTERMATH.search(text) is not None and "libnuma" not in text


def _error_in(text: str) -> str:
    found = _ERROR.search(text)
    return found[1] if found else text
