"""An app that does as it is told, and clients that count what becomes of their requests."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.machine.kit import users
from tests.machine.kit.users import answer, give

SOURCE = """
import asyncio, datetime, os, sys, time
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
import flyte
from flyte.app.extras import FastAPIAppEnvironment

AT_START = {at_start!r}
app = FastAPI()

@app.get("/")
async def root():
    return {{"pid": os.getpid(), "version": {version!r}}}

@app.post("/")
async def posted():
    await asyncio.sleep(0.02)
    return {{"pid": os.getpid()}}

@app.get("/slow")
async def slow(s: float = 1.0):
    await asyncio.sleep(s)
    return {{"slept": s}}

@app.api_route("/die", methods=["GET", "POST"])
async def die():
    os._exit(7)

@app.get("/stream")
async def stream(n: int = 5):
    async def lines():
        for i in range(n):
            yield f"data: {{i}}\\n\\n"
            await asyncio.sleep(1)
    return StreamingResponse(lines(), media_type="text/event-stream")

@app.websocket("/ws")
async def ws(w: WebSocket):
    await w.accept()
    while True:
        await w.send_text("echo:" + await w.receive_text())

if os.environ.get("FLYTE_INTERNAL_EXECUTION_PROJECT"):  # on the server
    exec(AT_START)

env = FastAPIAppEnvironment(
    name={name!r}, app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets"),
    scaling=flyte.app.Scaling(replicas={replicas}, scaledown_after=datetime.timedelta(seconds={scaledown})),
    resources=flyte.Resources(cpu=2, memory="512Mi"),
)
"""


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def write(
    name: str, *, at_start: str = "", version: str = "1", replicas: str = "(0, 1)", scaledown: float = 300
) -> str:
    """The app's file in alice's home. ``at_start`` runs on the server only, when the module is imported there."""
    text = SOURCE.format(name=name, at_start=at_start, version=version, replicas=replicas, scaledown=scaledown)
    return give(f"{name.replace('-', '_')}.py", text)


def serve(name: str, **how: object) -> str:
    """Serves it; its URL."""
    return users.serve(write(name, **how))  # type: ignore[arg-type]


def state(name: str) -> str:
    """The app's state, in flytectl's word."""
    return str(answer("app", "get", name)["state"])


def trusted() -> ssl.SSLContext:
    """As a client of this machine sees the apps' certificates."""
    return ssl.create_default_context(cadata=answer("ca", "show")["pem"])


@asynccontextmanager
async def connected(url: str, tls: ssl.SSLContext) -> AsyncIterator[Streams]:
    """A new connection to an app; at the end nobody waits for TLS to say goodbye."""
    parts = urlsplit(url)
    port = parts.port or 443
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=parts.hostname)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def request(url: str, tls: ssl.SSLContext, method: str = "GET", path: str = "/", seconds: float = 60) -> str:
    """One request on a connection of its own: its status, or what went wrong."""
    try:
        async with asyncio.timeout(seconds), connected(url, tls) as (reader, writer):
            host = urlsplit(url).hostname
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
            head = await reader.readline()
            await reader.read()
            return head.split()[1].decode() if head else "empty"
    except (OSError, TimeoutError, ssl.SSLError) as error:
        return type(error).__name__


@dataclass
class Load:
    """An open loop of requests, half of them POST, while something happens; then what became of them."""

    url: str
    rate: float = 40
    results: Counter[str] = field(default_factory=Counter)

    async def during(self, seconds: float, work: Awaitable[object] | None = None) -> Counter[str]:
        """Send for ``seconds`` and for as long as ``work`` takes; return when the last answer is there."""
        tls, tasks = trusted(), []
        working = None if work is None else asyncio.ensure_future(work)
        for number in itertools.count():
            if number >= seconds * self.rate and (working is None or working.done()):
                break
            tasks.append(asyncio.create_task(request(self.url, tls, "POST" if number % 2 else "GET")))
            await asyncio.sleep(1 / self.rate)
        if working is not None:
            await working
        self.results.update(await asyncio.gather(*tasks))
        return self.results


@asynccontextmanager
async def websocket(url: str, tls: ssl.SSLContext) -> AsyncIterator[Streams]:
    """An open WebSocket to /ws."""
    key = base64.b64encode(os.urandom(16)).decode()
    async with connected(url, tls) as (reader, writer):
        writer.write(
            f"GET /ws HTTP/1.1\r\nHost: {urlsplit(url).hostname}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        yield reader, writer
