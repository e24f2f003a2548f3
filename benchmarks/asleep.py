"""What many sleeping apps cost one that is used: a pass, `app ls`, `app stop`, a wake and a restart of the daemon.

The apps are made by the daemon's own verbs, on one environment, each with a program of thirty lines; with so many of
them as are there when the time is over. By itself: ``python3 benchmarks/asleep.py 1 100 300``.
"""

from __future__ import annotations

import concurrent.futures
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.processes import main_process, rss_mib
from benchmarks.timing import median_ms
from flyted.contract import client
from flyted.contract.app import AppSpec, to_dict
from flyted.contract.names import AppKey, Replica

NUMBERS = (1, 1000)
MAKING_S = 1500.0
"""For all of them together; what is not there then is left out, and said."""
ANSWERS_S = 5.0
"""Seconds after a restart in which the daemon is asked all the time whether it still answers."""
LISTS = """
import sys
sys.path.insert(0, sys.argv[1])
from flyted.contract import client
client.call("version")
print(flush=True)
for _ in range(3):
    client.call("app.list", {"project": "", "domain": ""})
"""
PROJECT = "asleep"
STOP = ("/usr/bin/flytectl", "app", "stop", "--project", PROJECT, "a0")
LIST = ("/usr/bin/flytectl", "app", "ls")
ROUNDS = 9
ENVIRONMENT = Path("/opt/flyted-asleep")
PROGRAM = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
    told.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
listener = socket.socket(fileno=3)
while True:
    conn, _ = listener.accept()
    conn.recv(65536)
    conn.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
    conn.close()
"""
Promise = Callable[..., None]


def environment() -> None:
    """A Python without packages, and the program beside it."""
    if not (ENVIRONMENT / "bin/python").exists():
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(ENVIRONMENT)], check=True)
    (ENVIRONMENT / "asleep.py").write_text(PROGRAM)


def key(number: int) -> dict[str, str]:
    """The arguments that name an app."""
    return {"project": PROJECT, "domain": "development", "name": f"a{number}"}


def serve(number: int) -> bool:
    """One app: it starts, answers that it is ready, and goes to sleep. Whether it is there then.

    Some may have three replicas: of a thousand nearly as many as there are pools (flyted/plan/ingress/pools.py).
    """
    spec = AppSpec(
        AppKey(**key(number)), ("python", str(ENVIRONMENT / "asleep.py")), {}, python_env=str(ENVIRONMENT),
        egress=False, scaledown_after_s=86400.0, memory_bytes=64 << 20, env=(("V", "value"),),
        max_replicas=3 if number % 11 == 2 else 1,
    )  # fmt: skip
    client.call("app.serve", {"spec": to_dict(spec)}, bundles={})
    client.call("app.sleep", key(number))
    return True


def made(wanted: int, until: float) -> int:
    """Makes apps until there are so many, or the time is over; how many there are."""
    there = len(client.call("app.list", {"project": PROJECT, "domain": ""})["apps"])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in pool.map(lambda n: time.monotonic() < until and serve(n), range(there, wanted)):
            there += bool(done)
    return there


def stopped(stop: Callable[[], object]) -> float:
    """One stop of an app, in milliseconds; the app is started again, and asleep."""
    took = median_ms(1, stop)
    client.call("app.start", key(0))
    client.call("app.sleep", key(0))
    return took


def by_command(words: Sequence[str]) -> None:
    """A command, as a user types it."""
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def by_verb() -> None:
    """The same without the command's own start."""
    client.call("app.stop", key(0))


def deployed() -> float:
    """The deploy of one app more, in milliseconds; it is deleted again."""
    there = len(client.call("app.list", {"project": PROJECT, "domain": ""})["apps"])
    took = median_ms(1, lambda: serve(there))
    client.call("app.delete", {**key(there), "keep_data": False})
    return took


def woken_beside_lists() -> float:
    """One wake while another program lists all apps three times in a row, in milliseconds."""
    words = [sys.executable, "-c", LISTS, str(Path(__file__).parent.parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as lists:
        assert lists.stdout is not None
        lists.stdout.readline()
        return woken()


def woken() -> float:
    """One wake at the app's own socket, in milliseconds."""
    app = client.call("app.get", key(0))["app"]
    began = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(f"/run/flyted/apps/{Replica(app['id'], app['revision']).server}.sock")
        conn.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while conn.recv(4096):
            pass
    took = (time.perf_counter() - began) * 1e3
    client.call("app.sleep", key(0))
    return took


def of_a_pass() -> float:
    """The daemon's own time for one pass in which nothing changes and one answer, in milliseconds of a processor."""
    counted = Path(f"/proc/{main_process('flyted')}/schedstat")
    before = int(counted.read_text().split()[0])
    for _ in range(ROUNDS):
        client.call("app.start", key(0))
    return (int(counted.read_text().split()[0]) - before) / 1e6 / ROUNDS


def worker() -> int:
    """HAProxy's process that serves: its main process starts it."""
    main = main_process("flyted-ingress")
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    return int(children[0]) if children else main


def figures() -> dict[str, float]:
    """All of them, with the apps that are there."""
    alone, beside = [], []
    for _ in range(ROUNDS):
        alone.append(woken())
        beside.append(woken_beside_lists())
    return {
        "app ls": median_ms(ROUNDS, lambda: by_command(LIST)),
        "app ls, the daemon's part": median_ms(ROUNDS, lambda: client.call("app.list", {"project": "", "domain": ""})),
        "app get": median_ms(ROUNDS, lambda: client.call("app.get", key(0))),
        "a pass (CPU)": of_a_pass(),
        "app stop": statistics.median(stopped(lambda: by_command(STOP)) for _ in range(7)),
        "app stop, the daemon's part": statistics.median(stopped(by_verb) for _ in range(7)),
        "a wake": statistics.median(alone),
        "a wake beside three app ls": statistics.median(beside),
        "a deploy": statistics.median(deployed() for _ in range(3)),
        "RSS, MiB": rss_mib(main_process("flyted")),
        "RSS of HAProxy, MiB": rss_mib(worker()),
    }


def restarted() -> dict[str, float]:
    """From the daemon's restart to its answer, and its slowest answer in the seconds after it, in milliseconds."""

    def until_it_answers() -> None:
        subprocess.run(["systemctl", "restart", "flyted"], check=True)
        client.call("version")

    took = median_ms(1, until_it_answers)
    until, slowest = time.monotonic() + ANSWERS_S, 0.0
    while time.monotonic() < until:
        slowest = max(slowest, median_ms(1, lambda: client.call("version")))
    return {"restart": took, "slowest answer after it": slowest}


def measured(numbers: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """The figures at each number of apps that could be made in time; prints them as they come."""
    environment()
    restarted()  # what other work has left in the daemon's memory is not the apps'
    until, found = time.monotonic() + MAKING_S, {}
    for wanted in numbers:
        there = made(wanted, until)
        found[there] = {**figures(), **restarted()}
        row = "  ".join(f"{name} {value:.1f}" for name, value in found[there].items())
        print(f"      {there} apps asleep, ms: {row}", flush=True)
        if there < wanted:
            break
    return found


def forget() -> None:
    """Deletes the apps."""
    for app in client.call("app.list", {"project": PROJECT, "domain": ""})["apps"]:
        client.call("app.delete", {**{k: app[k] for k in ("project", "domain", "name")}, "keep_data": False})


def asleep(promise: Promise) -> None:
    """What is promised: one app pays next to nothing for others that sleep."""
    found = measured(NUMBERS)
    few, many, apps = found[min(found)], found[max(found)], f"{max(found)} apps asleep"
    promise("apps that were not made in time", max(NUMBERS) - max(found), 0, "")
    promise("app stop, one app", few["app stop"], 300, "ms")
    promise("the daemon's memory (RSS), one app", few["RSS, MiB"], 42, "MiB")
    promise(f"flytectl app ls, {apps}", many["app ls"], 300, "ms")
    promise(f"a pass (CPU), {apps}", many["a pass (CPU)"], 20, "ms")
    for name, most in (("app stop", 1.2), ("a deploy", 1.5)):
        note = f"{many[name]:.0f} ms / {few[name]:.0f} ms"
        promise(f"{name}, {apps} / {min(found)}", many[name] / few[name], most, "x", note)
    alone, beside = many["a wake"], many["a wake beside three app ls"]
    note = f"{beside:.0f} ms / {alone:.0f} ms"
    promise(f"a wake beside three app ls / alone, {apps}", beside / alone, 1.1, "x", note)
    promise(f"restart until it answers, {apps}", many["restart"] / 1e3, 2, "s")
    promise(f"slowest answer after it, {apps}", many["slowest answer after it"], 50, "ms")
    promise(f"the daemon's memory (RSS), {apps}", many["RSS, MiB"], 90, "MiB")
    more = (many["RSS of HAProxy, MiB"] - few["RSS of HAProxy, MiB"]) * 1024 / (max(found) - min(found))
    promise("HAProxy's memory for an app", more, 16, "KiB", f"{many['RSS of HAProxy, MiB']:.0f} MiB in all")
    forget()


if __name__ == "__main__":
    measured(tuple(int(word) for word in sys.argv[1:]) or NUMBERS)
