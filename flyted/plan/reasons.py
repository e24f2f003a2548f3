"""Why an app did not come up, for people: from what systemd and the app itself said in the journal. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EXITED = re.compile(r"Main process exited, code=(\w+), status=(\d+)/(\S+)")
_RESULT = re.compile(r"Failed with result '([\w-]+)'")
_UNMADE = re.compile(r"Failed (to|at) ")
_LIMIT = 300
_OURS = "flyted: "  # lines of the launcher (launch/supervise.py) among the app's
_ENDED = f"{_OURS}the program ended"


@dataclass(frozen=True)
class Line:
    """One line of the journal. ``source`` is ``app`` or ``systemd``; ``time`` microseconds since the epoch."""

    time: int
    revision: int
    source: str
    text: str


def reason_of(lines: Sequence[Line], start_timeout_s: float, known: str = "") -> str:
    """One sentence that says why the newest start in ``lines`` failed, with what is ``known``, else its last word."""
    said = [line.text for line in lines if line.source == "systemd"]
    result = _last(_RESULT, said)
    exited = _last(_EXITED, said)
    cause = _cause(result.group(1) if result else "", exited, start_timeout_s)
    own = known or _last_word(lines)
    return f"{cause}: {clean(own)}" if own else cause


def crash_of(lines: Sequence[Line]) -> str:
    """How the newest run in ``lines`` ended, if that was nobody's wish; "" if it goes on or was put to sleep."""
    said = [line.text for line in lines if line.source == "systemd"]
    result = _last(_RESULT, said)
    exited = _last(_EXITED, said)
    if result is None or result.group(1) == "timeout" or any("Stopping " in text for text in said):
        return ""
    if result.group(1) == "oom-kill":
        how = "was killed: it took more memory than its limit"
    elif exited is None:
        return ""
    elif exited.group(1) == "exited":
        how = f"ended with status {exited.group(2)}"
    else:
        how = f"was ended by signal {exited.group(3)}"
    own = _last_word(lines)
    last = f" (its last line: {clean(own)})" if own else ""
    return f"its last run {how}{last}; the next request starts it again"


def lacks_network(lines: Sequence[Line]) -> bool:
    """Whether the newest start was not even tried, since the network that it needs could not be made."""
    said = [line.text for line in lines if line.source == "systemd"]
    return any(line.startswith("Dependency failed for") for line in said[-2:])  # after it, the word on the job


def network_reason(lines: Sequence[Line]) -> str:
    """Why it could not: ``lines`` are those of the network's own units (units/flyted-net*.service)."""
    failed = [line.text for line in lines if line.source == "systemd" and _UNMADE.search(line.text)]
    why = clean(_last_word(lines) or (failed or ["journalctl -t flyted-net says why"])[-1])
    return f"its network could not be made: {why} (one that makes no connections needs none: --no-egress)"


def _cause(result: str, exited: re.Match[str] | None, start_timeout_s: float) -> str:
    if result == "timeout":
        return f"it did not serve within {start_timeout_s:.0f} s"
    if result == "oom-kill":
        return "it was killed: it took more memory than its limit"
    if result == "protocol":
        return "it ended without an error before it served anything"
    if exited is not None:
        code, status, name = exited.groups()
        if code != "exited":
            return f"it was ended by signal {name}"
        if status == "243":
            return "its secrets could not be handed over (journalctl -u flyted says why)"
        return (
            f"it exited with status {status} at its start" if status != "0" else "it ended before it served anything"
        )
    return "systemd could not start it" + (f" ({result})" if result else "")


def _last_word(lines: Sequence[Line]) -> str:
    """What the app itself printed last; "" if that is nothing. How its program ended is our word, and comes after."""
    said = [line.text for line in lines if line.source == "app" and line.text.strip()]
    if len(said) > 1 and said[-1].startswith(_ENDED) and not said[-2].startswith(_OURS):
        return f"{clean(said[-2])}; {said[-1].removeprefix(_OURS)}"
    return said[-1] if said else ""


def _last(pattern: re.Pattern[str], texts: Sequence[str]) -> re.Match[str] | None:
    return next((found for text in reversed(texts) if (found := pattern.search(text))), None)


def clean(text: str, limit: int = _LIMIT) -> str:
    """An app's line as harmless, bounded text: no control character reaches a terminal or an HTTP header."""
    flat = _CONTROL.sub(" ", text).strip()
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
