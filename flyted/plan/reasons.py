"""Finds the reason why an app did not start, for people, in systemd's and the app's lines of the journal. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flyted.contract.answers.events import LogLine
from flyted.contract.errors import DeployFailed
from flyted.launch.words import CANNOT_START, ENDED, EX_CONFIG, NO_NETWORK, OURS
from flyted.plan.last_words import last_line, reason_in

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EXITED = re.compile(r"Main process exited, code=(\w+), status=(\d+)/(\S+)")
_RESULT = re.compile(r"Failed with result '([\w-]+)'")
_UNMADE = re.compile(r"Failed (to|at) ")
_READ_ONLY = re.compile(r"read-only file system|EROFS", re.IGNORECASE)
_PATH = re.compile(r"(?<![^\s'\"`(])/[^\s'\"`,;:()]+")
_LIMIT = 300
_NO_NETWORK = f"{OURS}{CANNOT_START}{NO_NETWORK}"
_NO_ROUTER = "flyted-net.service is not running"  # net/veth.py; the reason is in the router's own lines
_ENDED = f"{OURS}{ENDED}"
_FROM_OUTSIDE = ("timeout", "oom-kill")


def reason_of(lines: Sequence[LogLine], start_timeout_s: float, known: str = "", *, started: bool = False) -> str:
    """Return one sentence that says why the newest run in ``lines`` failed.

    ``start_timeout_s``: the seconds within which it had to serve. ``known``: a cause that is known already; without it
    the sentence ends with the app's own words. ``started``: whether the app had served in this run.
    """
    said = [line.text for line in lines if line.source == "systemd"]
    found = _last(_RESULT, said)
    result = found.group(1) if found else ""
    cause = _cause(result, _last(_EXITED, said), start_timeout_s, started=started)
    own = known or _own_words(lines, by_itself=result not in _FROM_OUTSIDE)
    return f"{cause}: {clean(own)}" if own else cause


def failure(what: str, reason: str, app: str) -> DeployFailed:
    """Return the error for a start that failed, with what to do. ``what``: what did not start; ``app``: its name."""
    hint = f"flytectl logs {app}"
    if found := _READ_ONLY.search(reason):
        before, after = _PATH.findall(reason[: found.start()]), _PATH.findall(reason[found.end() :])
        path = (before[-1:] or after[:1] or ["others"])[0]
        hint = (
            "an app writes to its working directory, $HOME, /tmp and /run, and to the VOLUMEs of its image: "
            f"use one of them in place of {path} (flytectl(1), DATA); {hint}"
        )
    return DeployFailed(f"{what}: {reason}", hint=hint)


def crash_of(lines: Sequence[LogLine]) -> str:
    """Return how the newest run in ``lines`` crashed; "" if it is still running, or was stopped or put to sleep."""
    said = [line.text for line in lines if line.source == "systemd"]
    result = _last(_RESULT, said)
    exited = _last(_EXITED, said)
    if result is None or result.group(1) == "timeout" or any("Stopping " in text for text in said):
        return ""
    if result.group(1) == "oom-kill":
        how = "was killed: it exceeded its memory limit"
    elif exited is None:
        return ""
    elif exited.group(1) == "exited":
        how = f"exited with status {exited.group(2)}"
    else:
        how = f"was terminated by signal {exited.group(3)}"
    own = _own_words(lines, by_itself=result.group(1) != "oom-kill")
    why = f" ({clean(own)})" if own else ""
    return f"its last run {how}{why}; the next request starts it again"


def came_up(lines: Sequence[LogLine]) -> bool:
    """Report whether the newest run in ``lines`` served: systemd writes "Started" when a start job is done."""
    return any(line.source == "systemd" and line.text.startswith("Started ") for line in lines)


def lacks_network(lines: Sequence[LogLine]) -> bool:
    """Report whether launch gave the newest start up because the app's network did not start."""
    return any(line.source == "app" and line.text.startswith(_NO_NETWORK) for line in lines)


def network_reason(lines: Sequence[LogLine]) -> str:
    """Return why the app's network could not be made.

    ``lines``: those of the network's own units (units/flyted-net*.service).
    """
    failed = [line.text for line in lines if line.source == "systemd" and _UNMADE.search(line.text)]
    own = last_line([line.text for line in lines if line.source == "app" and not line.text.endswith(_NO_ROUTER)])
    why = clean(own or (failed or ["see journalctl -t flyted-net"])[-1])
    return f"its network could not be created: {why} (an app without connections needs none: --no-egress)"


def _cause(result: str, exited: re.Match[str] | None, start_timeout_s: float, *, started: bool) -> str:
    if result == "timeout" and not started:
        return f"it was not ready within {start_timeout_s:.0f} s"
    if result == "oom-kill":
        return "it was killed: it exceeded its memory limit"
    if result == "protocol":
        return "it exited without an error before it was ready"
    if exited is None:
        return "systemd could not start it" + (f" ({result})" if result else "")
    code, status, name = exited.groups()
    if code != "exited":
        return f"it was terminated by signal {name}"
    if status == "216":
        return "a group that it needs does not exist on this machine (of its volume: flytectl volume ls)"
    if status == "243":
        return "its secrets could not be passed to it (see journalctl -u flyted)"
    if status == str(EX_CONFIG) and not started:
        return "it cannot start"
    if status == "0" and not started:
        return "it exited before it was ready"
    return f"it exited with status {status} " + ("after its start" if started else "during its start")


def _own_words(lines: Sequence[LogLine], *, by_itself: bool) -> str:
    """Return what the app printed about its end, then launch's line on how the program exited; "" if there is neither.

    If the run was ended from outside (not ``by_itself``), return the last line.
    """
    said = [line.text for line in lines if line.source == "app" and line.text.strip()]
    if not by_itself:
        return last_line(said)
    ended = said.pop().removeprefix(OURS) if said and said[-1].startswith(_ENDED) else ""
    own = clean(reason_in([text for text in said if not text.startswith(_ENDED)]))
    return "; ".join(filter(None, (own.removeprefix(OURS), ended)))


def _last(pattern: re.Pattern[str], texts: Sequence[str]) -> re.Match[str] | None:
    return next((found for text in reversed(texts) if (found := pattern.search(text))), None)


def clean(text: str, limit: int = _LIMIT) -> str:
    """Return a line of an app as harmless text of at most ``limit`` characters.

    Control characters are replaced, so that none reaches a terminal or an HTTP header.
    """
    flat = _CONTROL.sub(" ", text).strip()
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
