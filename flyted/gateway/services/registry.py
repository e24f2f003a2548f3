"""Routes calls to the services of Flyte's API; each is imported and created at its first call."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

from flyted.contract.errors import Busy
from flyted.contract.names import printable
from flyted.gateway.caller import caller
from flyted.gateway.parts import Parts
from flyted.gateway.reply import Receive, Reply, connect_error
from flyted.gateway.slots import Memory

log = logging.getLogger(__name__)

MEMORY = 192 << 20
"""Bytes that the messages of all calls together may take (the unit's MemoryMax=)."""
OPEN = frozenset({"flyteidl2.auth.AuthMetadataService"})
"""Services for clients that have no token yet."""

SERVICES: dict[str, tuple[str, str, str]] = {
    "flyteidl2.app.AppLogsService": ("flyteidl2.app.app_logs_service_connect", "logs", "Logs"),
    "flyteidl2.app.AppService": ("flyteidl2.app.app_service_connect", "apps", "Apps"),
    "flyteidl2.auth.AuthMetadataService": ("flyteidl2.auth.auth_service_connect", "people", "Metadata"),
    "flyteidl2.auth.IdentityService": ("flyteidl2.auth.identity_connect", "people", "Identity"),
    "flyteidl2.cluster.ClusterService": ("flyteidl2.cluster.service_connect", "projects", "Cluster"),
    "flyteidl2.dataproxy.DataProxyService": ("flyteidl2.dataproxy.dataproxy_service_connect", "data", "Data"),
    "flyteidl2.imagebuilder.ImageService": ("flyteidl2.imagebuilder.service_connect", "images", "Images"),
    "flyteidl2.project.ProjectService": ("flyteidl2.project.project_service_connect", "projects", "Projects"),
    "flyteidl2.secret.SecretService": ("flyteidl2.secret.secret_connect", "secrets", "Secrets"),
    "flyteidl2.task.TaskService": ("flyteidl2.task.task_service_connect", "tasks", "Tasks"),
    "flyteidl2.workflow.RunService": ("flyteidl2.workflow.run_service_connect", "runs", "Runs"),
}
"""Service → (generated module, our module, our class)."""
CONTENT_TYPES = frozenset(
    {"application/proto", "application/json", "application/connect+proto", "application/connect+json"}
)


class Services:
    """The services, each made at its first call."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._memory = Memory(MEMORY)
        self._made: dict[str, Any] = {}
        self._methods: dict[str, frozenset[str]] = {}

    async def answer(
        self, service: str, method: str, scope: dict[str, Any], headers: dict[str, str], reply: Reply
    ) -> None:
        """Pass a call to its service.

        An unknown service or method, another protocol and a message that is too large are refused here, since the
        generated classes would not answer them as the SDK needs it.
        """
        from flyted.gateway.errors import not_offered

        if service not in SERVICES:
            await connect_error(reply, "unimplemented", not_offered(service, method))
            return
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in CONTENT_TYPES:
            await connect_error(reply, "invalid_argument", "this is not the Connect protocol")
            return
        from flyted.gateway.limits import MESSAGE_BYTES

        size = headers.get("content-length", "0")
        if not (size.isascii() and size.isdigit()) or int(size) > MESSAGE_BYTES:
            await connect_error(
                reply, "resource_exhausted", f"a message may be at most {MESSAGE_BYTES >> 20} MiB long"
            )
            return
        if service not in self._made:
            self._made[service], self._methods[service] = _make(service, self._parts, self._hold)
        if method not in self._methods[service]:
            await connect_error(reply, "unimplemented", not_offered(service, method))
            return
        try:
            await self._made[service](scope, _bounded(reply.receive, self._hold), reply)
        except Exception:
            # connectrpc has answered, and raises an unexpected exception once more
            log.exception("%s/%s failed", service, printable(method))
            if not reply.started:
                raise
        finally:
            self._memory.release(caller().uid, caller().held)

    def _hold(self, size: int) -> None:
        """Count memory that the caller's message takes until it is answered. Raise a ConnectError for too much."""
        from flyted.gateway.errors import connect_error as error_of

        who = caller()
        if not self._memory.hold(who.uid, size):
            told = "your open calls to flyted are too large in total for what is free"
            raise error_of(Busy(told, hint="try again later"))
        who.held += size


def _make(service: str, parts: Parts, hold: Callable[[int], None]) -> tuple[Any, frozenset[str]]:
    """Make a service, and return it with the names of its methods."""
    from connectrpc.codec import proto_binary_codec, proto_json_codec

    from flyted.gateway.errors import Translate
    from flyted.gateway.limits import MESSAGE_BYTES, BoundedGzip, StrictCodec

    generated, ours, name = SERVICES[service]
    handler = getattr(importlib.import_module(f"flyted.gateway.services.{ours}"), name)(parts)
    maker = getattr(importlib.import_module(generated), f"{service.rpartition('.')[2]}ASGIApplication")
    made = maker(handler, interceptors=[Translate()], read_max_bytes=MESSAGE_BYTES, compressions=[BoundedGzip()])
    # the generated constructor takes no codecs; the vendored version is pinned, and a test sends garbage
    made._codecs = {codec.name(): StrictCodec(codec, hold) for codec in (proto_binary_codec(), proto_json_codec())}  # noqa: SLF001
    # to a method that only a newer SDK has, connectrpc would answer 404 without a text
    return made, frozenset(path.rpartition("/")[2] for path in made._endpoints(handler))  # noqa: SLF001


def _bounded(receive: Receive, hold: Callable[[int], None]) -> Receive:
    """Return ``receive`` with a limit on the body, whose length may not be announced, and note a disconnect.

    It raises a ConnectError ``resource_exhausted`` beyond the limit, calls ``hold`` with the bytes that come, and sets
    ``gone`` of the caller at a disconnect.
    """
    from flyted.gateway.limits import MESSAGE_BYTES, too_large

    left = MESSAGE_BYTES
    who = caller()

    async def bounded() -> dict[str, Any]:
        nonlocal left
        message = await receive()
        if message["type"] == "http.disconnect":
            who.gone.set()
        size = len(message.get("body", b""))
        left -= size
        if left < 0:
            raise too_large()
        hold(size)
        return message

    who.receive = bounded
    return bounded
