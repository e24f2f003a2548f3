"""Apps with several replicas: they follow the load, and neither that, a crash nor a deploy loses a request."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import users
from tests.machine.kit.apps import Load, connected, request, serve, state, trusted, websocket, write
from tests.machine.kit.units import main_pid
from tests.machine.kit.users import alice, answer, curl, forget_apps, until


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("replicas-")


def replicas(name: str) -> dict[int, str]:
    """The state of each replica, by its number."""
    return {each["number"]: each["state"] for each in answer("app", "get", name)["replicas"]}


def serving(name: str) -> list[int]:
    """The numbers of the replicas that run."""
    return sorted(number for number, word in replicas(name).items() if word == "running")


def pid_of(name: str, number: int) -> int:
    """The main process of a replica of the serving revision."""
    revision = answer("app", "get", name)["revision"]
    return main_pid(f"flyted-app-{name}-r{revision}-{number}.service")


async def many(url: str, count: int, path: str) -> Counter[str]:
    """Requests that come together; what became of them."""
    tls = trusted()
    return Counter(await asyncio.gather(*(request(url, tls, path=path) for _ in range(count))))


async def bodies(url: str, count: int) -> Counter[int]:
    """Which processes answer that many requests, eight at a time."""
    tls, found = trusted(), Counter[int]()
    gate = asyncio.Semaphore(8)

    async def one() -> None:
        async with gate, connected(url, tls) as (reader, writer):
            host = url.removeprefix("https://").partition(":")[0]
            writer.write(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            found[json.loads((await reader.read()).partition(b"\r\n\r\n")[2])["pid"]] += 1

    await asyncio.gather(*(one() for _ in range(count)))
    return found


def at_once(most: int, each: int, least: int = 0) -> str:
    """Scaling, in the place where the app's file has its replicas."""
    return f"({least}, {most}), metric=flyte.app.Scaling.Concurrency({each})"


def test_replicas_follow_the_load_and_then_the_app_sleeps() -> None:
    """From none to three by the requests that are open, and back, one by one shown by `app get`."""
    url = serve("replicas-load", replicas=at_once(3, 2), scaledown=8)
    alice("flytectl", "app", "sleep", "replicas-load")
    assert serving("replicas-load") == []

    async def load() -> None:
        requests = asyncio.create_task(many(url, 6, "/slow?s=5"))
        began = time.monotonic()
        while len(await asyncio.to_thread(serving, "replicas-load")) < 3:
            assert time.monotonic() - began < 60
            await asyncio.sleep(0.2)
        assert await requests == {"200": 6}

    asyncio.run(load())
    shown = alice("flytectl", "app", "get", "replicas-load").stdout
    assert "0 to 3, one for 2 requests at once" in shown
    assert len(re.findall(r"^  Replica +[012]: running, since 20", shown, re.MULTILINE)) == 3
    assert re.search(r"^replicas-load +running +3/3 ", alice("flytectl", "app", "ls").stdout, re.MULTILINE)
    until(lambda: serving("replicas-load") == [0] or state("replicas-load") == "sleeping")
    until(lambda: state("replicas-load") == "sleeping")
    units = [unit["name"] for unit in answer("app", "get", "replicas-load")["units"]]
    assert [unit for unit in units if not unit.partition(".")[0].endswith("-0")] == []
    assert asyncio.run(many(url, 4, "/")) == {"200": 4}


def test_without_a_metric_the_cpu_time_of_the_units_decides() -> None:
    """A request that computes for seconds needs a second replica; many that wait for others do not."""
    at_start = """
@app.get("/burn")
def burn(s: float):
    end = time.monotonic() + s
    while time.monotonic() < end:
        pass
    return {"pid": os.getpid()}
"""
    file = write("replicas-cpu", replicas="(1, 2)", at_start=at_start, scaledown=60)
    own = Path(pwd.getpwnam("alice").pw_dir, file)
    own.write_text(own.read_text().replace("cpu=2,", "cpu=0.5,"))
    url = users.serve(file)
    assert asyncio.run(many(url, 8, "/slow?s=2")) == {"200": 8}
    assert serving("replicas-cpu") == [0]

    for _ in range(20):
        assert asyncio.run(many(url, 2, "/burn?s=2")) == {"200": 2}
        if serving("replicas-cpu") == [0, 1]:
            break
    assert serving("replicas-cpu") == [0, 1]


def at_rest(seconds: float = 8) -> bool:
    """Whether flyted's process does not run once in so many seconds."""
    status = Path(f"/proc/{main_pid('flyted')}/status")

    def switches() -> list[str]:
        return re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())

    before = switches()
    time.sleep(seconds)
    return switches() == before


def test_flyted_rests_while_an_app_has_enough_replicas_and_hears_of_load() -> None:
    """One that always runs, scaled by requests or by CPU time; HAProxy tells of the request that is one too many."""
    forget_apps("replicas-")  # while another app has a replica that its load needs no more, it is looked at
    by_cpu = serve("replicas-rests-cpu", replicas="(1, 2)")
    url = serve("replicas-rests", replicas=at_once(3, 2, least=1), scaledown=5)
    assert curl(url)[0] == curl(by_cpu)[0] == 200
    until(at_rest)

    async def load() -> None:
        requests = asyncio.create_task(many(url, 6, "/slow?s=30"))
        while len(await asyncio.to_thread(serving, "replicas-rests")) < 3:
            assert not requests.done()
            await asyncio.sleep(0.2)
        assert await requests == {"200": 6}

    asyncio.run(load())
    until(lambda: serving("replicas-rests") == [0])
    until(at_rest)
    forget_apps("replicas-rests")


def test_three_replicas_get_a_third_of_the_requests_each() -> None:
    """Within a tenth."""
    url = serve("replicas-three", replicas="(3, 3)")
    until(lambda: serving("replicas-three") == [0, 1, 2])
    found = asyncio.run(bodies(url, 300))
    assert len(found) == 3
    assert all(90 <= count <= 110 for count in found.values()), found


def test_a_crash_of_one_replica_is_no_outage() -> None:
    """Only what it had in hand is lost; it is back soon, and its failure is not the app's."""
    url = serve("replicas-three", replicas="(3, 3)")
    until(lambda: serving("replicas-three") == [0, 1, 2])

    async def kill() -> None:
        for number in (1, 0):
            await asyncio.sleep(1)
            os.kill(await asyncio.to_thread(pid_of, "replicas-three", number), signal.SIGKILL)
            assert await asyncio.to_thread(state, "replicas-three") == "running"
            await asyncio.sleep(2)

    found = asyncio.run(Load(url).during(6, kill()))
    assert found["200"] >= found.total() - 8, found
    assert set(found) <= {"200", "502"}, found
    until(lambda: serving("replicas-three") == [0, 1, 2])
    assert set(asyncio.run(Load(url).during(1))) == {"200"}


def test_a_restart_of_flyted_leaves_the_replicas() -> None:
    """The same processes serve, and no request is lost."""
    url = serve("replicas-three", replicas="(3, 3)")
    until(lambda: serving("replicas-three") == [0, 1, 2])
    before = {number: pid_of("replicas-three", number) for number in range(3)}

    async def restart() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(subprocess.run, ["systemctl", "restart", "flyted"], check=True)
        await asyncio.sleep(2)

    assert set(asyncio.run(Load(url).during(3, restart()))) == {"200"}
    assert {number: pid_of("replicas-three", number) for number in range(3)} == before
    assert serving("replicas-three") == [0, 1, 2]


def test_a_deploy_hands_over_between_replicas() -> None:
    """All of the new revision's serve when it is switched to; no request is lost."""
    url = serve("replicas-three", replicas="(3, 3)")
    until(lambda: serving("replicas-three") == [0, 1, 2])
    revision = answer("app", "get", "replicas-three")["revision"]

    async def deploy() -> None:
        await asyncio.to_thread(serve, "replicas-three", replicas="(3, 3)", version="2")
        assert await asyncio.to_thread(serving, "replicas-three") == [0, 1, 2]

    assert set(asyncio.run(Load(url).during(5, deploy()))) == {"200"}
    assert json.loads(curl(url)[1])["version"] == "2"
    assert answer("app", "get", "replicas-three")["revision"] == revision + 1
    until(lambda: len(answer("app", "get", "replicas-three")["units"]) == 6)


def test_stop_and_start_mean_all_replicas() -> None:
    """Nothing is left by the one; the other returns when the app answers."""
    url = serve("replicas-three", replicas="(3, 3)")
    alice("flytectl", "app", "stop", "replicas-three")
    assert answer("app", "get", "replicas-three")["units"] == []
    assert curl(url)[0] == 503
    alice("flytectl", "app", "start", "replicas-three")
    assert curl(url)[0] == 200
    until(lambda: serving("replicas-three") == [0, 1, 2])


def test_replicas_share_their_folder_and_have_a_network_each() -> None:
    """What one writes the others see; each listens on its own port 8080."""
    at_start = """
@app.get("/own")
async def own():
    import pathlib
    path = pathlib.Path("seen.txt")
    with path.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return {"net": os.readlink("/proc/self/ns/net"), "seen": sorted(set(path.read_text().split()))}
"""
    url = serve("replicas-own", replicas="(2, 2)", at_start=at_start)
    until(lambda: serving("replicas-own") == [0, 1])
    found = [json.loads(curl(f"{url}/own")[1]) for _ in range(4)]
    assert len({each["net"] for each in found}) == 2
    assert len(found[-1]["seen"]) == 2


def test_a_sticky_app_knows_its_browsers() -> None:
    """The cookie is the ingress's alone, and as safe as a cookie can be; a browser whose replica ends gets another."""
    users.serve(write("replicas-own", replicas="(2, 2)"), "--sticky")
    url = answer("app", "get", "replicas-own")["url"]
    until(lambda: serving("replicas-own") == [0, 1])
    jars = [f"/home/alice/jar-{number}" for number in range(4)]
    for jar in jars:
        alice("rm", "-f", jar)
    first = [json.loads(curl(url, "-c", jar, "-b", jar)[1])["pid"] for jar in jars]
    assert len(set(first)) == 2
    for _ in range(3):
        assert [json.loads(curl(url, "-c", jar, "-b", jar)[1])["pid"] for jar in jars] == first
    head = alice("curl", "-sS", "-D", "-", "-o", "/dev/null", url).stdout.lower()
    assert re.search(r"^set-cookie: __host-flyte-replica=[a-z0-9-]+; path=/; httponly; secure; samesite=lax\s*$",
                     head, re.MULTILINE)  # fmt: skip
    os.kill(first[0], signal.SIGKILL)
    until(lambda: curl(url, "-c", jars[0], "-b", jars[0])[0] == 200)
    assert json.loads(curl(url, "-c", jars[0], "-b", jars[0])[1])["pid"] != first[0]


async def _ups_and_downs(url: str, name: str, cycles: int) -> tuple[Counter[str], int]:
    """Bursts that need three replicas, and pauses that need one; how often the number of them changed."""
    changes, last = 0, 0
    bursts: Counter[str] = Counter()
    tls = trusted()

    async def watch() -> None:
        nonlocal changes, last
        while True:
            now = len(await asyncio.to_thread(serving, name))
            changes, last = changes + (now != last), now
            await asyncio.sleep(0.3)

    watching = asyncio.create_task(watch())
    for _ in range(cycles):
        async with websocket(url, tls) as (reader, writer):  # one for each: a longer one would have to answer pings
            stream = asyncio.create_task(request(url, tls, path="/stream?n=3"))
            bursts.update(await many(url, 5, "/slow?s=2.5"))
            bursts.update([await stream])
            await asyncio.sleep(4)
            writer.write(b"\x81\x82\x00\x00\x00\x00hi")
            assert (await reader.readexactly(9))[2:] == b"echo:hi"
    watching.cancel()
    return bursts, changes


def _go_up_and_down(cycles: int) -> None:
    # with none at least, the first WebSocket might come while a busy machine stops the app that nobody has asked yet
    url = serve("replicas-many", replicas=at_once(3, 2, least=1), scaledown=1)
    load = Load(url, rate=15)

    async def all_of_it() -> tuple[Counter[str], Counter[str], int]:
        working = asyncio.ensure_future(_ups_and_downs(url, "replicas-many", cycles))
        found = await load.during(1, working)
        return found, *(await working)

    found, bursts, changes = asyncio.run(all_of_it())
    assert set(found) == {"200"}, found
    assert bursts == {"200": 6 * cycles}
    assert changes >= cycles // 2, "they came and went; on a busy machine not every change is seen"


@pytest.mark.once
def test_ups_and_downs_lose_no_request() -> None:
    """GET, POST, streams and WebSockets."""
    _go_up_and_down(2)


@pytest.mark.long
def test_thirty_ups_and_downs_lose_no_request() -> None:
    """Before a release."""
    _go_up_and_down(30)
