"""Cables in namespaces that the test makes: addresses are allocated, and what is closed is refused at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
APPS = 40
STAGE = """
import ctypes, errno, json, os, socket, subprocess, sys
from flyted.net import plan, veth
from flyted.net.netlink import Exists, Failed, Netlink

def namespace(ready):
    # a process in a network of its own; with `ready`, what it does there before it waits
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).unshare(0x40000000)  # CLONE_NEWNET; Python has it from 3.12 on
        if ready is not None:
            ready()
        os.write(tell, b"x")
        os.execv("/usr/bin/sleep", ["/usr/bin/sleep", "60"])
    os.read(told, 1)
    return pid

def router():
    netlink = Netlink()
    netlink.bridge(plan.BRIDGE, plan.BRIDGE_INDEX, plan.MTU, plan.STATION)
    netlink.address(plan.BRIDGE, plan.ROUTER, plan.PREFIX)

def app(first, after=lambda: None):
    # plugs one app in and says its number, or why it has none
    told, tell = os.pipe()
    def work():
        try:
            answer = [veth.connect(Netlink(), gate, first), after()]
        except Failed as failure:
            answer = [0, str(failure)]
        os.write(tell, json.dumps(answer).encode())
    running.append(namespace(work))
    return json.loads(os.read(told, 65536))

def tried(target, kind=socket.SOCK_STREAM):
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, kind) as s:
        s.settimeout(2)
        try:
            s.connect(socket.getaddrinfo(target, 9, type=kind)[0][4])
            return "reached"
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))

running = []
gate = namespace(router)
running.append(gate)
try:
    exec(sys.argv[1])
finally:
    for pid in running:
        os.kill(pid, 9)
"""


def stage(source: str) -> Any:
    """What ``result`` is after ``source`` ran as root of a user namespace, beside a router."""
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        sys.executable,
        "-c",
        STAGE + "\nprint(json.dumps(result))",
    ]
    done = subprocess.run([*words, source], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_apps_that_want_one_number_get_two() -> None:
    """All of them want the same: each gets the next that is free, and nobody is turned away."""
    numbers = stage(f"result = [app(7)[0] for _ in range({APPS})]")
    assert numbers == list(range(9, 9 + APPS))


def test_a_number_is_free_again_when_its_app_is_gone() -> None:
    """The veth pair goes with the namespace, wherever its other end is."""
    first, second, third = stage(
        "result = [app(7)[0], app(7)[0]]\n"
        "os.kill(running[1], 9); os.waitpid(running[1], 0)\n"
        "import time; end = time.monotonic() + 20\n"
        "while time.monotonic() < end and (again := app(7)[0]) != result[0]: time.sleep(0.1)\n"
        "running.remove(running[1])\n"
        "result.append(again)"
    )
    assert (first, second, third) == (9, 10, 9)


def test_the_router_keeps_its_ethernet_address() -> None:
    """Apps that come and go change nothing: the others would look for the router in vain for seconds."""
    found = stage(
        "def station():\n"
        "    words = ['nsenter', f'--target={gate}', '--net', 'ip', '-j', 'link', 'show', plan.BRIDGE]\n"
        "    return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)[0]['address']\n"
        "result = [station()]\n"
        "for _ in range(8):\n"
        "    app(7)\n"
        "    result.append(station())\n"
        "for pid in running[1:]:\n"
        "    os.kill(pid, 9); os.waitpid(pid, 0)\n"
        "    result.append(station())\n"
        "del running[1:]\n"
    )
    assert set(found) == {"02:c6:12:00:00:01"}


def test_the_last_address_is_given_out_and_then_it_is_said() -> None:
    """A router with few ports."""
    found = stage("plan.LAST = 4\nresult = [app(1) for _ in range(4)]")
    assert [number for number, _why in found] == [3, 4, 2, 0]
    assert "no address is left: 3 apps" in found[3][1]


def test_what_is_closed_is_refused_at_once() -> None:
    """By the call itself, as a matter of permission; what there is no way to, as that; the own loopback answers."""
    closed = ["0.0.0.1", "169.254.169.254", "168.63.129.16", "100.100.100.200", "198.18.0.99", "198.19.0.2"]
    other = {
        "127.0.0.1": "ECONNREFUSED", "0.0.0.0": "ECONNREFUSED", "::1": "ECONNREFUSED",
        "::ffff:169.254.169.254": "EACCES",
        "fd00:ec2::254": "ENETUNREACH", "2001:db8::1": "ENETUNREACH", "fe80::1%eth0": "ENETUNREACH",
    }  # fmt: skip
    source = (
        "def after():\n"
        "    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)\n"
        f"    streams = {{t: tried(t) for t in {[*closed, *other]}}}\n"
        f"    return [streams, {{t: tried(t, socket.SOCK_DGRAM) for t in {closed}}}]\n"
        "result = app(1, after)[1]"
    )
    streams, datagrams = stage(source)
    assert streams == dict.fromkeys(closed, "EACCES") | other
    assert datagrams == dict.fromkeys(closed, "EACCES")


def test_an_app_is_connected_anew_to_the_next_router() -> None:
    """In the same namespace, with the same address: what the app sends to itself arrives, what is closed stays so."""
    closed = ["169.254.169.254", "198.18.0.99", "0.0.0.1"]
    source = (
        "from flyted.launch import network\n"
        "def look():\n"
        f"    return [network._open('0.0.0.0'), tried('192.0.2.1', socket.SOCK_DGRAM), [tried(t) for t in {closed}]]\n"
        "def work():\n"
        "    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)\n"
        "    steps = [network._open('0.0.0.0'), plan.address(veth.connect(Netlink(), gate, 7)), look()]\n"
        "    with socket.create_server((steps[1], 0)) as server:\n"
        "        near, far = socket.create_connection(server.getsockname(), 5), server.accept()[0]\n"
        "    os.kill(gate, 9)\n"
        "    while 'eth0' in {name for _, name in socket.if_nameindex()}: pass\n"
        "    near.sendall(b'without')\n"
        "    steps += [far.recv(9).decode(), look()]\n"
        "    pids = [namespace(router), namespace(taken)]\n"
        "    steps += [plan.address(veth.connect(Netlink(), pids[0], 99)), look()]\n"
        "    near.sendall(b'with')\n"
        "    steps.append(far.recv(9).decode())\n"
        "    steps += [plan.address(veth.connect(Netlink(), pids[1], 99)), look()]\n"
        "    for pid in pids: os.kill(pid, 9)\n"
        "    tell.send(json.dumps(steps).encode())\n"
        "def taken():\n"
        "    router()\n"
        "    Netlink().bridge('p9', 1001, 1500, plan.STATION)\n"
        "told, tell = socket.socketpair()\n"
        "running.append(namespace(work))\n"
        "result = json.loads(told.recv(65536))\n"
    )
    opened = [True, "reached", ["EACCES"] * 3]
    before, first, at_first, without, between, *then = stage(source)
    assert (before, first, at_first) == (False, "198.18.0.9", opened)
    assert (without, between) == ("without", [False, "ENETUNREACH", ["EACCES"] * 3])
    assert then == [first, opened, "with", "198.18.0.10", opened]
