"""AppService as a client calls it, and a deploy that ends when a test says how."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from flyteidl2.app import app_definition_pb2 as definition
from flyteidl2.app import app_payload_pb2 as pb

from flyted.contract.app import from_dict
from flyted.contract.errors import FlytedError
from flyted.contract.names import AppKey
from tests.answers import app_status
from tests.gateway.clients import ask, first, service
from tests.gateway.described import app
from tests.gateway.harness import Running

KEY = AppKey("p1", "development", "hello")


def apps(gateway: Running) -> Any:
    return service(gateway, "app.app_service_connect", "AppService")


def last(answer: definition.App) -> definition.Condition:
    return answer.status.conditions[-1]


def accepted(args: dict[str, Any]) -> dict[str, Any]:
    spec = from_dict(args["spec"])
    event = {"kind": "accepted", "text": "checked", "revision": 2, "url": "https://hello.apps.localhost"}
    return {"event": {**event, "spec_digest": spec.digest()}}


class Held:
    """A deploy that flyted has accepted and that ends when a test says how."""

    def __init__(self, gateway: Running) -> None:
        self.end: dict[str, Any] | FlytedError = {"result": {"app": app_status(revision=2), "changed": True}}
        self.may_end = threading.Event()
        self.file = b""
        gateway.flyted.scripts["app.serve"] = self._script

    def _script(self, args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        self.file = file
        yield accepted(args)
        yield {"event": {"kind": "progress", "text": "starting p1/development/hello (revision 2)"}}
        assert self.may_end.wait(30)
        yield {"error": self.end.to_wire()} if isinstance(self.end, FlytedError) else self.end


def create(gateway: Running, made: definition.App) -> definition.App:
    return ask(apps(gateway).create, pb.CreateRequest(app=made)).app


def get(gateway: Running) -> definition.App:
    return ask(apps(gateway).get, pb.GetRequest(app_id=app().metadata.id)).app


def watch(gateway: Running, count: int) -> list[definition.App]:
    found = first(apps(gateway).watch, pb.WatchRequest(app_id=app().metadata.id), count)
    return [answer.update_event.updated_app for answer in found]
