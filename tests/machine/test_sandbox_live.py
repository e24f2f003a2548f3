"""What the units are confined to, measured on the running ones: a property lost on D-Bus is seen here."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.users import alice, answer, curl, give, serve

GATES = {"flyted.service": 1.2, "flyted-ingress.service": 0.6}
APP_GATE = 1.4
PROBE = """
import grp, json, os, pwd, socket, subprocess, time
from pathlib import Path
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

def tried(what):
    try:
        return str(what())[:200] or "done"
    except Exception as error:
        return type(error).__name__ + ": " + str(error)[:100]

def connect(family, address):
    with socket.socket(family) as s:
        s.settimeout(2)
        s.connect(address)
        return "connected"

def change():
    import sys
    sys.path.append("/usr/lib/flyted")
    from flyted.net.netlink import Netlink
    Netlink().remove("eth0")

def echo(host):
    with socket.create_server((host, 0)) as listener:
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), 5):
            return "connected"

def timed(what):
    before = time.monotonic()
    return [tried(what), time.monotonic() - before]

@app.get("/network")
def network(address: str = "", port: int = 0):
    if address == "abstract":
        return timed(lambda: connect(socket.AF_UNIX, "\\0flyted-test-abstract"))
    if address:
        answer = timed(lambda: connect(socket.AF_INET, (address, port)))
        print(f"{address}:{port}: {answer[0]}")
        return answer
    global server
    server = socket.create_server(("0.0.0.0", 8088))
    return {
        "interfaces": sorted(name for _index, name in socket.if_nameindex()),
        "loopback": tried(lambda: echo("127.0.0.1")),
        "everywhere": tried(lambda: echo("0.0.0.0")),
        "namespace": os.readlink("/proc/self/ns/net"),
    }

@app.get("/try")
async def attempts():
    unix, inet = socket.AF_UNIX, socket.AF_INET
    run = "/run/flyted"
    return {
        "control": tried(lambda: connect(unix, run + "/control.sock")),
        "credentials": tried(lambda: connect(unix, run + "/credentials.sock")),
        "admin": tried(lambda: connect(unix, run + "/admin.sock")),
        "other app": tried(lambda: connect(unix, run + "/apps/other-r1-0.sock")),
        "bus": tried(lambda: connect(unix, "/run/dbus/system_bus_socket")),
        "private bus": tried(lambda: connect(unix, "/run/systemd/private")),
        "netlink change": tried(change),
        "metadata": tried(lambda: connect(inet, ("169.254.169.254", 80))),
        "loopback": tried(lambda: connect(inet, ("127.0.0.1", 443))),
        "ingress v6": tried(lambda: connect(socket.AF_INET6, ("::1", 443))),
        "secrets": tried(lambda: os.listdir("/var/lib/flyted/secrets")),
        "certificates": tried(lambda: os.listdir("/run/flyted/certificates")),
        "ingress's certificates": tried(lambda: os.listdir("/run/credentials/flyted-ingress.service")),
        "database": tried(lambda: open("/var/lib/flyted/flyted.db").read(1)),
        "images": tried(lambda: sorted(os.listdir("/var/lib/flyted/images"))),
        "other state": tried(lambda: os.listdir("/var/lib/private")),
        "home": tried(lambda: os.listdir("/home/alice")),
        "write etc": tried(lambda: Path("/etc/x").write_text("x")),
        "write usr": tried(lambda: Path("/usr/lib/flyted/x").write_text("x")),
        "write image": tried(lambda: Path(os.environ["PATH"].split(":")[0], "x").write_text("x")),
        "processes": tried(lambda: sorted({Path(p).stat().st_uid for p in Path("/proc").glob("[0-9]*")})),
        "uid": os.getuid(),
        "user": tried(lambda: [pwd.getpwuid(os.getuid()).pw_name, subprocess.check_output(["whoami"], text=True)]),
        "group": tried(lambda: grp.getgrgid(os.getgid()).gr_name),
        "caps": [l for l in open("/proc/self/status") if l.startswith(("CapEff", "CapBnd", "NoNewPrivs"))],
        "namespace": tried(lambda: subprocess.check_output(["unshare", "-U", "true"])),
        "state": tried(lambda: Path(os.environ["HOME"], "x").write_text("x")),
        "cwd": tried(lambda: Path("x").write_text("x")),
        "subprocess": tried(lambda: subprocess.check_output(["/bin/echo", "ok"])),
        "uptime": tried(lambda: open("/proc/meminfo").read(8)),
    }

env = FastAPIAppEnvironment(
    name="probe", app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets"),
)
"""


@pytest.fixture(scope="module")
def attempts() -> Iterator[dict[str, object]]:
    """What an app tried, and what came of it; a second app is its neighbour."""
    give("other.py", PROBE.replace('name="probe"', 'name="other"'))
    serve("other.py")
    give("probe.py", PROBE)
    url = serve("probe.py")
    yield {"url": url, **json.loads(curl(f"{url}/try")[1])}
    for name in ("probe", "other"):
        alice("flytectl", "app", "delete", "--yes", "--data", name)


def exposure(unit: str) -> float:
    """systemd's score of a running unit: 0 is closed, 10 open."""
    said = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", unit], capture_output=True, text=True, check=True
    ).stdout
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert score is not None
    return float(score[1])


@pytest.mark.parametrize(("unit", "gate"), GATES.items())
def test_our_own_units_stay_below_their_gates(unit: str, gate: float) -> None:
    """The daemon is root without a capability; the ingress may bind low ports."""
    assert exposure(unit) <= gate


def test_an_app_stays_below_its_gate(attempts: dict[str, object]) -> None:
    """Scored live, as systemd has it, not as we sent it."""
    assert attempts
    unit = next(u["name"] for u in answer("app", "get", "probe")["units"] if u["name"].endswith(".service"))
    assert exposure(unit) <= APP_GATE


@pytest.mark.parametrize(
    "what",
    ["control", "credentials", "admin", "other app", "bus", "private bus", "metadata", "loopback", "ingress v6",
     "netlink change", "secrets", "certificates", "ingress's certificates", "database", "home", "write etc",
     "write usr", "write image", "namespace"],
)  # fmt: skip
def test_an_app_is_refused(attempts: dict[str, object], what: str) -> None:
    """Each socket that is not its own is closed."""
    said = str(attempts[what])
    assert re.match(
        r"(PermissionError|FileNotFoundError|OSError|ConnectionRefusedError|CalledProcessError|Failed): ", said
    ), said


def test_what_an_app_is_refused_is_there() -> None:
    """Keys of certificates lie where an app has looked for them."""
    for place in ("/run/flyted/certificates", "/run/credentials/flyted-ingress.service", "/var/lib/flyted/secrets"):
        assert Path(place).is_dir(), place


def test_an_app_sees_only_what_is_its_own(attempts: dict[str, object]) -> None:
    """One image, its own processes, no capability, no new privilege."""
    assert str(attempts["images"]).count(",") == 0
    assert attempts["other state"] == "['flyted-app-probe']"
    assert attempts["processes"] == str([attempts["uid"]])
    caps = " ".join(attempts["caps"])  # type: ignore[arg-type]
    assert re.search(r"CapEff:\s0+\s", caps)
    assert re.search(r"CapBnd:\s0+\s", caps)
    assert re.search(r"NoNewPrivs:\s1", caps)


def test_an_app_can_do_its_work(attempts: dict[str, object]) -> None:
    """Its state, its working folder, subprocesses and /proc/meminfo (psutil, torch) are there."""
    assert (attempts["user"], attempts["group"]) == (r"['fa-probe', 'fa-probe\n']", "fa-probe")
    for what in ("state", "cwd"):
        assert attempts[what] == "1"
    assert "ok" in str(attempts["subprocess"])
    assert str(attempts["uptime"]).startswith("MemTotal")


def test_an_app_on_an_inherited_socket_has_a_network_of_its_own(attempts: dict[str, object]) -> None:
    """Its loopback and its ports are its own and stay so over a sleep, and it may list its interfaces."""
    url = str(attempts["url"])
    found = [json.loads(curl(f"{url}/network")[1])]
    assert ":8088 " not in subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    alice("flytectl", "app", "sleep", "probe")
    found.append(json.loads(curl(f"{url}/network")[1]))
    assert found[0] == found[1]
    assert found[0]["namespace"] != str(Path("/proc/1/ns/net").readlink())
    assert (found[0]["interfaces"], found[0]["loopback"], found[0]["everywhere"]) == (
        ["eth0", "lo"],
        *["connected"] * 2,
    )


def test_what_is_closed_to_an_app_is_refused_at_once(attempts: dict[str, object]) -> None:
    """What listens on the machine's loopback, or as an abstract socket of root's, is not there."""
    alice("flytectl", "app", "sleep", "probe")  # each start says it once
    words = ("localhost is the app's own here", "metadata services are closed to apps")
    before = [printed().count(each) for each in words]
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0flyted-test-abstract")
        abstract.listen()
        port = listener.getsockname()[1]
        tried = {"abstract": "ConnectionRefused", "127.0.0.1": "ConnectionRefused", "169.254.169.254": "Permission"}
        for address, error in tried.items():
            said, took_s = json.loads(curl(f"{attempts['url']}/network?address={address}&port={port}")[1])
            assert said.startswith(error), address
            assert took_s < 1.5, address
    assert [printed().count(each) for each in words] == [times + 1 for times in before]


def printed() -> str:
    """The app's log."""
    return alice("flytectl", "logs", "probe", "-n", "10000").stdout
