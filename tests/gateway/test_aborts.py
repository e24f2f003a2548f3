"""Image builds that are aborted: flyted calls them off when the gateway closes their connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import identifier_pb2, phase_pb2
from flyteidl2.workflow import run_service_pb2 as runs

from tests.gateway.clients import ask
from tests.gateway.harness import WHO, Running
from tests.gateway.test_images import NAME, PIP, create, details_of, found, keep, run_service, spec

pytestmark = pytest.mark.slow


def aborted(gateway: Running, action: Any, how: str) -> None:
    calls = run_service(gateway)
    if how == "run":
        ask(calls.abort_run, runs.AbortRunRequest(run_id=action.id.run, reason="not this one\n"))
    else:
        ask(calls.abort_action, runs.AbortActionRequest(action_id=action.id, reason="not this one\n"))


@pytest.mark.parametrize("how", ["run", "action"])
def test_a_build_that_is_aborted_is_cancelled(gateway: Running, how: str) -> None:
    """flyted sees that its connection is closed; who waits is told, and the name stays unknown."""
    left = threading.Event()

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        yield {"event": {"kind": "accepted", "text": "checked"}}
        try:
            while True:
                yield {"event": {"kind": "build", "text": "a line"}}
                time.sleep(0.05)
        finally:
            left.set()  # a line could not be sent

    gateway.flyted.scripts["image.build"] = script
    action = create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=NAME)
    threading.Timer(0.3, aborted, (gateway, action, how)).start()
    details = details_of(gateway, action)
    assert left.wait(30)
    assert details.status.phase == phase_pb2.ACTION_PHASE_ABORTED
    assert details.abort_info.reason == "not this one\\n"
    with pytest.raises(ConnectError):
        found(gateway)
    aborted(gateway, action, how)  # it has ended: nothing happens


def test_what_cannot_be_aborted_is_said(gateway: Running) -> None:
    """No such build; and a token that only reads."""
    run = identifier_pb2.RunIdentifier(project="p1", domain="development", name="r" + "0" * 19)
    with pytest.raises(ConnectError) as raised:
        ask(run_service(gateway).abort_run, runs.AbortRunRequest(run_id=run))
    assert raised.value.code is Code.NOT_FOUND
    gateway.flyted.answers("whoami", {"result": {**WHO, "rights": ["read"]}})
    with pytest.raises(ConnectError) as raised:
        ask(run_service(gateway).abort_run, runs.AbortRunRequest(run_id=run))
    assert raised.value.code is Code.PERMISSION_DENIED
