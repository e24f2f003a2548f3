"""What many sleeping apps cost one that is used: a pass, `app ls`, `app stop` and a wake, at several numbers of apps.

The apps are made by the daemon's own verbs, on one environment, each with a program of thirty lines; with so many of
them as are there when the time is over. By itself: ``python3 benchmarks/asleep.py 10 100 300``.
"""

from __future__ import annotations

import concurrent.futures
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.timing import median_ms
from flyted.contract import client
from flyted.contract.app import AppSpec, to_dict
from flyted.contract.names import AppKey, Replica

NUMBERS = (10, 100)
MAKING_S = 1500.0
"""For all of them together; what is not there then is left out, and said."""
PROJECT = "asleep"
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
    """One app: it starts, answers that it is ready, and goes to sleep. Whether it is there then."""
    spec = AppSpec(
        AppKey(**key(number)), ("python", str(ENVIRONMENT / "asleep.py")), {}, python_env=str(ENVIRONMENT),
        egress=False, scaledown_after_s=86400.0, memory_bytes=64 << 20, env=(("V", "value"),),
    )  # fmt: skip
    client.call("app.serve", {"spec": to_dict(spec)})
    client.call("app.sleep", key(number))
    return True


def made(wanted: int, until: float) -> int:
    """Makes apps until there are so many, or the time is over; how many there are."""
    there = len(client.call("app.list", {"project": PROJECT, "domain": ""})["apps"])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in pool.map(lambda n: time.monotonic() < until and serve(n), range(there, wanted)):
            there += bool(done)
    return there


def stopped() -> float:
    """One `app stop`, in milliseconds; the app is started again, and asleep."""
    began = time.perf_counter()
    client.call("app.stop", key(0))
    took = (time.perf_counter() - began) * 1e3
    client.call("app.start", key(0))
    client.call("app.sleep", key(0))
    return took


def woken() -> float:
    """One wake at the app's own socket, in milliseconds."""
    app = client.call("app.get", key(0))["app"]
    client.call("app.sleep", key(0))
    began = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(f"/run/flyted/apps/{Replica(app['id'], app['revision']).server}.sock")
        conn.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while conn.recv(4096):
            pass
    took = (time.perf_counter() - began) * 1e3
    client.call("app.sleep", key(0))
    return took


def daemon() -> int:
    """The daemon's process."""
    words = ["systemctl", "show", "--value", "--property=MainPID", "flyted"]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def of_a_pass() -> float:
    """The daemon's own time for one pass in which nothing changes and one answer, in milliseconds of a processor."""
    counted = Path(f"/proc/{daemon()}/schedstat")
    before = int(counted.read_text().split()[0])
    for _ in range(ROUNDS):
        client.call("app.start", key(0))
    return (int(counted.read_text().split()[0]) - before) / 1e6 / ROUNDS


def figures() -> dict[str, float]:
    """All of them, with the apps that are there."""
    return {
        "app ls": median_ms(ROUNDS, lambda: client.call("app.list", {"project": "", "domain": ""})),
        "app get": median_ms(ROUNDS, lambda: client.call("app.get", key(0))),
        "a pass (CPU)": of_a_pass(),
        "app stop": statistics.median(stopped() for _ in range(5)),
        "a wake": statistics.median(woken() for _ in range(5)),
        "serve, the next one": median_ms(1, lambda: serve(0)),
        "RSS, MiB": float(
            next(
                line.split()[1]
                for line in Path(f"/proc/{daemon()}/status").read_text().splitlines()
                if line.startswith("VmRSS")
            )
        )
        / 1024,
    }


def restarted() -> float:
    """From the daemon's restart to its answer, in milliseconds."""
    return median_ms(
        1, lambda: (subprocess.run(["systemctl", "restart", "flyted"], check=True), client.call("version"))
    )


def measured(numbers: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """The figures at each number of apps that could be made in time; prints them as they come."""
    environment()
    until, found = time.monotonic() + MAKING_S, {}
    for wanted in numbers:
        there = made(wanted, until)
        found[there] = {**figures(), "restart": restarted()}
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
    few, many = found[min(found)], found[max(found)]
    promise(f"app ls, {max(found)} apps asleep", many["app ls"], 0.3 * max(found) + 20, "ms")
    for name in ("app stop", "a wake"):
        note = f"{many[name]:.0f} ms / {few[name]:.0f} ms"
        promise(f"{name}, {max(found)} apps asleep / {min(found)}", many[name] / few[name], 1.4, "x", note)
    forget()


if __name__ == "__main__":
    measured(tuple(int(word) for word in sys.argv[1:]) or NUMBERS)
