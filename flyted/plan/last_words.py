"""Finds the line of an app's output that gives the reason why it ended. Pure.

It is often not the last line: Node prints its version, uvicorn prints that the start-up failed, a stack ends in a
brace. So lines that never hold a reason are skipped, and a traceback is represented by its exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from flyted.launch.words import CANNOT_START, OURS

_REFUSED = f"{OURS}{CANNOT_START}"
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):$")
_CHAINED = re.compile(
    r"(?:During handling of the above exception, another exception occurred"
    r"|The above exception was the direct cause of the following exception):$"
)
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:: .*)?$")  # traceback.format_exception_only: the type and the message
_ERROR = re.compile(
    r"(?:^|[\s\[(])(?:[\w.]*(?:Error|Exception|Refused)\b|(?i:error|fatal|panic|critical)\b)"
    r"|(?i:\b(?:cannot|can't|could not|failed|unable to|not found|no such|denied|refused)\b)"
)
_NOISE = (
    re.compile(r"(?:INFO|DEBUG)\b"),  # logging's and uvicorn's levels; not "Info" in a sentence
    re.compile(r"ERROR:\s+Application startup failed\. Exiting\.$"),  # uvicorn: it printed the reason before
    re.compile(r"Node\.js v\d"),
    re.compile(rf"{OURS}.*\(flytectl\(1\), [A-Z ]+\)$"),  # launch/closed.py: a hint that follows the reason
    re.compile(r"\s"),  # stacks are indented
    re.compile(r"[^\w]*$"),
)


def reason_in(texts: Sequence[str]) -> str:
    """Return the line that says why an app ended by itself, from its last lines; "" if no line can be it."""
    said = [text.rstrip() for text in texts]
    refused = next((text for text in reversed(said) if text.startswith(_REFUSED)), "")
    if refused:
        return refused.removeprefix(_REFUSED)
    telling = [n for n, text in enumerate(said) if not _is_noise(text)]
    if not telling:
        return ""
    exceptions = dict(_exceptions(said))
    for n in reversed(telling):
        if n in exceptions:
            return exceptions[n]
        if _ERROR.search(said[n]):
            return said[n]
    return said[telling[-1]]


def last_line(texts: Sequence[str]) -> str:
    """Return the last line that is not empty: what an app was doing when it was ended from outside."""
    return next((text.strip() for text in reversed(texts) if text.strip()), "")


def _is_noise(text: str) -> bool:
    return any(pattern.match(text) for pattern in _NOISE)


def _exceptions(said: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the index of each chain's last exception, and a text that names it and the chain's first one."""
    first, place, inside = "", -1, False
    for n, text in enumerate(said):
        if _TRACEBACK.search(text):
            if not _goes_on(said, n):
                first = ""
            inside, place = True, -1
        elif inside and text and not text[0].isspace():
            inside = False
            if _EXCEPTION.match(text):
                first, place = first or text, n
                if not _is_continued(said, n):
                    yield place, text if text == first else f"{text} (first: {first})"


def _goes_on(said: Sequence[str], header: int) -> bool:
    """Report whether the traceback at ``header`` is chained to the exception before it."""
    return any(_CHAINED.match(text) for text in said[max(header - 3, 0) : header])


def _is_continued(said: Sequence[str], exception: int) -> bool:
    for text in said[exception + 1 :]:
        if _TRACEBACK.search(text):
            return False
        if _CHAINED.match(text):
            return True
    return False
