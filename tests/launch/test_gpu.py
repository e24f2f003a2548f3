"""The lease of GPUs at a start: what the app sees, and what becomes of a start without one."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.launch.harness import App, Unit, app_bundle, fserve

pytestmark = pytest.mark.slow

WHY = "needs 1 × L40S; GPU-1f3a… NVIDIA L40S, 0.2 of 45.0 GiB free, held by other (busy)"


@pytest.fixture
def start(make_unit: Callable[..., Unit], running: Callable[[App], App], tmp_path: Path) -> Callable[..., App]:
    """Starts the probe with a lease; ``None``: systemd had nothing to write."""

    def begin(lease: bytes | None, **fields: Any) -> App:
        unit = make_unit(**fields)
        if lease is not None:
            (unit.folder / "credentials/gpu").write_bytes(lease)
        code = app_bundle(tmp_path, "probe.py")
        words = [*unit.options(code), "--gpu", "gpu"]
        return running(unit.start(code, fserve("probe:env"), options=words))

    return begin


@pytest.mark.parametrize(
    ("devices", "own", "seen"),
    [
        (["GPU-1", "GPU-2"], "", "GPU-1,GPU-2"),
        (["GPU-1", "GPU-2"], "GPU-7", "GPU-1,GPU-2"),
        (["GPU-1", "GPU-2"], "0,1,2,3", "0,1"),
        (["GPU-2"], "3", "0"),
        (["MIG-1"], "0", "MIG-1"),
        (["GPU-1"], "0,", "GPU-1"),
    ],
)
def test_cuda_sees_the_devices_of_the_lease(
    start: Callable[..., App], devices: list[str], own: str, seen: str
) -> None:
    """By UUID, or by number where the app sets numbers; in the order of the buses, and never more than it was lent."""
    variables = {"CUDA_VISIBLE_DEVICES": own} if own else {}
    app = start(json.dumps({"devices": devices}).encode(), variables=variables).ready()
    environ = app.json()["environ"]
    assert (environ["CUDA_VISIBLE_DEVICES"], environ["CUDA_DEVICE_ORDER"]) == (seen, "PCI_BUS_ID")


def test_what_a_cdi_spec_sets_is_set(start: Callable[..., App]) -> None:
    """In place of what the app or its image has set, as in a container; what is not a text is left out."""
    lease = {"devices": ["GPU-1"], "environment": {"NVIDIA_VISIBLE_DEVICES": "void", "A": 1}}
    app = start(json.dumps(lease).encode(), variables={"NVIDIA_VISIBLE_DEVICES": "all", "A": "own"}).ready()
    environ = app.json()["environ"]
    assert (environ["NVIDIA_VISIBLE_DEVICES"], environ["A"], environ["CUDA_VISIBLE_DEVICES"]) == (
        "void",
        "own",
        "GPU-1",
    )


@pytest.mark.parametrize(
    ("lease", "word"),
    [
        (json.dumps({"refused": WHY}).encode(), WHY),
        (b"", "the lease is empty or damaged"),
        (b'{"devices": ["GPU', "the lease is empty or damaged"),
        (None, "the lease did not arrive"),
        (b"[]", "the lease is damaged"),
        (b'{"devices": []}', "the lease names no device"),
        (b'{"devices": [1]}', "the lease names no device"),
    ],
)
def test_without_a_lease_there_is_no_start(start: Callable[..., App], lease: bytes | None, word: str) -> None:
    """Status 75 (EX_TEMPFAIL): later it may work. The reason stands in the app's log, once."""
    app = start(lease)
    assert app.wait() == 75
    assert app.err == f"flyted: the app cannot start: no GPU: {app.err.partition('no GPU: ')[2].rstrip()}\n"
    assert word in app.err


def test_who_waits_is_told_to_come_back(start: Callable[..., App], make_unit: Callable[..., Unit]) -> None:
    """Requests in the queue get 503 and Retry-After; also one with a body that nobody reads, and a silent client."""
    clients: list[socket.socket] = []

    def queued(**fields: Any) -> Unit:
        unit = make_unit(**fields)
        for sent in (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n" + b"x" * 99,
            b"",
        ):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(10)
            client.connect(str(unit.path))
            client.sendall(sent)
            clients.append(client)
        return unit

    unit = queued()
    (unit.folder / "credentials/gpu").write_bytes(json.dumps({"refused": WHY}).encode())
    app = unit.start(None, fserve("probe:env"), options=["--app", "demo", "--gpu", "gpu"])
    answers = []
    for client in clients[:2]:
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(65536):
            answer += part
        answers.append(answer)
    assert app.wait() == 75
    for client in clients:
        client.close()
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 15\r\n" in answer
        assert WHY.encode() not in answer  # that is for the operator


def test_an_app_that_asks_for_none_gets_none(
    make_unit: Callable[..., Unit], running: Callable[[App], App], tmp_path: Path
) -> None:
    """No option, no variable."""
    app = running(make_unit().start(app_bundle(tmp_path, "probe.py"), fserve("probe:env"))).ready()
    assert "CUDA_VISIBLE_DEVICES" not in app.json()["environ"]
