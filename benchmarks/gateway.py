"""What the gateway costs: its memory, its cold start, and what it adds to the stock `flyte serve`."""

from __future__ import annotations

import http.client
import shutil
import ssl
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import rss_mib
from tests.machine.kit.pypi_flyte import prepare, stock
from tests.machine.kit.users import EXAMPLES, alice, answer, give

UNIT = "flyted-gateway.service"
STANDIN = 8765
Promise = Callable[..., None]


def show(name: str) -> str:
    """A property of the gateway's unit."""
    command = ["systemctl", "show", "--value", f"--property={name}", UNIT]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def call(token: str, tls: ssl.SSLContext) -> None:
    """One RPC through the ingress, on a connection of its own."""
    connection = http.client.HTTPSConnection("flyted.localhost", context=tls)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", "/flyteidl2.secret.SecretService/ListSecrets", "{}", headers)
    assert connection.getresponse().status == 200
    connection.close()


def cold(token: str, tls: ssl.SSLContext) -> float:
    """From nothing to the first answer, in milliseconds."""
    subprocess.run(["systemctl", "stop", UNIT], check=True, capture_output=True)
    began = time.perf_counter()
    call(token, tls)
    return (time.perf_counter() - began) * 1e3


def serve(folder: str) -> float:
    """Seconds of one `flyte serve` in a folder whose config.yaml says where to."""
    began = time.perf_counter()
    done = stock("sh", "-c", f"cd {folder} && flyte serve basic_auth.py env")
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - began


def folders() -> tuple[str, str]:
    """Two folders with the same app: one talks to flyted, one to the stand-in."""
    prepare()
    ours, theirs = "/home/alice/serve-flyted", "/home/alice/serve-standin"
    config = Path("/home/alice/stock/config.yaml").read_text()
    plain = (
        f"admin:\n  endpoint: 127.0.0.1:{STANDIN}\n  insecure: true\n"
        "task: {org: local, project: default, domain: development}\nimage: {builder: remote}\n"
    )
    for folder, text in ((ours, config), (theirs, plain)):
        give(f"{Path(folder).name}/config.yaml", text)
        shutil.copyfile(EXAMPLES / "basic_auth.py", Path(folder, "basic_auth.py"))
    return ours, theirs


def gateway(promise: Promise) -> None:
    """All figures of the gateway."""
    token = alice("flytectl", "token").stdout.strip()
    tls = ssl.create_default_context(cadata=answer("ca", "show")["pem"])
    starts = statistics.median(cold(token, tls) for _ in range(7))
    began = time.perf_counter()
    for _ in range(20):
        call(token, tls)
    warm = (time.perf_counter() - began) / 20 * 1e3
    promise("cold start of the gateway, with its answer", starts, 1500, "ms", f"warm: {warm:.0f} ms")
    ours, theirs = folders()
    standin = subprocess.Popen(["/usr/bin/python3", str(Path(__file__).parent / "standin.py"), str(STANDIN)])
    try:
        serve(ours), serve(theirs)
        pairs = [(serve(ours), serve(theirs)) for _ in range(7)]
    finally:
        standin.kill()
        standin.wait()
    mine, bare = (min(side) for side in zip(*pairs, strict=True))  # what else runs here only ever adds
    promise("flyte serve / the same to a stand-in", mine / bare, 1.3, "x", f"{mine:.2f} s / {bare:.2f} s")
    promise("the gateway's memory (RSS)", rss_mib(int(show("MainPID"))), 64, "MiB", "after all of this")
