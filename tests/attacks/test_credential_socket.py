"""The credential socket against those who are not systemd, and against crowds.

A real server on a real socket. Root is needed to be believed at all, so as an ordinary user only the refusals run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from flyted.contract.errors import NotFound
from flyted.daemon.secrets.credentials import MAX_CONNECTIONS, Credentials

pytestmark = pytest.mark.slow

UNIT = "flyted-app-a-r1-0.service"
VALUE = b"CANARY-7f3a91" * 30_000  # more than the kernel holds for a reader that does not read
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root is answered: sudo tests/run")

FORGER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
s.bind(b"\\0" + os.urandom(8).hex().encode() + b"/unit/flyted-app-a-r1-0.service/s0")
s.connect(sys.argv[1])
data = b""
while chunk := s.recv(65536):
    data += chunk
sys.stdout.buffer.write(data)
"""


def answer(unit: str, credential: str) -> bytes:
    """What the daemon would say: one unit has two credentials."""
    if (unit, credential) == (UNIT, "s0"):
        return VALUE
    if (unit, credential) == (UNIT, "broken"):
        raise ZeroDivisionError(VALUE.decode())
    raise NotFound(f"{unit} has no credential {credential}")


@contextlib.asynccontextmanager
async def server(path: Path, backlog: int = 4096) -> AsyncIterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o666)  # noqa: PTH101  the mode is the first check; here the second is tested
        listener.listen(backlog)
        running = asyncio.create_task(Credentials(listener, answer).run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def ask(path: Path, address: bytes | None = None, *, unit: str = UNIT, credential: str = "s0") -> bytes:
    """Asks as systemd does, and reads to the end."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(address or b"\0" + secrets.token_hex(8).encode() + f"/unit/{unit}/{credential}".encode())
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, str(path))
        data = b""
        while chunk := await loop.sock_recv(sock, 1 << 16):
            data += chunk
        return data


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(work, 60)

    asyncio.run(bounded())


@as_root
def test_systemd_gets_the_whole_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From root, with the address that systemd uses. The log names unit and credential, never the value."""

    async def work() -> None:
        async with server(tmp_path / "s"):
            assert await ask(tmp_path / "s") == VALUE

    with caplog.at_level(logging.DEBUG):
        run(work())
    assert f"{UNIT} was given credential s0" in caplog.text
    assert "CANARY" not in caplog.text


@as_root
@pytest.mark.parametrize(
    "address",
    [b"\0f/unit/flyted-app-b-r1-0.service/s0", b"\0f/unit/flyted-app-a-r1-0.service/s1", b"\0f/unit/a/b/s0",
     b"\0f/unit/../s0", b"\0/unit/flyted-app-a-r1-0.service/s0", b"\0f/unit/flyted-app-a-r1-0.service/s0\n",
     b"\0f/unit/flyted-app-a-r1-0.service/s0\0", b"\0\xff\xfe", b"\0f/user/flyted-app-a-r1-0.service/s0"],
)  # fmt: skip
def test_root_gets_what_is_registered_and_nothing_else(
    tmp_path: Path, address: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Another unit, another id, a malformed address: nothing, and the reason is in the log."""

    async def work() -> None:
        async with server(tmp_path / "s"):
            assert await ask(tmp_path / "s", address) == b""

    run(work())
    assert "gets no credential" in caplog.text or "without a unit: refused" in caplog.text


@as_root
def test_an_unnamed_client_of_root_gets_nothing(tmp_path: Path) -> None:
    """Root's ``socat`` is not systemd: without an address there is no unit."""

    async def work() -> None:
        async with server(tmp_path / "s"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(work())


@as_root
def test_a_forged_address_of_another_user_gets_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Anybody may take the name that systemd takes; the kernel says that it is not root."""
    tmp_path.chmod(0o711)
    for parent in tmp_path.parents:
        if parent != Path("/") and parent.stat().st_mode & 0o1 == 0:
            parent.chmod(parent.stat().st_mode | 0o1)

    async def work() -> None:
        async with server(tmp_path / "s"):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", FORGER, str(tmp_path / "s"),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            out, err = await child.communicate()
            assert (out, err, child.returncode) == (b"", b"", 0)

    run(work())
    assert "uid 65534" in caplog.text
    assert "refused" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root is answered")
def test_an_ordinary_user_gets_nothing(tmp_path: Path) -> None:
    """The same without root: this very process is refused."""

    async def work() -> None:
        async with server(tmp_path / "s"):
            assert await ask(tmp_path / "s") == b""

    run(work())


@as_root
def test_a_fault_of_ours_ends_one_answer_only(tmp_path: Path) -> None:
    """An unforeseen error closes that connection; the next one is served."""

    async def work() -> None:
        async with server(tmp_path / "s"):
            assert await ask(tmp_path / "s", credential="broken") == b""
            assert await ask(tmp_path / "s") == VALUE

    run(work())


@as_root
def test_those_above_the_bound_wait(tmp_path: Path) -> None:
    """Readers that do not read take all places; who comes then is served when one is free, never turned away."""

    async def work() -> None:
        idle = contextlib.ExitStack()
        async with server(tmp_path / "s"), contextlib.AsyncExitStack() as last:
            last.callback(idle.close)
            for n in range(MAX_CONNECTIONS):
                sock = idle.enter_context(socket.socket(socket.AF_UNIX))
                sock.bind(b"\0%x/unit/%s/s0" % (n + (os.getpid() << 16), UNIT.encode()))
                sock.connect(str(tmp_path / "s"))
            late = asyncio.create_task(ask(tmp_path / "s"))
            done, _ = await asyncio.wait([late], timeout=0.3)
            assert not done
            idle.close()
            assert await late == VALUE

    run(work())


@as_root
def test_a_thousand_starts_at_once(tmp_path: Path) -> None:
    """A machine that boots with a thousand apps: each gets its value."""

    async def work() -> None:
        async with server(tmp_path / "s"):
            answers = await asyncio.gather(*(ask(tmp_path / "s") for _ in range(500)))
            answers += await asyncio.gather(*(ask(tmp_path / "s") for _ in range(500)))
            assert set(answers) == {VALUE}

    run(work())
