"""A server that keeps a pull waiting is given up, after the time that a test sets to half a second."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flyted.registry import words
from tests.registry.server import Handler, Registry, digest, drip, layer_of
from tests.registry.test_pull import failure

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 100000\r\n\r\n", b"x"),
    ],
)
def test_it_is_given_up(registry: Registry, tmp_path: Path, head: bytes, drop: bytes) -> None:
    registry.rules["."] = lambda h: drip(h, head, drop)
    began = time.monotonic()
    failure(registry.pull(tmp_path, timeout_s=0.5, tries=2).pull)
    assert time.monotonic() - began < 8


def test_what_comes_slowly_comes(registry: Registry, tmp_path: Path) -> None:
    """Half of a layer each time, but never silent for long."""
    data = layer_of("slow", 800_000)
    registry.add_image("v1", layers=(data,))

    def slowly(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
        for at in range(0, len(data), 100_000):
            handler.wfile.write(data[at : at + 100_000])
            handler.wfile.flush()
            time.sleep(0.2)

    registry.rules[digest(data)] = slowly
    registry.pull(tmp_path, timeout_s=0.8, tries=1).pull()
    assert len(registry.asked_for(digest(data))) == 1


def test_a_slow_server_holds_up_no_other(registry: Registry, tmp_path: Path) -> None:
    """Its image names a layer that another server has, too; each server's part is its own, and both pulls end."""
    data = layer_of("popular", 800_000)
    registry.add_image("v1", layers=(data,))
    begun, go_on = threading.Event(), threading.Event()

    def half(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:400_000])
        handler.wfile.flush()
        begun.set()
        go_on.wait(30)
        handler.wfile.write(data[400_000:])

    with Registry().serving() as slow, ThreadPoolExecutor(1) as threads:
        slow.add_image("v1", layers=(data,))
        slow.rules[digest(data)] = half
        held = threads.submit(slow.pull(tmp_path, timeout_s=60).pull)
        try:
            assert begun.wait(20)
            registry.pull(tmp_path).pull()
            assert not held.done()
        finally:
            go_on.set()
        assert held.result(20) == slow.pull(tmp_path).resolve()
    assert (tmp_path / words.SHA256 / digest(data)[7:]).read_bytes() == data
    assert list((tmp_path / words.PARTS).iterdir()) == []
