"""No address takes all places of the ingress, and who says nothing has one for seconds only. With a real HAProxy."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.plan.ingress.config import CONNECTIONS, PER_ADDRESS, SILENT
from tests.host.haproxy import A, Machine, apply, exchange, is_old, machine, needs_haproxy, one, parsed

pytestmark = [pytest.mark.slow, needs_haproxy]

OTHER = "127.0.0.77"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """An ingress that knows no app yet."""
    with machine(tmp_path) as made:
        yield made


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the sockets of this test and of HAProxy."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS + 1000
    if before[1] != resource.RLIM_INFINITY and before[1] < wanted:
        pytest.skip(f"needs {wanted} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def from_other(port: int, count: int) -> list[socket.socket]:
    """So many connections from one address that say nothing; some may be closed again by the other side."""
    made = []
    for _ in range(count):
        connection = socket.socket()
        connection.bind((OTHER, 0))
        made.append(connection)
        with contextlib.suppress(ConnectionResetError):  # closed again before this process had its turn
            connection.connect(("127.0.0.1", port))
    return made


@pytest.mark.parametrize("https", [True, False], ids=["https", "http"])
def test_an_address_that_connects_without_end_closes_the_door_for_nobody(
    box: Machine, many_files: None, https: bool
) -> None:
    """More silent connections than HAProxy has places: another address is answered at once."""
    box.app("a-r1-0")
    apply(box, one(box))
    box.stop()
    box.start()  # with the files that it may open now
    idle = from_other(box.listen.https_port if https else box.listen.http_port, CONNECTIONS + 200)
    try:
        begin = time.monotonic()
        assert box.get()[0] == 200
        assert time.monotonic() - begin < 8
        raw = b"GET / HTTP/1.1\r\nHost: a.apps.localhost\r\nConnection: close\r\n\r\n"
        assert parsed(box.send_plain(raw))[0] == 308
        last = idle[-1]
        last.settimeout(60)
        with contextlib.suppress(ConnectionResetError):
            assert last.recv(1) == b"", "the ones above its share are closed"
        assert PER_ADDRESS < CONNECTIONS
    finally:
        for connection in idle:
            connection.close()


def is_closed(connection: socket.socket, seconds: float = 60) -> bool:
    """Whether the other side ends it in time, without a word."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_a_tls_handshake_has_seconds(box: Machine) -> None:
    """Ten from HAProxy 3.0 on; before, as long as any client that is silent. Also where it has begun."""
    limit = "timeout client 60s" if is_old() else "timeout client-hs 10s"
    box.reconfigured((limit, limit.rpartition(" ")[0] + " 500ms"))
    begun = box.tls().wrap_bio(ssl.MemoryBIO(), hello := ssl.MemoryBIO(), server_hostname=A)
    with contextlib.suppress(ssl.SSLWantReadError):
        begun.do_handshake()
    for first in (b"", hello.read()[:20]):
        with socket.create_connection(("127.0.0.1", box.listen.https_port), 10) as silent:
            silent.sendall(first)
            assert is_closed(silent)


def test_before_tls_is_spoken_an_address_has_few_places(box: Machine) -> None:
    """With HAProxy 2.6: so many new ones a minute. Those that speak do not count, and get more."""
    if not is_old():
        pytest.skip("HAProxy 3 has a limit of time for the handshake")
    assert SILENT < PER_ADDRESS
    box.app("a-r1-0")
    box.reconfigured((f"gt {SILENT} ", "gt 5 "))
    apply(box, one(box))
    port, tls = box.listen.https_port, box.tls()
    with contextlib.ExitStack() as stack:

        def opened(count: int) -> list[socket.socket]:
            return [stack.enter_context(each) for each in from_other(port, count)]

        spoken = [stack.enter_context(tls.wrap_socket(opened(1)[0], server_hostname=A)) for _ in range(20)]
        silent = opened(5)
        assert not any(is_closed(each, 0.1) for each in silent)
        assert all(is_closed(each) for each in opened(3))
        assert box.get()[0] == 200, "another address"
        request = b"GET / HTTP/1.1\r\nHost: a.apps.localhost\r\n\r\n"
        assert exchange(spoken[0], request, 3).startswith(b"HTTP/1.1 200 ")
