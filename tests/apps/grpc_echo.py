"""A gRPC server without generated code, and a client of it: ``python grpc_echo.py 8080``, ``… ADDRESS CA [TOKEN]``."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc


def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
    """What was asked; in the trailers, which metadata came with it."""
    names = sorted(name for name, _ in context.invocation_metadata())
    context.set_trailing_metadata((("x-names", ",".join(names)),))
    if request == b"fail":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
    return request


def count(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Four messages with time in between."""
    for number in range(4):
        yield b"%d" % number
        time.sleep(0.4)


def chat(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """Each message at once."""
    for request in requests:
        yield request + b"!"


def serve(port: str) -> None:
    """Until it is stopped."""
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    server.wait_for_termination()


def call(address: str, ca: str, token: str = "") -> None:
    """Calls everything once, and prints what came of it as JSON."""
    metadata = [("x-flyte-user", "root")] + ([("authorization", f"Bearer {token}")] if token else [])
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(Path(ca).read_bytes()))
    found: dict[str, object] = {}
    one = channel.unary_unary("/test.Echo/Echo")
    try:
        answer, context = one.with_call(b"hello", metadata=metadata, timeout=60)
        found["echo"], found["names"] = answer.decode(), dict(context.trailing_metadata())["x-names"].split(",")
        one(b"fail", metadata=metadata, timeout=60)
    except grpc.RpcError as error:
        found["failed"] = [error.code().name, error.details()]
    if "echo" in found:
        begin, times = time.monotonic(), []
        for _ in channel.unary_stream("/test.Echo/Count")(b"", metadata=metadata, timeout=60):
            times.append(time.monotonic() - begin)
        found["spread"] = times[-1] - times[0]
        sent: queue.Queue[bytes | None] = queue.Queue()
        answers = channel.stream_stream("/test.Echo/Chat")(iter(sent.get, None), metadata=metadata, timeout=60)
        found["chat"] = []
        for word in (b"one", b"two"):  # the second is sent when the answer to the first has come
            sent.put(word)
            found["chat"].append(next(answers).decode())
        sent.put(None)
        found["rest"] = len(list(answers))
    print(json.dumps(found))


if __name__ == "__main__":
    serve(sys.argv[1]) if len(sys.argv) == 2 else call(*sys.argv[1:])
