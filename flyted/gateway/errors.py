"""Translates errors for the Flyte SDK: one table of codes, and no text of any other exception leaves the gateway.

The SDK repeats a call that failed as ``unavailable`` or ``internal`` up to four times, and opens a browser for
``unknown`` (flyte/remote/_client/auth/_interceptors). Therefore an error that does not pass by itself has none of
these codes; only a fault of the gateway or of flyted is ``internal``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from flyted.contract.errors import NOT_HERE, FlytedError
from flyted.contract.names import printable
from flyted.gateway.harmless import harmless_lines

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
    "cancelled": Code.CANCELED,
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
FAULT = "internal error in flyted's gateway; see journalctl -u flyted-gateway -n 50"


def connect_error(error: FlytedError) -> ConnectError:
    """Return the Connect error for one of ours: its code by the table, its message and its hint."""
    return ConnectError(CODES.get(error.code, Code.INTERNAL), one_text(error))


def not_offered(service: str, method: str) -> str:
    """Return the message for a part of Flyte's API that the gateway does not have."""
    name = printable(f"{service.rpartition('.')[2]}/{method}").strip("'")
    return f"{name} is not supported: {NOT_HERE}"


def one_text(error: FlytedError) -> str:
    """Return message and hint as one text: Connect has one field for both, which the SDK shows."""
    return harmless_lines(f"{error.message} (hint: {error.hint})" if error.hint else error.message)


class Translate:
    """An interceptor of every RPC that makes a Connect error of any exception of a handler.

    The text of an exception that is not a FlytedError, which is a fault of the gateway, goes to the log alone.
    """

    async def intercept_unary(self, call_next: Callable[[Any, Any], Awaitable[Any]], request: Any, ctx: Any) -> Any:
        """Pass on a call with one answer, and translate its exception."""
        try:
            return await call_next(request, ctx)
        except Exception as error:  # noqa: BLE001  the last resort, and it logs
            raise _translated(error, ctx) from None

    async def intercept_server_stream(
        self, call_next: Callable[[Any, Any], AsyncIterator[Any]], request: Any, ctx: Any
    ) -> AsyncIterator[Any]:
        """Pass on a call with many answers, and translate its exception."""
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
        # a method without a handler: the generated class says "Not implemented", and the SDK shows only that
        method = ctx.method()
        return ConnectError(Code.UNIMPLEMENTED, not_offered(method.service_name, method.name))
    if isinstance(error, FlytedError):
        return connect_error(error)
    log.error("a request failed", exc_info=error)
    return ConnectError(Code.INTERNAL, FAULT)
