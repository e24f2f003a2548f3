"""Apps survive the end of the egress unit, which is restarted."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.net import plan
from tests.machine.kit.apps import Load, state
from tests.machine.kit.programs import do, inside, listening, port_server, processes, reach, serve, unit
from tests.machine.kit.users import alice, curl, forget_apps, until

EGRESS_UNIT = "flyted-net.service"
OUTER, METADATA = "192.0.2.9", "169.254.169.254"  # a documentation address (RFC 5737), and one that is closed to apps
ATTACK = """
import socket, sys, threading, time
def attack(target):
    while sys.attacking:
        try:
            with socket.create_connection(target, 1):
                sys.reached.add(target)
        except OSError:
            time.sleep(0.001)
sys.reached, sys.attacking = set(), True
for target in {targets!r}:
    threading.Thread(target=attack, args=(target,), daemon=True).start()
"""
TO_ITSELF = """
import socket, sys
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.connect(("192.0.2.9", 9))
listener = socket.create_server((own.getsockname()[0], 0))
sys.near = socket.create_connection(listener.getsockname())
sys.far = listener.accept()[0]
result = own.getsockname()[0]
"""
STILL = "import sys\nsys.near.settimeout(60)\nsys.far.sendall(b'still here')\nresult = sys.near.recv(10)"
UPLOADS = """
import fcntl, socket, threading, time
data, result = b"x" * 8_000_000, 0
for _ in range(30):
    with socket.create_connection(({host!r}, {port}), 10) as conn:
        sending = threading.Thread(target=conn.sendall, args=(data,))
        sending.start()
        before, since = b"", 0.0
        while (left := fcntl.ioctl(conn, 0x5411, bytes(4))) != bytes(4) or sending.is_alive():  # SIOCOUTQ, tcp(7)
            if left != before:
                result += before != b"" and 0.19 < time.monotonic() - since < 0.3
                before, since = left, time.monotonic()
            time.sleep(0.01)
"""
ADDRESS = "import socket\ns = socket.socket(2, 2)\ns.connect(('192.0.2.9', 9))\nresult = s.getsockname()[0]"


def systemctl(*words: str) -> str:
    """systemctl's answer; it must work."""
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True).stdout.strip()


def kill() -> None:
    """slirp4netns and the router, at once; when it has been noticed."""
    before = main_pid()
    systemctl("kill", "--signal=KILL", EGRESS_UNIT)
    until(lambda: main_pid() != before)


def main_pid() -> str:
    """The egress process, "0" for none."""
    return systemctl("show", "--value", "--property=MainPID", EGRESS_UNIT)


def up() -> bool:
    """True if egress is up and reports it."""
    return systemctl("show", "--value", "--property=SubState", EGRESS_UNIT) == "running"


@pytest.fixture(scope="module", autouse=True)
def _addresses() -> Iterator[None]:
    for address in (OUTER, METADATA):
        subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
    yield
    for address in (OUTER, METADATA):
        subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)
    forget_apps("way-out")


@pytest.fixture(scope="module")
def outside(_addresses: None) -> Iterator[int]:
    """Where apps may connect to: the port of a listener on one of the machine's outer addresses."""
    with listening(OUTER) as port:
        yield port


@pytest.fixture(scope="module")
def url() -> str:
    """An app that does what it is told."""
    return serve("way-out", port_server("--host", "0.0.0.0"))


def connects(url: str, port: int) -> bool:
    """Whether the app can connect to the outside."""
    return reach(url, OUTER, port) == "'connected'"


def test_ten_deaths_of_the_way_out_lose_no_request(url: str, outside: int) -> None:
    """The same process answers all the time, and then connects out again, from the address that it had."""
    assert connects(url, outside)
    before, address = processes(unit("way-out")), do(url, ADDRESS)
    starts = int(systemctl("show", "--value", "--property=NRestarts", EGRESS_UNIT))

    async def deaths() -> None:
        for _ in range(10):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(kill)
            await asyncio.to_thread(until, up)

    assert set(asyncio.run(Load(url, rate=50).during(0, deaths()))) == {"200"}
    until(lambda: connects(url, outside))
    assert int(systemctl("show", "--value", "--property=NRestarts", EGRESS_UNIT)) == starts + 10
    assert processes(unit("way-out")).keys() == before.keys()
    assert do(url, ADDRESS) == address


def test_what_an_app_sends_to_itself_is_not_cut_off(url: str) -> None:
    """On its own address, as parts of one engine do: no veth pair is in that way."""
    address = do(url, TO_ITSELF).strip("'")
    kill()
    assert do(url, STILL) == "b'still here'"
    until(up)
    assert do(url, STILL) == "b'still here'"
    assert address.startswith("198.18.")


def test_a_restart_is_no_more_than_that(url: str, outside: int) -> None:
    """As an upgrade of slirp4netns makes it. A stop comes to the same, as long as somebody needs it."""
    before, network = processes(unit("way-out")), unit("way-out").replace("flyted-app-", "flyted-net@")
    systemctl("restart", EGRESS_UNIT)
    until(lambda: connects(url, outside))
    for _ in range(5):
        systemctl("stop", EGRESS_UNIT)
        until(lambda: connects(url, outside))
        assert systemctl("show", "--value", "--property=NRestarts", network) == "0", "it found no router"
    assert processes(unit("way-out")).keys() == before.keys()


def running(program: str) -> set[int]:
    """The processes of egress that run a program, perhaps none."""
    found = set()
    for pid in processes(EGRESS_UNIT):
        with contextlib.suppress(OSError):  # it has just ended
            found |= {pid} if Path(f"/proc/{pid}/comm").read_text().strip() == program else set()
    return found


@pytest.mark.parametrize("program", ["slirp4netns", "sleep"])
def test_either_of_its_processes_may_die_alone(url: str, outside: int, program: str) -> None:
    """The one that carries, and the one that holds the router's namespace."""
    until(lambda: up() and bool(running(program)))
    before = running(program)
    subprocess.run(["kill", "-KILL", *map(str, before)], check=True)
    until(lambda: up() and bool(running(program) - before))
    until(lambda: connects(url, outside))


def test_a_sleeping_app_wakes_into_it(url: str, outside: int) -> None:
    """Whenever it died: long before the request, or just then."""
    alice("flytectl", "app", "sleep", "way-out")
    kill()
    assert connects(url, outside)
    alice("flytectl", "app", "sleep", "way-out")
    kill()
    until(up)
    assert connects(url, outside)
    assert state("way-out") == "running"


def test_uploads_do_not_stall(url: str) -> None:
    """To a server that is slower than the app: nobody waits 0.2 s until he asks for room."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 30000)
        listener.bind((OUTER, 0))
        listener.listen()
        threading.Thread(target=swallow, args=(listener,), daemon=True).start()
        assert int(do(url, UPLOADS.format(host=OUTER, port=listener.getsockname()[1]))) < 10
        listener.shutdown(socket.SHUT_RDWR)


def swallow(listener: socket.socket) -> None:
    """Takes what comes, bit by bit, one connection after the other."""
    with contextlib.suppress(OSError):
        while True:
            with listener.accept()[0] as conn:
                while conn.recv(16384):
                    time.sleep(0.0002)


def test_what_is_closed_stays_closed_meanwhile(url: str) -> None:
    """The app tries all the time, while egress is killed and restarted; the machine itself gets there."""
    neighbour = do(serve("way-out-neighbour", port_server("--host", "0.0.0.0")), ADDRESS).strip("'")
    with listening(METADATA, 80):
        socket.create_connection((METADATA, 80), 5).close()
        targets = [(METADATA, 80), (neighbour, 8080), (plan.ROUTER, 80), ("198.19.0.2", 80)]
        do(url, ATTACK.format(targets=targets))
        for _ in range(5):
            kill()
            until(up)
        until(lambda: do(url, ADDRESS).startswith("'198.18."))
        assert ast.literal_eval(do(url, "import sys\nsys.attacking = False\nresult = sorted(sys.reached)")) == []


def test_the_network_is_not_the_apps_to_change(url: str) -> None:
    """Also where the app was there before its veth pair: who made the namespace does not matter."""
    change = "import sys\nsys.path.append('/usr/lib/flyted')\nfrom flyted.net.netlink import Netlink\nNetlink().{}"
    alice("flytectl", "app", "sleep", "way-out")
    systemctl("stop", unit("way-out").replace("flyted-app-", "flyted-net@"))
    for request in ("remove('eth0')", "address('eth0', '198.18.3.3', 32)", "route('198.18.3.3', 32, link='eth0')"):
        assert "Operation not permitted" in do(url, change.format(request))
    pid = min(processes(unit("way-out")))
    with inside(pid):
        links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    assert sorted(line.split("@")[0].split()[0] for line in links.splitlines()) == ["eth0", "lo"]


def test_a_deploy_waits_for_a_way_out_that_comes_late(outside: int) -> None:
    """The app's own code does not begin before."""
    forget_apps("way-out-late")
    kill()
    url = serve("way-out-late", port_server())
    assert connects(url, outside)
    assert curl(url)[0] == 200
