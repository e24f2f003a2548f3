"""Keeps fields behind a chunked body (trailers) out of a request's headers, to which uvicorn adds them with httptools.

A client could set a header there that only the ingress may set, such as ``X-Flyte-User``; HAProxy has no rule that
removes trailers. ASGI has no place for them either (its HTTP specification: headers are those sent before the body).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .imports import after_import


def install() -> None:
    """Patch that part of uvicorn when it is imported; an app without it pays nothing."""
    after_import("uvicorn.protocols.http.httptools_impl", _patch)


def _patch(module: ModuleType) -> None:
    protocol_class = module.HttpToolsProtocol
    begin, header, complete = (
        protocol_class.on_message_begin, protocol_class.on_header, protocol_class.on_headers_complete
    )  # fmt: skip

    def on_message_begin(protocol: Any) -> None:
        protocol.headers_ended = False
        begin(protocol)

    def on_header(protocol: Any, name: bytes, value: bytes) -> None:
        if not protocol.headers_ended:
            header(protocol, name, value)

    def on_headers_complete(protocol: Any) -> None:
        protocol.headers_ended = True
        complete(protocol)

    protocol_class.on_message_begin, protocol_class.on_header = on_message_begin, on_header
    protocol_class.on_headers_complete = on_headers_complete
