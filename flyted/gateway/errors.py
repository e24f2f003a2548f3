"""Errors as the Flyte SDK takes them: one table of codes, and no exception text of ours beyond it.

The SDK repeats what is ``unavailable`` or ``internal`` up to four times, and opens a browser for ``unknown``: what
will not change by itself is neither (flyte/remote/_client/auth/_interceptors).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from flyted.contract.errors import NOT_HERE, FlytedError
from flyted.contract.names import shown

log = logging.getLogger(__name__)

CODES: dict[str, Code] = {
    "invalid": Code.INVALID_ARGUMENT,
    "sdk-missing": Code.INVALID_ARGUMENT,
    "user-code": Code.INVALID_ARGUMENT,
    "unsupported": Code.FAILED_PRECONDITION,
    "no-gpu": Code.FAILED_PRECONDITION,
    "not-found": Code.NOT_FOUND,
    "secret-not-found": Code.NOT_FOUND,
    "already-exists": Code.ALREADY_EXISTS,
    "busy": Code.UNAVAILABLE,
    "permission": Code.PERMISSION_DENIED,
    "unauthenticated": Code.UNAUTHENTICATED,
    "limit": Code.RESOURCE_EXHAUSTED,
    "daemon-unavailable": Code.UNAVAILABLE,
    "protocol": Code.FAILED_PRECONDITION,
    "deploy-failed": Code.FAILED_PRECONDITION,
    "build-failed": Code.FAILED_PRECONDITION,
    "store-corrupt": Code.FAILED_PRECONDITION,
    "host": Code.FAILED_PRECONDITION,
    "ingress-down": Code.UNAVAILABLE,
    "internal": Code.INTERNAL,
}
FAULT = "flyted's gateway has a fault of its own; journalctl -u flyted-gateway -n 50 tells more"


def connect_error(error: FlytedError) -> ConnectError:
    """What the client is told: the message, and what to do."""
    return ConnectError(CODES.get(error.code, Code.INTERNAL), said(error))


def not_offered(service: str, method: str) -> str:
    """What is said of a part of Flyte's API that is not here."""
    name = shown(f"{service.rpartition('.')[2]}/{method}").strip("'")
    return f"{name} is not offered: {NOT_HERE}"


def said(error: FlytedError) -> str:
    """Message and hint as one text: Connect has one field, and the SDK shows that."""
    return f"{error.message} (hint: {error.hint})" if error.hint else error.message


class Translate:
    """Interceptor of every RPC: what a handler raises becomes a Connect error, a fault of ours without its text."""

    async def intercept_unary(self, call_next: Callable[[Any, Any], Awaitable[Any]], request: Any, ctx: Any) -> Any:
        """A call with one answer."""
        try:
            return await call_next(request, ctx)
        except Exception as error:  # noqa: BLE001  the last resort, and it logs
            raise _translated(error, ctx) from None

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Any], AsyncIterator[Any]], request: Any, ctx: Any
    ) -> AsyncIterator[Any]:
        """A call with many answers."""
        stream = None
        try:
            stream = call_next(request, ctx)
            async for answer in stream:
                yield answer
        except Exception as error:  # noqa: BLE001
            raise _translated(error, ctx) from None
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()


def _translated(error: Exception, ctx: Any) -> ConnectError:
    if isinstance(error, ConnectError):
        if error.code is not Code.UNIMPLEMENTED:
            return error
        # a method that no handler has: the generated class says "Not implemented", and the SDK nothing else
        method = ctx.method()
        return ConnectError(Code.UNIMPLEMENTED, not_offered(method.service_name, method.name))
    if isinstance(error, FlytedError):
        return connect_error(error)
    log.error("a request failed", exc_info=error)
    return ConnectError(Code.INTERNAL, FAULT)
