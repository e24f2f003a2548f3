"""What flyted costs a language model: a streamed token, a wake, a start. The real llama-server, with a tiny model."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.ports import spread
from tests.machine.kit import llama as llamas
from tests.machine.kit.apps import trusted
from tests.machine.kit.programs import inside, processes, unit
from tests.machine.kit.users import alice

APP = "figure-llama"
TOKENS, STREAMS, WAKES, STARTS = 300, 6, 7, 15
PORT = 18080
HEADERS = {"Authorization": f"Bearer {llamas.KEY}"}
ASK = {"ignore_eos": True, "stream": True, "id_slot": 0}
LONG = [
    {"role": "user", "content": "x" * 10_000}
]  # to look back on: some milliseconds a token, as a large model takes
Promise = Callable[..., None]


def stream(
    connection: http.client.HTTPConnection, tokens: int, messages: list[dict[str, str]] = llamas.SAY_HI
) -> list[float]:
    """When each token of an answer came, in milliseconds from the request."""
    body = json.dumps({**ASK, "messages": messages, "max_tokens": tokens})
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body, HEADERS)
    response = connection.getresponse()
    came = []
    while line := response.readline():
        if b'"content":"' in line:
            came.append((time.perf_counter() - began) * 1e3)
    connection.close()
    assert len(came) >= tokens * 0.9, (len(came), response.status)  # the last may come with the end
    return came


def gaps(came: list[float]) -> list[float]:
    """How long after the one before each token came."""
    return [later - earlier for earlier, later in itertools.pairwise(came)]


def through_ingress(url: str, tls: ssl.SSLContext) -> http.client.HTTPConnection:
    """As a client comes."""
    where = urlsplit(url)
    return http.client.HTTPSConnection(str(where.hostname), where.port, context=tls, timeout=60)


def straight() -> http.client.HTTPConnection:
    """To the port itself, from within its network."""
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
    connection.connect()
    return connection


def tokens(promise: Promise, url: str, tls: ssl.SSLContext) -> None:
    """The same streams through the ingress and straight, in turns: each token's gap, and the first token."""
    pid = next(pid for pid, line in processes(unit(APP)).items() if "socket-proxyd" in line)
    ours, own, first_ours, first_own = [], [], [], []
    stream(through_ingress(url, tls), 10, LONG)  # read once, remembered by the server
    for _ in range(STREAMS):
        came = stream(through_ingress(url, tls), TOKENS, LONG)
        ours += gaps(came)
        first_ours.append(came[0])
        with inside(pid):
            connection = straight()
        came = stream(connection, TOKENS, LONG)
        own += gaps(came)
        first_own.append(came[0])
    (p50, p99), (own50, own99) = spread(ours), spread(own)
    promise("a streamed token, p50", p50, 1.25 * own50 + 0.2, "ms", f"straight: {own50:.2f} ms, x{p50 / own50:.2f}")
    promise("a streamed token, p99", p99, 1.5 * own99 + 2, "ms", f"straight: {own99:.2f} ms, x{p99 / own99:.2f}")
    first, own_first = statistics.median(first_ours), statistics.median(first_own)
    promise("the first token of a stream", first, own_first + 15, "ms", f"straight: {own_first:.2f} ms")


@contextlib.contextmanager
def server() -> Iterator[None]:
    """The same binary with the same arguments, started by hand."""
    command = [str(llamas.SERVER), "-m", str(llamas.MODEL / llamas.FILE), "--threads", "1", "--port", str(PORT)]
    with subprocess.Popen(
        command, env={**os.environ, "LLAMA_API_KEY": llamas.KEY}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.kill()


def by_hand() -> float:
    """From nothing to the first token, in milliseconds; asked again until it answers, as one would."""
    began = time.perf_counter()
    with server():
        while True:
            with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
                asked = (time.perf_counter() - began) * 1e3
                return asked + stream(http.client.HTTPConnection("127.0.0.1", PORT, timeout=60), 10)[0]
            time.sleep(0.005)


def wake(url: str, tls: ssl.SSLContext) -> float:
    """From asleep to the first token of a request that was held meanwhile, in milliseconds."""
    alice("flytectl", "app", "sleep", APP)
    return stream(through_ingress(url, tls), 10)[0]


def launcher(promise: Promise) -> None:
    """A program that is started by flyted's launcher, up to its exec, against the program itself."""
    launch = ["/usr/bin/python3", "-I", "/usr/lib/flyted/flyted/launch", "--app", "figure", "--quoted", "/bin/true"]
    ours: list[float] = []
    alone: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        cache, state = Path(folder, "cache"), Path(folder, "state")
        cache.mkdir()
        state.mkdir()
        own = {"CACHE_DIRECTORY": str(cache), "STATE_DIRECTORY": str(state)}
        environ = {"PATH": "/usr/bin:/bin", "HOME": folder, **own}
        for _ in range(STARTS):
            for command, taken in ((launch, ours), (["/bin/true"], alone)):
                began = time.perf_counter()
                subprocess.run(command, check=True, env=environ, cwd=folder)
                taken.append((time.perf_counter() - began) * 1e3)
    added, empty = statistics.median(ours) - statistics.median(alone), empty_python()
    promise("the launcher adds to a start", added, 3 * empty + 40, "ms", f"python3 -I -c pass: {empty:.1f} ms")


def empty_python() -> float:
    """What any program in Python takes."""
    taken = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run(["/usr/bin/python3", "-I", "-c", "pass"], check=True)
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken)


def llama(promise: Promise) -> None:
    """All of it."""
    llamas.install()
    url, tls = llamas.serve(APP, llamas.PLAIN), trusted()
    socket.setdefaulttimeout(60)
    tokens(promise, url, tls)
    hand: list[float] = []
    woken: list[float] = []
    for _ in range(WAKES):
        hand.append(by_hand())
        woken.append(wake(url, tls))
    alone, held = statistics.median(hand), statistics.median(woken)
    promise(
        "a wake to the first token", held, 1.5 * alone + 300, "ms", f"by hand: {alone:.0f} ms, x{held / alone:.2f}"
    )
    launcher(promise)
    llamas.forget(APP)
