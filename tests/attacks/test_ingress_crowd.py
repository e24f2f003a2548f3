"""No address takes all places of the ingress, and who says nothing has one for seconds only. With a real HAProxy."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.plan.ingress_config import CONNECTIONS, PER_ADDRESS
from tests.host.haproxy import PROGRAM, Machine, apply, machine, needs_haproxy, one, parsed

pytestmark = needs_haproxy

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
        connection.connect(("127.0.0.1", port))
        made.append(connection)
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
        assert time.monotonic() - begin < 3
        raw = b"GET / HTTP/1.1\r\nHost: a.apps.localhost\r\nConnection: close\r\n\r\n"
        assert parsed(box.send_plain(raw))[0] == 308
        last = idle[-1]
        last.settimeout(2)
        with contextlib.suppress(ConnectionResetError):
            assert last.recv(1) == b"", "the ones above its share are closed"
        assert PER_ADDRESS < CONNECTIONS
    finally:
        for connection in idle:
            connection.close()


def test_a_tls_handshake_has_seconds(box: Machine) -> None:
    """From HAProxy 3.0 on; before, it has as long as any client that is silent."""
    config = box.files / "haproxy.cfg"
    text = config.read_text()
    assert "timeout client-hs 10s" in text
    assert PROGRAM is not None
    said = subprocess.run([PROGRAM, "-v"], capture_output=True, text=True, check=True).stdout
    if "version 2." in said:
        pytest.skip("HAProxy 2 has no time limit for the handshake alone")
    config.write_text(text.replace("timeout client-hs 10s", "timeout client-hs 500ms"))
    box.stop()
    box.start()
    with socket.create_connection(("127.0.0.1", box.listen.https_port), 10) as silent:
        silent.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""
