"""What replicas cost and bring: the start of a second one, how soon load brings it, and how evenly they share.

And a call from app to app beside the same request from outside.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.timing import median_ms
from tests.machine.kit import programs
from tests.machine.kit.apps import connected, serve, trusted
from tests.machine.kit.programs import do, port_server, unit
from tests.machine.kit.users import alice, answer, curl, may_serve

APP, FAIR = "figure-replicas", "figure-fair"
CALLER, CALLED = "figure-caller", "figure-called"
STARTS, SHARED, AT_ONCE, CALLS = 5, 900, 12, 500
CALL = """
import http.client, statistics, time
connection, taken = http.client.HTTPConnection({host!r}), []
for _ in range({calls}):
    began = time.perf_counter()
    connection.request("GET", "/")
    connection.getresponse().read()
    taken.append(time.perf_counter() - began)
result = statistics.median(taken)
"""
Promise = Callable[..., None]


def stamp(service: str, name: str) -> float:
    """When a unit came into a state, in seconds of the monotonic clock; 0 if it never did."""
    words = ["systemctl", "show", "--value", "-p", f"{name}TimestampMonotonic", service]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout or 0) / 1e6


def took(service: str) -> float:
    """Seconds of a unit's last start."""
    return stamp(service, "ActiveEnter") - stamp(service, "InactiveExit")


async def posted(url: str, tls: ssl.SSLContext) -> int:
    """One request on a connection of its own; the process that answered."""
    async with connected(url, tls) as (reader, writer):
        host = url.removeprefix("https://").partition(":")[0]
        head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        return int(json.loads((await reader.read()).partition(b"\r\n\r\n")[2])["pid"])


async def load(url: str) -> None:
    """Three requests at once, for one replica too many, for three seconds."""
    end, tls = time.monotonic() + 3, trusted()

    async def one() -> None:
        while time.monotonic() < end:
            await posted(url, tls)

    await asyncio.gather(*(one() for _ in range(3)))


async def shared(url: str) -> Counter[int]:
    """Which process answered how many of :data:`SHARED` requests, :data:`AT_ONCE` at a time."""
    gate, tls = asyncio.Semaphore(AT_ONCE), trusted()

    async def one() -> int:
        async with gate:
            return await posted(url, tls)

    return Counter(await asyncio.gather(*(one() for _ in range(SHARED))))


def starts(url: str, promise: Promise) -> None:
    """The first replica is woken by a request, the second by the load that is too much for the first."""
    first, second, reaction = [], [], []
    service = unit(APP)
    other = service.replace("-0.service", "-1.service")
    for _ in range(STARTS):
        alice("flytectl", "app", "sleep", APP)
        assert curl(url)[0] == 200
        first.append(took(service))
        began = time.monotonic()
        asyncio.run(load(url))
        reaction.append(stamp(other, "InactiveExit") - began)
        second.append(took(other))
    promise("start of the second replica / the first", statistics.median(second) / statistics.median(first), 1.1, "x",
            f"{statistics.median(second) * 1e3:.0f} ms / {statistics.median(first) * 1e3:.0f} ms")  # fmt: skip
    note = f"median: {statistics.median(reaction):.2f} s"
    promise("load to the start of a second replica", max(reaction), 2, "s", note)


def fairness(promise: Promise) -> None:
    """Three replicas share the requests evenly."""
    url = serve(FAIR, replicas="3")
    while sum(each["state"] == "running" for each in answer("app", "get", FAIR)["replicas"]) < 3:
        time.sleep(0.2)
    found = asyncio.run(shared(url))
    assert len(found) == 3, found
    worst = max(abs(count * 3 / SHARED - 1) for count in found.values())
    promise("three replicas: share of requests", 100 * worst, 10, "%", f"{sorted(found.values())} of {SHARED}")


def calls(promise: Promise) -> None:
    """A request of an app to another, beside the same from outside: each on a connection that is kept."""
    outside = programs.serve(CALLED, port_server()).removeprefix("https://").split(":")
    caller = programs.serve(CALLER, port_server(), "--may-call", CALLED)
    source = CALL.format(host=f"{CALLED}.apps.internal", calls=CALLS)
    connection = http.client.HTTPSConnection(outside[0], int(outside[1]) if outside[1:] else 443, context=trusted())

    def request() -> None:
        connection.request("GET", "/")
        connection.getresponse().read()

    request()
    do(caller, source)
    inside_ms, outside_ms = [], []
    for _ in range(5):
        inside_ms.append(float(do(caller, source)) * 1e3)
        outside_ms.append(median_ms(CALLS, request))
    inner, outer = statistics.median(inside_ms), statistics.median(outside_ms)
    promise("a call of an app / from outside", inner / outer, 1.3, "x", f"{inner:.2f} ms / {outer:.2f} ms")


def replicas(promise: Promise) -> None:
    """All of it."""
    url = serve(APP, replicas="(0, 2), metric=flyte.app.Scaling.Concurrency(1)", scaledown=3600)
    starts(url, promise)
    fairness(promise)
    calls(promise)
    for name in (APP, FAIR, CALLER, CALLED):
        alice("flytectl", "app", "delete", "--yes", name)


def main() -> None:
    """These figures alone."""
    may_serve()
    replicas(lambda name, measured, bound, unit, note="": print(f"{name}: {measured:.2f} {unit} ({bound}) {note}"))


if __name__ == "__main__":
    main()
