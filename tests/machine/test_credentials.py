"""Credentials through the real PID 1: sizes up to the limit, every start anew, what a refusal is."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from flyted.contract.app import MAX_SECRETS, SecretUse
from flyted.contract.errors import NotFound
from flyted.contract.names import Replica
from flyted.daemon.apps.used_secrets import LIMIT
from flyted.daemon.secrets.credentials import Credentials
from flyted.plan.secrets import credential_bytes, sums
from flyted.plan.units import UnitPair
from tests.machine.kit.units import connected, do, planned, run, sh, spec

pytestmark = pytest.mark.usefixtures("stub_app")

READ = (
    "(lambda d: {n: (len(v), __import__('hashlib').sha256(v).hexdigest()) for n in os.listdir(d)"
    " for v in [open(d + '/' + n, 'rb').read()]})(os.environ['CREDENTIALS_DIRECTORY'])"
)


@contextlib.asynccontextmanager
async def answering(pair: UnitPair, answer: Callable[[str, str], bytes]) -> AsyncIterator[None]:
    """A credential server on a socket of its own, which the pair is made to ask."""
    path = f"/run/flyted-test-{os.urandom(4).hex()}.sock"
    pair.service["LoadCredential"][1:] = [(name, path) for name in pair.credentials]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(4096)
        running = asyncio.create_task(Credentials(listener, answer).run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])
            os.unlink(path)  # noqa: PTH108


def digests(values: dict[str, bytes]) -> dict[str, tuple[int, str]]:
    return {name: (len(value), hashlib.sha256(value).hexdigest()) for name, value in values.items()}


def several(count: int) -> tuple[Replica, UnitPair]:
    secrets = tuple(SecretUse(f"K{n}", env=f"K{n}") for n in range(count))
    return planned(spec("secretive", secrets=secrets, env=tuple((f"E{n}", "x" * 8000) for n in range(11))))


@pytest.mark.parametrize("sizes", [[1], [512 << 10, 388 << 10], [3 * 4096] * MAX_SECRETS, [1] * MAX_SECRETS])
def test_every_size_that_deploy_allows_arrives(sizes: list[int]) -> None:
    """One byte, the largest value with the rest beside it, as many secrets as an app may have; with variables."""
    assert sum(map(credential_bytes, sizes)) <= LIMIT
    replica, pair = several(len(sizes))
    values = {name: os.urandom(size) for name, size in zip(pair.credentials, sizes, strict=False)}
    values["sums"] = sums([(len(v), hashlib.sha256(v).hexdigest()) for v in values.values()])

    async def work() -> None:
        async with connected() as units, answering(pair, lambda _unit, name: values[name]):
            try:
                await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
                assert await units.start(replica.service) == "done", sh("journalctl", "-n9", "-u", replica.service)
                assert eval(await do(replica, READ)) == digests(values | {"start": pair.start})
                mode = "[oct(os.stat(os.environ['CREDENTIALS_DIRECTORY'] + '/s0').st_mode & 0o7337)]"
                assert await do(replica, mode) == "['0o0']"  # nobody else reads it, nobody writes it
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)

    run(work())


def test_each_start_asks_anew() -> None:
    """A wake gets today's value, not that of the deploy."""
    replica, pair = several(1)
    asked: list[tuple[str, str]] = []

    def answer(unit: str, name: str) -> bytes:
        asked.append((unit, name))
        return f"{len(asked)}".encode()

    async def work() -> None:
        async with connected() as units, answering(pair, answer):
            try:
                await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
                for _ in range(2):
                    assert await do(replica, "os.getpid()")
                    await units.stop(replica.service)
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)

    run(work())
    assert sorted(asked) == sorted([(replica.service, "s0"), (replica.service, "sums")] * 2)


def test_a_refusal_is_an_empty_credential() -> None:
    """systemd takes "closed without a byte" for an empty value and starts the unit: so launch must look, and does."""
    replica, pair = several(1)

    def answer(_unit: str, name: str) -> bytes:
        raise NotFound(f"no {name}")

    async def work() -> None:
        async with connected() as units, answering(pair, answer):
            try:
                await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
                assert await do(replica, "open(os.environ['CREDENTIALS_DIRECTORY'] + '/s0').read()") == "''"
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)

    run(work())


def test_no_plaintext_is_left_behind() -> None:
    """Not in a property, a unit file, the journal, the environment of another, a file outside of the credentials."""
    replica, pair = several(1)
    canary = "CANARY-" + os.urandom(8).hex()
    began = int(time.time())

    async def work() -> None:
        async with connected() as units, answering(pair, lambda _unit, _name: canary.encode()):
            try:
                await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
                assert await do(replica, "open(os.environ['CREDENTIALS_DIRECTORY'] + '/s0').read()") == repr(canary)
                assert _files_with(canary) == ""
                assert canary not in sh("systemctl", "show", replica.socket, replica.service)
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)

    run(work())
    assert _files_with(canary) == ""
    journal = sh("journalctl", f"--since=@{began}", "-o", "json", "--all")
    assert replica.service in journal
    assert canary not in journal


def _files_with(text: str) -> str:
    """The files that hold it, but for credentials.

    Images are gigabytes of strangers' code, and other tests' files may be as long as zeros can be: not of this test.
    """
    skipped = [f"--exclude-dir={name}" for name in ("credentials", "images", "pytest-of-*")]
    return sh("grep", "-rlaF", *skipped, text, "/run", "/etc", "/var/lib", "/tmp")
