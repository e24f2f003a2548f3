"""Whole answers of the daemon for tests, of which a test names only the fields that it is about."""

from __future__ import annotations

import dataclasses
import enum
import types
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from flyted.contract import wire
from flyted.contract.answers.apps import AppStatus, ReplicaStatus
from flyted.contract.answers.codec import Answer
from flyted.contract.status import AppState

Kind = TypeVar("Kind", bound=Answer)


def whole(kind: type[Kind], /, **given: Any) -> Kind:
    """Return an answer with the fields ``given``; the others have their default, or nothing: "", 0, None, ()."""
    hints = get_type_hints(kind)
    assert set(given) <= set(hints), set(given) - set(hints)
    wanted = [f.name for f in dataclasses.fields(cast("Any", kind)) if f.default is dataclasses.MISSING]
    return kind(**{**{name: _nothing(hints[name]) for name in wanted}, **given})


def app_status(name: str = "hello", **given: Any) -> AppStatus:
    """Return what the daemon says about an app that runs."""
    usual: dict[str, Any] = {
        "name": name, "project": "p1", "domain": "development", "id": name, "url": f"https://{name}.apps.localhost",
        "state": AppState.RUNNING, "revision": 1, "wanted": "started", "created_at": 1_700_000_000.0,
        "updated_at": 1_700_000_100.0, "scaledown_after_s": 300.0, "memory_bytes": 1 << 29, "egress": True,
        "protocol": "http1", "deployed_by": "alice", "max_replicas": 1,
        "replicas": (ReplicaStatus(0, AppState.RUNNING, "", 0.0),),
    }  # fmt: skip
    return whole(AppStatus, **{**usual, **given})


def sent(answer: Answer | dict[str, Any]) -> dict[str, Any]:
    """Return an answer as a client's decoder gives it, a map."""
    found: dict[str, Any] = wire.decode(wire.encode({"result": answer})[wire.HEAD.size :], trusted=True)["result"]
    return found


def _nothing(hint: Any) -> Any:
    found = get_origin(hint)
    if found is types.UnionType:
        return None
    if found is tuple:
        return () if get_args(hint)[-1] is ... else tuple(map(_nothing, get_args(hint)))
    if found is dict:
        return {}
    if issubclass(hint, Answer):
        return whole(hint)
    return next(iter(hint)) if issubclass(hint, enum.Enum) else hint()
