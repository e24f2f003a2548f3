"""An app that writes down each request, and a load of all kinds on new and on kept client connections."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.machine.kit.apps import Streams, connected, trusted, websocket
from tests.machine.kit.users import give

SOURCE = """
import asyncio, datetime, os
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
{decoration}

@app.api_route("/hit/{{number}}", methods=["GET", "POST"])
async def hit(number: str):
    with open(os.path.join(os.environ["STATE_DIRECTORY"].split(":")[0], "ids"), "a") as ids:
        ids.write(number + "\\n")
    await asyncio.sleep(0.005)
    return PlainTextResponse(number)

@app.get("/pid")
async def pid():
    return PlainTextResponse(str(os.getpid()))

@app.get("/stream")
async def stream():
    async def lines():
        for i in range(5):
            yield f"data: {{i}}\\n\\n"
            await asyncio.sleep(0.1)
        yield "data: end\\n\\n"
    return StreamingResponse(lines(), media_type="text/event-stream")

@app.websocket("/ws")
async def ws(w: WebSocket):
    await w.accept()
    await w.send_text(await w.receive_text())
    await w.close()

env = FastAPIAppEnvironment(
    name={name!r}, app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets"),
    scaling=flyte.app.Scaling(
        replicas={replicas}, scaledown_after=datetime.timedelta(seconds={scaledown}){metric}
    ),
    resources=flyte.Resources(cpu=2, memory="512Mi"),
)
"""
IDLE_S = 8.0
"""Seconds after which a client does not use its own connection again: the ingress closes it after 15 s."""


def write(name: str, version: str = "1", *, replicas: str = "(0, 1)", scaledown: float = 300, metric: str = "") -> str:
    """The app's file in alice's home."""
    text = SOURCE.format(
        name=name, decoration=f"VERSION = {version!r}", replicas=replicas, scaledown=scaledown, metric=metric
    )
    return give(f"{name.replace('-', '_')}.py", text)


@dataclass
class Mixed:
    """An open loop: GET and POST alternately, half of each on kept client connections, with a stream and a WebSocket.

    ``answers``: number → method and status, or what went wrong. ``others``: what became of streams and WebSockets.
    """

    url: str
    app: str
    rate: float = 200
    answers: dict[str, tuple[str, str]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    """Requests that are sent and not answered."""
    _free: list[tuple[float, Streams]] = field(default_factory=list)
    _tag: str = field(default_factory=lambda: uuid.uuid4().hex)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def during(self, count: int, work: Awaitable[object] | None = None) -> None:
        """Send ``count`` requests and as many as come while ``work`` goes on; return when the last answer is there."""
        tls, loop = trusted(), asyncio.get_running_loop()
        working = asyncio.ensure_future(work) if work is not None else None
        over = asyncio.Event()
        beside = [asyncio.create_task(self._streams(tls, over)), asyncio.create_task(self._websockets(tls, over))]
        tasks, began = [], loop.time()
        for sent in itertools.count():
            if sent >= count and (working is None or working.done()):
                break
            tasks.append(asyncio.create_task(self._one(tls, sent)))
            await asyncio.sleep(max(0.0, began + sent / self.rate - loop.time()))
        if working is not None:
            await working
        over.set()
        await asyncio.gather(*tasks, *beside)
        for _since, (_reader, writer) in self._free:
            writer.transport.abort()

    async def _one(self, tls: ssl.SSLContext, sent: int) -> None:
        method, number = "POST" if sent % 2 else "GET", f"{self._tag}-{next(self._numbers)}"
        self.waiting += 1
        try:
            async with asyncio.timeout(90):
                if sent % 4 < 2:
                    async with connected(self.url, tls) as streams:
                        said = await self._exchange(streams, method, number)
                else:
                    said = await self._on_kept(tls, method, number)
        except (OSError, TimeoutError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            said = repr(error)
        self.waiting -= 1
        self.answers[number] = method, said

    async def _on_kept(self, tls: ssl.SSLContext, method: str, number: str) -> str:
        parts, now = urlsplit(self.url), asyncio.get_running_loop().time
        while self._free:
            since, streams = self._free.pop()
            if now() - since < IDLE_S and not streams[0].at_eof():
                break
            streams[1].transport.abort()
        else:
            streams = await asyncio.open_connection(
                "127.0.0.1", parts.port or 443, ssl=tls, server_hostname=parts.hostname
            )
        said = await self._exchange(streams, method, number)
        self._free.append((now(), streams))
        return said

    async def _exchange(self, streams: Streams, method: str, number: str) -> str:
        reader, writer = streams
        body = "x" * 64 if method == "POST" else ""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} /hit/{number} HTTP/1.1\r\nHost: {urlsplit(self.url).hostname}\r\n{length}\r\n"
        writer.write((head + body).encode())
        status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        size = next(int(line[15:]) for line in headers if line.startswith("content-length:"))
        said = (await reader.readexactly(size)).decode()
        return "200" if (status.split()[1], said) == ("200", number) else f"{status} {said}"

    async def _streams(self, tls: ssl.SSLContext, over: asyncio.Event) -> None:
        async def one() -> str:
            async with connected(self.url, tls) as (reader, writer):
                host = urlsplit(self.url).hostname
                writer.write(f"GET /stream HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                text = await reader.read(-1)
                return "stream" if b"data: end" in text else f"stream: {text!r}"

        await self._beside(one, over)

    async def _websockets(self, tls: ssl.SSLContext, over: asyncio.Event) -> None:
        async def one() -> str:
            async with websocket(self.url, tls) as (reader, writer):
                writer.write(b"\x81\x82\x00\x00\x00\x00hi")
                text = await reader.read(4)
                return "websocket" if text == b"\x81\x02hi" else f"websocket: {text!r}"

        await self._beside(one, over)

    async def _beside(self, one: Callable[[], Awaitable[str]], over: asyncio.Event) -> None:
        """Do it again and again, and count how it ends; an app that is killed ends it in other ways, too."""
        while not over.is_set():
            try:
                said = await one()
            except (OSError, AssertionError, asyncio.IncompleteReadError) as error:
                said = repr(error)
            self.others[said] += 1
            await asyncio.sleep(0.1)

    @property
    def lost(self) -> dict[str, tuple[str, str]]:
        """The requests that were not answered."""
        return {number: found for number, found in self.answers.items() if found[1] != "200"}

    @property
    def seen(self) -> Counter[str]:
        """How often the app got each request."""
        ids = Path(f"/var/lib/private/flyted-app-{self.app}/ids").read_text(encoding="ascii").split()
        return Counter(each for each in ids if each in self.answers)

    def nothing_is_lost_or_doubled(self, count: int) -> None:
        """Check that at least ``count`` requests were sent, each answered, and each seen by the app exactly once."""
        assert len(self.answers) >= count
        assert self.lost == {}
        seen = self.seen
        assert {number: (seen[number], found) for number, found in self.answers.items() if seen[number] != 1} == {}
