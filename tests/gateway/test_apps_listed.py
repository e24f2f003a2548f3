"""AppService: how apps are listed and deleted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_payload_pb2 as pb
from flyteidl2.common import list_pb2

from flyted.contract.errors import DeployFailed
from tests.answers import app_status
from tests.gateway.app_service import KEY, Held, apps, create, get
from tests.gateway.clients import HEADERS, ask
from tests.gateway.described import app
from tests.gateway.harness import NO_APP, Running

pytestmark = pytest.mark.slow


def test_a_deleted_app_is_gone_before_its_deploy_has_heard_of_it(gateway: Running) -> None:
    """Flyted has called the deploy off; that it "failed" is not kept for the next one who asks."""
    held = Held(gateway)
    held.end = DeployFailed("the deploy of app 'hello' was cancelled")
    gateway.flyted.answers("app.get", NO_APP)
    gateway.flyted.answers("app.delete", {"result": app_status()})
    create(gateway, app())
    ask(apps(gateway).delete, pb.DeleteRequest(app_id=app().metadata.id))
    for may_end in (False, True):
        if may_end:
            held.may_end.set()
            while gateway.parts.jobs.busy:
                pass
        with pytest.raises(ConnectError) as raised:
            get(gateway)
        assert raised.value.code is Code.NOT_FOUND
        assert gateway.parts.jobs.deploy_of(KEY) is None


def test_a_client_that_leaves_ends_the_deletion_that_it_waits_for(gateway: Running) -> None:
    """Else it would strike later, when the app's last requests have ended and somebody serves it again."""
    begun, ended = threading.Event(), threading.Event()

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        begun.set()
        try:
            while True:
                time.sleep(0.05)
                yield {"event": {"kind": "progress", "text": ""}}
        finally:
            ended.set()

    gateway.flyted.scripts["app.delete"] = script

    async def leave() -> None:
        deletion = apps(gateway).delete(pb.DeleteRequest(app_id=app().metadata.id), headers=HEADERS)
        waiting = asyncio.create_task(deletion)
        assert await asyncio.to_thread(begun.wait, 10)
        assert not ended.is_set()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(leave())
    assert ended.wait(10)


def test_the_data_of_a_deleted_app_is_kept(gateway: Running) -> None:
    """Flyte's command does not ask."""
    gateway.flyted.answers("app.delete", {"result": app_status()})
    ask(apps(gateway).delete, pb.DeleteRequest(app_id=app().metadata.id))
    assert [args["keep_data"] for verb, args, _ in gateway.flyted.calls if verb == "app.delete"] == [True]


def test_an_unknown_app_is_not_found(gateway: Running) -> None:
    """For get, update and delete."""
    for verb in ("app.get", "app.delete"):
        gateway.flyted.answers(verb, NO_APP)
    for call, request in (
        (apps(gateway).get, pb.GetRequest(app_id=app().metadata.id)),
        (apps(gateway).update, pb.UpdateRequest(app=app())),
        (apps(gateway).delete, pb.DeleteRequest(app_id=app().metadata.id)),
    ):
        with pytest.raises(ConnectError) as raised:
            ask(call, request)
        assert raised.value.code is Code.NOT_FOUND


def test_a_list_is_filtered_sorted_and_paged(gateway: Running) -> None:
    """As `flyte get app --status` and `listall` ask for it."""
    many = [app_status(f"a{n}", created_at=1.7e9 + n, state="running" if n % 2 else "stopped") for n in range(6)]
    gateway.flyted.answers("app.list", {"result": {"apps": many}})
    wanted = list_pb2.Filter(function=list_pb2.Filter.EQUAL, field="status_phase", values=["DEPLOYMENT_STATUS_ACTIVE"])
    order = list_pb2.Sort(key="created_at", direction=list_pb2.Sort.ASCENDING)
    asked = list_pb2.ListRequest(limit=2, sort_by=order, filters=[wanted])
    answer = ask(apps(gateway).list, pb.ListRequest(request=asked))
    assert [found.metadata.id.name for found in answer.apps] == ["a1", "a3"]
    asked.token = answer.token
    answer = ask(apps(gateway).list, pb.ListRequest(request=asked))
    assert ([found.metadata.id.name for found in answer.apps], answer.token) == (["a5"], "")


def test_a_filter_that_we_do_not_have_is_named(gateway: Running) -> None:
    """Never ignored."""
    gateway.flyted.answers("app.list", {"result": {"apps": [app_status()]}})
    wanted = list_pb2.Filter(function=list_pb2.Filter.EQUAL, field="colour", values=["red"])
    with pytest.raises(ConnectError, match="colour"):
        ask(apps(gateway).list, pb.ListRequest(request=list_pb2.ListRequest(filters=[wanted])))
