"""The network of a program with a port of its own: out works, in works, and nothing else does."""

from __future__ import annotations

import ast
import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.net import plan
from tests.machine.kit.programs import do, listening, port_server, processes, reach, serve, unit, write
from tests.machine.kit.users import alice, answer, by, curl, forget_apps, serving, until

# a pretend internet: one other machine, on documentation addresses (RFC 5737), with a metadata service beside it
OUTSIDE, HOST, GATEWAY, METADATA = "203.0.113.7", "192.0.2.130", "192.0.2.129", "169.254.169.254"
PORT = 80
ANSWERS = """
import socket, threading
def serve(address):
    with socket.create_server((address, 80)) as listener:
        while True:
            conn, peer = listener.accept()
            with conn:
                conn.sendall(("hello " + peer[0]).encode())
for address in {addresses}:
    threading.Thread(target=serve, args=(address,)).start()
"""
STUB = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("127.0.0.53", 53))
    while True:
        query, peer = s.recvfrom(512)
        end = query.index(b"\\0", 12) + 5
        is_a = query[end - 4:end - 2] == b"\\0\\1"
        record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton("203.0.113.7")
        head = query[:2] + b"\\x81\\x80\\0\\1" + (b"\\0\\1" if is_a else b"\\0\\0") + b"\\0\\0\\0\\0"
        s.sendto(head + query[12:end] + (record if is_a else b""), peer)
"""


def sh(command: str) -> str:
    """A command that must work; its output."""
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def transient(name: str, source: str, *options: str) -> Iterator[None]:
    """Python source as a unit, while a test runs."""
    subprocess.run(
        ["systemd-run", "--quiet", "--collect", f"--unit={name}", *options, "/usr/bin/python3", "-c", source],
        check=True,
    )
    try:
        yield
    finally:
        subprocess.run(["systemctl", "stop", name], check=False)


@pytest.fixture(scope="module", autouse=True)
def _internet() -> Iterator[None]:
    sh(
        f"ip netns add internet; ip link add host0 type veth peer name far0 netns internet;"
        f"ip addr add {HOST}/30 dev host0; ip link set host0 up;"
        f"ip -n internet addr add {GATEWAY}/30 dev far0; ip -n internet addr add {OUTSIDE}/32 dev far0;"
        f"ip -n internet addr add {METADATA}/32 dev far0;"
        f"ip -n internet link set far0 up; ip -n internet link set lo up;"
        f"ip route add {OUTSIDE}/32 via {GATEWAY}; ip route add {METADATA}/32 via {GATEWAY}"
    )
    where = "--property=NetworkNamespacePath=/run/netns/internet"
    try:
        with transient("test-internet", ANSWERS.format(addresses=[OUTSIDE, METADATA]), where):
            yield
    finally:
        sh("ip netns del internet; ip link del host0 2>/dev/null || true")
        forget_apps("net-")


@pytest.fixture(scope="module")
def url() -> str:
    """An app that does what it is told."""
    return serve("net-attacker", port_server("--host", "0.0.0.0"))


@pytest.fixture(scope="module")
def neighbour() -> str:
    """Another one; its IPv4 address."""
    other = serve("net-neighbour", port_server("--host", "::"))
    return own_address(other)


def own_address(url: str) -> str:
    """The address that an app has in its network."""
    source = "import socket\ns = socket.socket(2, 2)\ns.connect(('203.0.113.7', 9))\nresult = s.getsockname()[0]"
    return do(url, source).strip("'")


def test_it_reaches_the_outside_as_the_machine(url: str) -> None:
    """By TCP, seen as a connection of the machine's own."""
    source = (
        f"import socket\nwith socket.create_connection(({OUTSIDE!r}, {PORT}), 5) as c: result = c.recv(99).decode()"
    )
    assert do(url, source) == repr(f"hello {HOST}")


def test_the_machine_need_not_forward_and_may_forbid_it(url: str) -> None:
    """As Docker, ufw and firewalld do: a drop of all that is forwarded changes nothing here."""
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0"
    sh("nft add table inet strict;nft 'add chain inet strict f { type filter hook forward priority 0; policy drop; }'")
    try:
        assert reach(url, OUTSIDE, PORT) == "'connected'"
    finally:
        sh("nft delete table inet strict")
    assert sh("nft list tables").strip() == ""
    assert "veth" not in sh("ip -brief link show type veth | grep -v host0 || true")


def test_nothing_of_it_listens_on_the_machine(url: str) -> None:
    """Neither slirp4netns nor the app."""
    assert curl(url)[0] == 200
    pids = {*processes("flyted-net.service"), *processes(unit("net-attacker"))}
    shown = sh("ss -Hlntup")
    assert not [pid for pid in pids if f"pid={pid}," in shown], shown


def test_the_machines_loopback_is_not_reached(url: str) -> None:
    """Under none of its names; 127.0.0.1 is the app's own."""
    with listening("127.0.0.1") as port:
        for address in (
            "127.0.0.1",
            "0.0.0.0",
            "127.0.0.2",
            HOST,
            plan.ROUTER,
            "198.19.0.2",
            plan.RESOLVER,
            "198.19.0.100",
            GATEWAY,
        ):
            assert reach(url, address, port) != "'connected'", address
    with listening("::1") as port:
        for address in ("::1", "::ffff:127.0.0.1", "fe80::1%eth0"):
            assert reach(url, address, port) != "'connected'", address


def test_what_is_closed_is_refused_and_does_not_hang(url: str, neighbour: str) -> None:
    """Within the call, by each way of saying it."""
    ways = {
        METADATA: "PermissionError", f"::ffff:{METADATA}": "PermissionError", "168.63.129.16": "PermissionError",
        neighbour: "PermissionError", "198.19.0.2": "PermissionError", "127.0.0.53": "ConnectionRefusedError",
        plan.ROUTER: "OSError(113", "fd00:ec2::254": "OSError(101", "2001:db8::1": "OSError(101",
    }  # fmt: skip
    source = (
        "import socket, time\nresult = {}\n"
        f"for host in {list(ways)!r}:\n"
        "    before = time.monotonic()\n"
        "    try:\n        socket.create_connection((host, 80), 10).close()\n        said = 'connected'\n"
        "    except OSError as error:\n        said = repr(error)\n"
        "    result[host] = said, time.monotonic() - before"
    )
    for host, (said, took_s) in ast.literal_eval(do(url, source)).items():
        assert said.startswith(ways[host]), (host, said)
        assert took_s < 2, (host, took_s)


def test_metadata_services_are_not_reached(url: str) -> None:
    """Not even where the machine itself reaches one."""
    with socket.create_connection((METADATA, PORT), 5):
        pass
    for address in (METADATA, f"::ffff:{METADATA}"):
        assert reach(url, address, PORT) != "'connected'"


def test_no_app_reaches_another(url: str, neighbour: str) -> None:
    """By no address of it."""
    for address in (neighbour, f"::ffff:{neighbour}"):
        assert reach(url, address, 8080) != "'connected'", address
    assert neighbour != own_address(url)
    assert curl(answer("app", "get", "net-neighbour")["url"])[0] == 200


def test_the_neighbours_address_is_not_to_be_had(url: str, neighbour: str) -> None:
    """An app may not set addresses, send frames of its own making, or speak from another's address."""
    raw = "import socket\nresult = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
    assert "Error" in do(url, raw)
    assert "Error" in do(url, "import socket\nresult = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)")
    change = "import sys\nsys.path.append('/usr/lib/flyted')\nfrom flyted.net.netlink import Netlink\nNetlink().{}"
    for request in (f"address('eth0', {neighbour!r}, 32)", "remove('eth0')", f"route({neighbour!r}, 32, link='eth0')"):
        assert "Operation not permitted" in do(url, change.format(request))
    spoof = (
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_STREAM)\ns.settimeout(3)\n"
        f"s.setsockopt(socket.IPPROTO_IP, 15, 1)\ns.bind(({neighbour!r}, 0))\n"
        f"s.connect(({OUTSIDE!r}, {PORT}))\nresult = 'connected'"
    )
    assert do(url, spoof) != "'connected'"


@pytest.mark.usefixtures("neighbour")
def test_its_tmp_and_ipc_are_its_own(url: str) -> None:
    """With the network it takes over the other namespaces that were made with it: they have to be private there."""
    apps = (url, url.replace("net-attacker", "net-neighbour"))
    for folder in ("/tmp", "/var/tmp"):
        for app in apps:
            source = f"import os; open('{folder}/whose', 'x').close(); result = os.listdir('{folder}')"
            assert do(app, source) == "['whose']"
        assert not Path(folder, "whose").exists()
    spaces = {do(app, "import os; result = os.readlink('/proc/self/ns/ipc')").strip("'") for app in apps}
    assert len(spaces | {str(Path("/proc/1/ns/ipc").readlink())}) == 3


def test_abstract_sockets_do_not_cross(url: str) -> None:
    """They belong to the network namespace."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0flyted-test-abstract")
        listener.listen()
        connect = "s.connect('\\0flyted-test-abstract')\nresult = 'connected'"
        assert "ConnectionRefusedError" in do(url, f"import socket\ns = socket.socket(socket.AF_UNIX)\n{connect}")


def test_other_apps_sockets_are_not_reached_either(url: str) -> None:
    """Of the folder of sockets an app sees nothing."""
    source = "import os\nresult = os.listdir('/run/flyted/apps')"
    assert "FileNotFoundError" in do(url, source)


def test_names_are_resolved_where_the_resolver_is_on_the_loopback() -> None:
    """systemd-resolved's 127.0.0.53: slirp4netns asks it in the app's name."""
    before = Path("/etc/resolv.conf").read_text()
    Path("/etc/resolv.conf").write_text("nameserver 127.0.0.53\n")
    try:
        with transient("test-stub", STUB):
            sh("systemctl restart flyted; systemctl try-restart flyted-net.service")
            url = serve("net-names", port_server())
            assert do(url, "import socket\nresult = socket.gethostbyname('example.test')") == repr(OUTSIDE)
            assert reach(url, "127.0.0.53", 53) != "'connected'"
    finally:
        Path("/etc/resolv.conf").write_text(before)
        sh("systemctl restart flyted; systemctl try-restart flyted-net.service")


def test_no_egress_closes_it_and_the_app_answers() -> None:
    """With an empty network of its own, without slirp4netns; its own loopback works."""
    url = serve("net-closed", port_server(), "--no-egress")
    assert curl(url)[0] == 200
    inside = "result = [line.split(':')[0].strip() for line in open('/proc/self/net/dev') if ':' in line]"
    assert do(url, inside) == "['lo']"
    for address in (OUTSIDE, HOST, METADATA):
        assert "Error" in reach(url, address, PORT)
    assert reach(url, "127.0.0.1", 8080) == "'connected'"
    assert (answer("app", "get", "net-closed")["egress"], answer("app", "get", "net-closed")["port"]) == (False, 8080)
    dependencies = sh(f"systemctl show --value --property=Wants {unit('net-closed')}")
    assert "flyted-net" not in dependencies


def test_a_broken_way_out_is_named() -> None:
    """Where the network cannot be made the deploy says why, and how to do without."""
    drop_in = Path("/run/systemd/system/flyted-net.service.d/broken.conf")
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("[Service]\nDeviceAllow=\nDevicePolicy=strict\n")
    sh("systemctl daemon-reload; systemctl stop flyted-net.service")
    try:
        done = by("alice", *serving(write("net-broken", port_server())))
        assert done.returncode == 8, done.stderr
        assert "its network could not be created: " in done.stderr
        assert "--no-egress" in done.stderr
        until(lambda: sh("systemctl list-units --all --state=failed --no-legend 'flyted-net@*'") == "")
    finally:
        shutil.rmtree(drop_in.parent)
        sh("systemctl daemon-reload")


def test_the_json_of_an_app_names_its_port(url: str) -> None:
    """As the manual says."""
    shown = json.loads(alice("flytectl", "app", "get", "net-attacker", "--json").stdout)
    assert shown["port"] == 8080
    assert "8080, in a network of its own" in alice("flytectl", "app", "get", "net-attacker").stdout
