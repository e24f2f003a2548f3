"""What a port of its own costs a program: a wake, a request, memory, and the egress."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.machine.kit.programs import do, inside, port_server, processes, serve, unit
from tests.machine.kit.users import alice

APP = "figure-port"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ROUNDS, WAKES = 600, 7
CONNECTS = """
import socket, time
taken = []
for _ in range(300):
    began = time.perf_counter()
    socket.create_connection(({host!r}, {port}), 5).close()
    taken.append(time.perf_counter() - began)
result = sorted(taken)
"""
Promise = Callable[..., None]


def ask(family: int, address: str | tuple[str, int]) -> float:
    """One request on a connection of its own, in microseconds."""
    began = time.perf_counter()
    with socket.socket(family) as conn:
        conn.settimeout(30)
        conn.connect(address)
        conn.sendall(REQUEST)
        while conn.recv(4096):
            pass
    return (time.perf_counter() - began) * 1e6


def spread(taken: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def requests(path: str, pid: int) -> tuple[list[float], list[float]]:
    """The same request through the proxy and straight to the port, in turns."""
    proxied, direct = [], []
    for _ in range(ROUNDS):
        proxied.append(ask(socket.AF_UNIX, path))
        with inside(pid):
            direct.append(ask(socket.AF_INET, ("127.0.0.1", 8080)))
    return proxied, direct


def plain_start(python: str) -> float:
    """The program alone, from nothing to its first answer, in milliseconds."""
    began = time.perf_counter()
    with subprocess.Popen([python, "/home/alice/port_server.py", "--port", "18080"]) as process:
        while True:
            with contextlib.suppress(OSError):
                ask(socket.AF_INET, ("127.0.0.1", 18080))
                break
            time.sleep(0.002)
        taken = time.perf_counter() - began
        process.kill()
    return taken * 1e3


def wake(path: str) -> float:
    """From asleep to the first answer, in milliseconds."""
    alice("flytectl", "app", "sleep", APP)
    return ask(socket.AF_UNIX, path) / 1e3


def pss(pid: int) -> float:
    """A process's share of memory, in MiB."""
    line = next(x for x in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if x.startswith("Pss:"))
    return int(line.split()[1]) / 1024


def egress(url: str, promise: Promise) -> None:
    """Connecting to another machine, here a listener on this one's outer address."""
    address = subprocess.run(["hostname", "-I"], check=True, capture_output=True, text=True).stdout.split()[0]
    with socket.create_server((address, 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        source = CONNECTS.format(host=address, port=port)
        through = [float(x) * 1e6 for x in do(url, source).strip("[]").split(",")]
        names: dict[str, list[float]] = {}
        exec(source, names)
        own = [x * 1e6 for x in names["result"]]
    promise("egress: TCP connect, p50", spread(through)[0], 20 * spread(own)[0], "µs", f"own: {spread(own)[0]:.0f} µs")
    router = subprocess.run(
        ["systemctl", "show", "--value", "--property=ControlGroup", "flyted-net.service"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    pids = Path(f"/sys/fs/cgroup{router.stdout.strip()}/cgroup.procs").read_text().split()
    promise("egress: memory, once for all apps", sum(pss(int(pid)) for pid in pids), 24, "MiB")


def ports(promise: Promise) -> None:
    """All of it."""
    url = serve(APP, port_server())
    service = unit(APP)
    path = f"/run/flyted/apps/{service.removeprefix('flyted-app-').removesuffix('.service')}.sock"
    running = processes(service)
    proxy = next(pid for pid, line in running.items() if "socket-proxyd" in line)
    proxied, direct = requests(path, proxy)
    (p50, p99), (own50, own99) = spread(proxied), spread(direct)
    promise(
        "a request through the proxy, p50", p50, own50 + 1500, "µs", f"straight: {own50:.0f} µs, x{p50 / own50:.2f}"
    )
    promise(
        "a request through the proxy, p99", p99, own99 + 6000, "µs", f"straight: {own99:.0f} µs, x{p99 / own99:.2f}"
    )
    launch = min(running)
    promise("memory beside the program", pss(launch) + pss(proxy), 16, "MiB", f"proxy: {pss(proxy):.1f} MiB")
    python = str(Path(f"/proc/{launch}/exe").readlink())
    alone = statistics.median(plain_start(python) for _ in range(WAKES))
    awake = statistics.median(wake(path) for _ in range(WAKES))
    promise("a wake to the first answer", awake, 3 * alone + 400, "ms", f"the program alone: {alone:.0f} ms")
    egress(url, promise)
    alice("flytectl", "app", "delete", "--yes", APP)
