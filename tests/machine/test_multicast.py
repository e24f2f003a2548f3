"""Names of apps in a local network without a DNS server: Avahi announces them, and another machine finds them.

A namespace stands for the other machine. It asks by multicast DNS (RFC 6762), as laptops and phones do.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine.kit.apps import serve
from tests.machine.kit.packages import install
from tests.machine.kit.units import must, sh
from tests.machine.kit.users import alice, answer

OURS, VISITOR = "10.203.77.1", "10.203.77.2"
DOMAIN, APP, TAKEN = "box.local", "multicast-app", "multicast-taken"
AVAHI = Path("/etc/avahi/avahi-daemon.conf")
UNIT = "flyted-mdns.service"
LOOK_UP = """
import json, socket, struct, sys
name, source = sys.argv[1:]
def encoded(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\\0"
def decoded(data, at):
    labels, end = [], 0
    while size := data[at]:
        if size >= 192:
            end, at = end or at + 2, (size & 63) << 8 | data[at + 1]
            continue
        labels.append(data[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels), end or at + 1
def asked(name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
        asking.bind((source, 0))
        asking.settimeout(2)
        question = encoded(name) + struct.pack("!2H", 1, 1)
        asking.sendto(struct.pack("!6H", 7, 0, 1, 0, 0, 0) + question, ("224.0.0.251", 5353))
        try:
            data, _ = asking.recvfrom(9000)
        except TimeoutError:
            return
    questions, *counts = struct.unpack_from("!4H", data, 4)
    at = 12
    for _ in range(questions):
        at = decoded(data, at)[1] + 4
    for _ in range(sum(counts)):
        owner, at = decoded(data, at)
        kind, _, _, size = struct.unpack_from("!HHIH", data, at)
        at += 10
        value = socket.inet_ntoa(data[at : at + 4]) if kind == 1 else ""
        yield owner, kind, decoded(data, at)[0] if kind == 5 else value
        at += size
found = list(asked(name))
if alias := next((value for owner, kind, value in found if (owner, kind) == (name, 5)), ""):
    found += asked(alias)
print(json.dumps(sorted({value for owner, kind, value in found if kind == 1 and owner in (name, alias)})))
"""
CLAIM = """
import socket, struct, sys
name, source = sys.argv[1:]
encoded = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\\0"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as claiming:
    claiming.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    claiming.bind(("224.0.0.251", 5353))
    group = socket.inet_aton("224.0.0.251") + socket.inet_aton(source)
    claiming.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    claiming.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
    print("ready", flush=True)
    while True:
        data, _ = claiming.recvfrom(9000)
        if encoded in data and not data[2] & 128:
            record = encoded + struct.pack("!HHIH", 5, 0x8001, 120, 13) + b"\\5other\\5local\\0"
            claiming.sendto(struct.pack("!6H", 0, 0x8400, 0, 1, 0, 0) + record, ("224.0.0.251", 5353))
"""


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """A network with this machine and a visitor, in which Avahi speaks; and in no other one."""
    sh("ip", "netns", "add", "visitor")
    try:
        for words in (
            "link add ours0 type veth peer name far0 netns visitor", f"addr add {OURS}/24 dev ours0",
            "link set ours0 up multicast on", f"-n visitor addr add {VISITOR}/24 dev far0",
            "-n visitor link set far0 up multicast on", "-n visitor route add 224.0.0.0/4 dev far0",
        ):  # fmt: skip
            sh("ip", *words.split())
        must(
            "systemctl", "mask", "--runtime", "avahi-daemon.service", "avahi-daemon.socket"
        )  # not before its settings
        install("avahi-daemon")
        AVAHI.write_text("[server]\nuse-ipv6=no\nallow-interfaces=ours0\n[publish]\n")
        must("systemctl", "unmask", "--runtime", "avahi-daemon.service", "avahi-daemon.socket")
        yield
    finally:
        must("systemctl", "stop", "avahi-daemon.socket", "avahi-daemon.service")
        sh("ip", "netns", "del", "visitor")


@pytest.fixture(scope="module")
def house(network: None) -> Iterator[str]:
    """An app below a name of the local network; the authority's certificate that the visitor trusts."""
    serve(APP)
    sh("flytectl", "domain", "set", DOMAIN, "--own-ca", "--yes")
    try:
        yield sh("flytectl", "ca", "show", DOMAIN, "--pem")
    finally:
        sh("flytectl", "domain", "rm", DOMAIN, "--yes")
        alice("flytectl", "app", "delete", "--yes", APP)


def looked_up(name: str) -> list[str]:
    """The addresses that the visitor finds for a name."""
    words = ["ip", "netns", "exec", "visitor", "python3", "-c", LOOK_UP, name, VISITOR]
    found: list[str] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return found


def becomes(wanted: object, look: Callable[[], object]) -> object:
    """The last of what was seen within a minute: what is wanted, if that came."""
    until = time.monotonic() + 60
    while (seen := look()) != wanted and time.monotonic() < until:
        time.sleep(0.2)
    return seen


def active(unit: str = UNIT) -> str:
    """The state of the unit that announces, or of another one."""
    done = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def problem() -> str:
    """What is wrong with the domain."""
    return str(answer("domain", "get", DOMAIN)["problem"])


def told() -> bool:
    """Whether the journal says that another machine has the name."""
    lines = sh("journalctl", "-u", UNIT, "-o", "cat", "--since", "-2min")
    return f"{TAKEN}.{DOMAIN} is not announced: another machine" in lines


def test_without_avahi_it_is_said(house: str) -> None:
    """And nothing of ours starts it."""
    assert house
    assert "Avahi does not run" in problem()
    assert becomes("active", active) == "active"
    assert looked_up(f"{APP}.{DOMAIN}") == []


def test_a_visitor_finds_an_app_and_the_page_of_the_authority(house: str, tmp_path: Path) -> None:
    """Avahi came later; its start is enough."""
    must("systemctl", "start", "avahi-daemon")
    assert becomes([OURS], lambda: looked_up(f"{APP}.{DOMAIN}")) == [OURS]
    assert becomes([OURS], lambda: looked_up(f"flyted.{DOMAIN}")) == [OURS]
    assert problem() == ""
    (tmp_path / "ca.pem").write_text(house)
    said = sh(
        "ip", "netns", "exec", "visitor", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert",
        str(tmp_path / "ca.pem"), "--resolve", f"{APP}.{DOMAIN}:443:{OURS}", f"https://{APP}.{DOMAIN}/",
    )  # fmt: skip
    assert said == "200"


def test_a_name_comes_and_goes_with_its_app(house: str) -> None:
    """Also while the app sleeps or is stopped, since the ingress answers."""
    assert house
    name = f"multicast-second.{DOMAIN}"
    assert looked_up(name) == []
    serve("multicast-second")
    assert becomes([OURS], lambda: looked_up(name)) == [OURS]
    alice("flytectl", "app", "stop", "multicast-second")
    time.sleep(1)
    assert looked_up(name) == [OURS]
    alice("flytectl", "app", "delete", "--yes", "multicast-second")
    assert becomes([], lambda: looked_up(name)) == []


def test_avahi_starts_anew(house: str) -> None:
    """What it announced was gone."""
    assert house
    must("systemctl", "restart", "avahi-daemon")
    assert becomes([OURS], lambda: looked_up(f"{APP}.{DOMAIN}")) == [OURS]
    must("systemctl", "kill", "-s", "KILL", "avahi-daemon.service")
    assert becomes("failed", lambda: active("avahi-daemon.service")) == "failed"  # before that, its start does nothing
    must("systemctl", "start", "avahi-daemon")
    assert becomes([OURS], lambda: looked_up(f"{APP}.{DOMAIN}")) == [OURS]


def test_a_name_that_another_machine_has(house: str) -> None:
    """It stays that machine's, and the journal says so: two machines with apps below one domain."""
    assert house
    words = ["ip", "netns", "exec", "visitor", "python3", "-c", CLAIM, f"{TAKEN}.{DOMAIN}", VISITOR]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            serve(TAKEN)
            assert becomes(True, told) is True
            assert looked_up(f"{TAKEN}.{DOMAIN}") == []
            assert looked_up(f"{APP}.{DOMAIN}") == [OURS]
        finally:
            other.kill()
            alice("flytectl", "app", "delete", "--yes", TAKEN)


def test_with_the_domain_it_ends(house: str) -> None:
    """The unit is started again with the next such domain."""
    assert house
    sh("flytectl", "domain", "rm", DOMAIN, "--yes")
    assert becomes("inactive", active) == "inactive"
    assert looked_up(f"{APP}.{DOMAIN}") == []
    sh("flytectl", "domain", "set", DOMAIN, "--own-ca", "--yes")
    assert becomes([OURS], lambda: looked_up(f"{APP}.{DOMAIN}")) == [OURS]
