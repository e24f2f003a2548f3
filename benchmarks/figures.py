"""The promised figures, measured on the installed package in a booted machine, each beside what it is compared with.

Ratios of medians from one run: the machine's speed cancels out. Run by ``benchmarks/run``; exits 1 when a promise
is broken.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.asleep import asleep
from benchmarks.certificates import certificates
from benchmarks.domains import domains
from benchmarks.files import files
from benchmarks.gateway import gateway
from benchmarks.gpu import gpu
from benchmarks.images import images
from benchmarks.llama import llama
from benchmarks.ports import ports
from benchmarks.processes import main_process, rss_mib
from benchmarks.replicas import replicas
from benchmarks.roots import roots
from benchmarks.timing import median_ms
from tests.machine.kit.users import alice, answer, environment, give, may_serve

QUIET_S = 600
QUIET_TRIES = 3
KEY = "my-secret-api-key-12345"
HOST = "authenticated-api.apps.localhost"
broken: list[str] = []


def promise(name: str, measured: float, bound: float, unit: str, note: str = "") -> None:
    """One line of the report."""
    kept = measured <= bound
    print(f"{'ok  ' if kept else 'MISS'}  {name:<44} {measured:8.2f} {unit:<4} (at most {bound:.2f}) {note}")
    if not kept:
        broken.append(name)


def user(*words: str) -> None:
    """A command as alice, without the cost of becoming her in the way of what is measured."""
    subprocess.run(words, check=True, capture_output=True, env=environment("alice"), user="alice", cwd="/home/alice",
                   extra_groups=["flyted"])  # fmt: skip


def command_line() -> None:
    """`--help` and `app ls` against an empty Python, in turns: other load hits all alike."""
    commands = [
        ("/usr/bin/python3", "-c", "pass"),
        ("/usr/bin/flytectl", "--help"),
        ("/usr/bin/flytectl", "app", "ls"),
    ]
    rounds = [[median_ms(1, partial(user, *words)) for words in commands] for _ in range(21)]
    empty, shown, listed = (statistics.median(column) for column in zip(*rounds, strict=True))
    promise("flytectl --help", shown, 1.5 * empty + 60, "ms", f"python3 -c pass: {empty:.1f} ms")
    promise("flytectl app ls", listed, 1.5 * empty + 95, "ms")
    promise(
        "flytectl serve, the same file again",
        median_ms(5, lambda: user("/usr/bin/flytectl", "serve", "-q", "basic_auth.py")) / 1e3,
        3,
        "s",
    )


class UnixConnection(http.client.HTTPConnection):
    """HTTP straight to an app's socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def through_ingress() -> http.client.HTTPSConnection:
    """HTTPS as a client does it."""
    tls = ssl.create_default_context(cadata=answer("ca", "show")["pem"])
    return http.client.HTTPSConnection(HOST, context=tls)


def get(connection: http.client.HTTPConnection) -> None:
    """One request."""
    connection.request("GET", "/public")
    response = connection.getresponse()
    response.read()
    assert response.status == 200


def bare_start(image: str, folder: str) -> float:
    """From nothing to the first answer of the same app under plain uvicorn, in milliseconds."""
    path = "/tmp/bare.sock"
    Path(path).unlink(missing_ok=True)
    began = time.perf_counter()
    process = subprocess.Popen(
        [f"{image}/bin/python", "-m", "uvicorn", "--uds", path, "basic_auth:app", "--log-level", "warning"],
        cwd=folder, env={"API_KEY": KEY, "PATH": "/usr/bin:/bin", "DO_NOT_TRACK": "1"},
    )  # fmt: skip
    try:
        while True:
            try:
                get(UnixConnection(path))
                return (time.perf_counter() - began) * 1e3
            except OSError:
                time.sleep(0.002)
    finally:
        process.kill()
        process.wait()


def wake() -> float:
    """From asleep to the first answer through the ingress, in milliseconds."""
    user("/usr/bin/flytectl", "app", "sleep", "authenticated-api")
    connection = through_ingress()
    began = time.perf_counter()
    get(connection)
    return (time.perf_counter() - began) * 1e3


def waking() -> None:
    """A cold wake against a bare start, in turns."""
    image = answer("app", "get", "authenticated-api")["image"]["path"]
    folder = next(str(p) for p in Path("/var/lib/private/flyted-app-authenticated-api/code").iterdir() if p.is_dir())
    bare, ours = [], []
    for _ in range(7):
        bare.append(bare_start(image, folder))
        ours.append(wake())
    promise(
        "cold wake / bare uvicorn", statistics.median(ours) / statistics.median(bare), 1.4, "x",
        f"{statistics.median(ours):.0f} ms / {statistics.median(bare):.0f} ms",
    )  # fmt: skip


def stopping() -> None:
    """`app stop` of an app that is awake."""
    took = []
    for _ in range(7):
        get(through_ingress())
        took.append(median_ms(1, lambda: user("/usr/bin/flytectl", "app", "stop", "authenticated-api")))
        user("/usr/bin/flytectl", "app", "start", "authenticated-api")
    promise("flytectl app stop, FastAPI awake", statistics.median(took), 300, "ms")


def ingress() -> None:
    """What HTTPS and HAProxy add to a request on a warm connection."""
    unit = next(u["name"] for u in answer("app", "get", "authenticated-api")["units"] if u["name"].endswith(".socket"))
    path = f"/run/flyted/apps/{unit.removeprefix('flyted-app-').removesuffix('.socket')}.sock"
    secure, plain = through_ingress(), UnixConnection(path)
    get(secure)
    get(plain)
    with_ingress, direct = [], []
    for _ in range(500):
        with_ingress.append(median_ms(1, lambda: get(secure)))
        direct.append(median_ms(1, lambda: get(plain)))
    added = statistics.median(with_ingress) - statistics.median(direct)
    promise(
        "the ingress adds (p50)",
        added,
        1,
        "ms",
        f"{statistics.median(with_ingress):.2f} / {statistics.median(direct):.2f} ms",
    )


def memory() -> None:
    """The daemon's, after all the work of the figures before."""
    promise("the daemon's memory (RSS)", rss_mib(main_process("flyted")), 45, "MiB")


def quiet() -> None:
    """System calls while nothing happens, with tokens, and after the GPUs were listed.

    systemd tells flyted of each unit that starts, so the distribution's own timers are stopped.
    """
    subprocess.run(["systemctl", "stop", "*.timer"], check=True)
    user("/usr/bin/flytectl", "app", "sleep", "authenticated-api")
    for name in ("quiet", "quieter"):
        user("/usr/bin/flytectl", "token", "create", "--name", name)
    time.sleep(30)  # the helper for GPUs leaves, and the table of tokens is looked at once more
    for _ in range(QUIET_TRIES):
        calls = system_calls(main_process("flyted"))
        if not any("ECANCELED" in call for call in calls):
            break
        print("      the machine's clock was set, which the daemon has to notice: once more", flush=True)
    promise(f"system calls in {QUIET_S} quiet seconds, with tokens", len(calls), 0, "", "".join(calls[:3]))
    for name in ("quiet", "quieter"):
        user("/usr/bin/flytectl", "token", "revoke", name)


def system_calls(pid: int) -> list[str]:
    """The system calls of a process that ended in the next ten minutes; a thread may have waited since before."""
    words = ["timeout", "-s", "INT", str(QUIET_S), "strace", "-f", "-p", str(pid), "-o", "/tmp/strace"]
    trace = subprocess.run(words, capture_output=True, check=False)
    assert trace.returncode in (0, 124, 130), trace.stderr
    return [line for line in Path("/tmp/strace").read_text().splitlines() if ") = " in line and "= ?" not in line]


def main() -> int:
    """All figures; 1 if a promise is broken."""
    may_serve()
    alice("flytectl", "secret", "create", "API_KEY", KEY, "--replace")
    give("basic_auth.py")
    alice("flytectl", "serve", "-q", "basic_auth.py")
    command_line()
    ingress()
    waking()
    stopping()
    images(promise)
    roots(promise)
    gateway(promise)
    ports(promise)
    replicas(promise)
    domains(promise)
    certificates(promise)
    files(promise)
    llama(promise)
    memory()
    asleep(promise)
    gpu(promise)
    quiet()
    print(json.dumps({"broken": broken}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
