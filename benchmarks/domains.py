"""What certificates of many names, and limits for clients, cost the ingress: with HAProxies of their own."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BufferedRWPair
from pathlib import Path

from benchmarks.processes import rss_mib
from flyted.host.ca import Ca, issue_leaf, new_ca
from flyted.plan.ingress.certificates import Certificate
from flyted.plan.ingress.state import IngressState, Unavailable
from tests.host.haproxy import A, Machine, apply, machine, one

Promise = Callable[..., None]

DOMAIN = "apps.example.org"
NAMES, SWAPPED = 500, 100
HANDSHAKES, REQUESTS, CLIENTS, ON_A_CONNECTION = 400, 10_000, 4, 10
ROUNDS, OF_ONE_CLIENT, PIPELINED = 40, 1000, 100  # so that HAProxy never waits, and wakes up for no request


def certificate(authority: Ca, number: int) -> Certificate:
    """A new certificate for one name."""
    name = f"n{number}.{DOMAIN}"
    return Certificate(name, (name,), issue_leaf(authority, name, alone=True).pem)


@contextmanager
def serving(authority: Ca, names: int) -> Iterator[Machine]:
    """An ingress with one app and a certificate for each of so many names."""
    with tempfile.TemporaryDirectory() as folder, machine(Path(folder)) as made:
        made.app("a-r1-0")
        made.certificates[:] = [certificate(authority, number) for number in range(names)]
        apply(made, replace(one(made), domains={DOMAIN: "apps.localhost"}))
        asyncio.run(made.ingress.apply_certificates())
        yield made


def memory(box: Machine) -> float:
    """HAProxy's memory (RSS), in MiB."""
    assert box.process is not None
    return rss_mib(box.process.pid)


def processor_s(box: Machine) -> float:
    """What HAProxy has used of a processor, in seconds."""
    assert box.process is not None
    return int(Path(f"/proc/{box.process.pid}/schedstat").read_text().split()[0]) / 1e9


def connected(box: Machine, trusted: ssl.SSLContext, name: str) -> ssl.SSLSocket:
    """A new connection to a name."""
    plain = socket.create_connection(("127.0.0.1", box.listen.https_port), 10)
    return trusted.wrap_socket(plain, server_hostname=name)


def handshake_ms(box: Machine, trusted: ssl.SSLContext, number: int) -> float:
    """A new connection that checks the certificate of a name."""
    began = time.perf_counter()
    connected(box, trusted, f"n{number}.{DOMAIN}").close()
    return (time.perf_counter() - began) * 1e3


def started_ms(box: Machine) -> float:
    """From the start of HAProxy, with its files, to a port that takes connections."""
    box.stop()
    began = time.perf_counter()
    box.start()
    return (time.perf_counter() - began) * 1e3


def answered(box: Machine, trusted: ssl.SSLContext, names: Iterator[int], statuses: list[int]) -> None:
    """Send one client's share of the requests, and note the status of each answer."""
    for _ in range(REQUESTS // CLIENTS // ON_A_CONNECTION):
        with connected(box, trusted, f"n{next(names)}.{DOMAIN}") as connection, connection.makefile("rwb") as stream:
            for _ in range(ON_A_CONNECTION):
                stream.write(f"GET / HTTP/1.1\r\nHost: a.{DOMAIN}\r\n\r\n".encode())
                stream.flush()
                statuses.append(_status(stream))


def _status(stream: BufferedRWPair) -> int:
    """Read an answer; return its status."""
    head = list(iter(stream.readline, b"\r\n"))
    length = next(int(line.partition(b":")[2]) for line in head if line.lower().startswith(b"content-length:"))
    stream.read(length)
    return int(head[0].split()[1])


def lost_while_swapped(box: Machine, authority: Ca, trusted: ssl.SSLContext) -> tuple[int, int]:
    """The requests that are lost while certificates are replaced, one after the other; and how many are replaced."""
    statuses, names = list[int](), itertools.cycle(range(NAMES))
    clients = [threading.Thread(target=answered, args=(box, trusted, names, statuses)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    swapped = 0
    while any(client.is_alive() for client in clients):
        box.certificates[swapped % NAMES] = certificate(authority, swapped % NAMES)
        asyncio.run(box.ingress.apply_certificates())
        swapped += 1
    for client in clients:
        client.join()
    return REQUESTS - statuses.count(200), swapped


def of_a_request_us(box: Machine) -> float:
    """HAProxy's time for a request that it answers itself, in microseconds of a processor."""
    with box.connect(A) as connection, connection.makefile("rwb") as stream:
        before = processor_s(box)
        for _ in range(OF_ONE_CLIENT // PIPELINED):
            stream.write(f"GET / HTTP/1.1\r\nHost: {A}\r\n\r\n".encode() * PIPELINED)
            stream.flush()
            for _ in range(PIPELINED):
                _status(stream)
        return (processor_s(box) - before) * 1e6 / OF_ONE_CLIENT


def limits_us() -> tuple[float, float]:
    """What a request costs without and with a limit for its client; the best of many turns, as others only add."""
    state = IngressState(unavailable={A: Unavailable("not now")})
    limited = replace(state, limits={A: "99999999 -"})
    without, with_ = [], []
    with tempfile.TemporaryDirectory() as folder, machine(Path(folder), state) as box:
        for _ in range(ROUNDS):
            apply(box, state)
            without.append(of_a_request_us(box))
            apply(box, limited)
            with_.append(of_a_request_us(box))
    return min(without), min(with_)


def domains(promise: Promise) -> None:
    """What is promised: names cost memory and nothing else, and nobody notices a new certificate."""
    authority = new_ca(DOMAIN, alone=True)
    trusted = ssl.create_default_context(cadata=authority.cert_pem.decode())
    with ExitStack() as both:
        few, many = (both.enter_context(serving(authority, names)) for names in (1, NAMES))
        of_few, of_many = [], []
        for number in range(HANDSHAKES):
            of_few.append(handshake_ms(few, trusted, 0))
            of_many.append(handshake_ms(many, trusted, number % NAMES))
        one_name, all_names = statistics.median(of_few), statistics.median(of_many)
        note = f"{all_names:.2f} ms / {one_name:.2f} ms"
        promise(f"handshake, {NAMES} names / one", all_names / one_name, 1.05, "", note)
        each_kib = (memory(many) - memory(few)) * 1024 / (NAMES - 1)
        promise("HAProxy's memory for a name", each_kib, 64, "KiB", f"{memory(many):.0f} MiB in all")
        gone, swapped = lost_while_swapped(many, authority, trusted)
        promise(f"lost of {REQUESTS} requests", gone, 0, "", f"{swapped} certificates replaced meanwhile")
        promise("certificates that were not replaced", max(0, SWAPPED - swapped), 0, "")
        promise(f"HAProxy's start, {NAMES} names", started_ms(many), 2000, "ms", f"one: {started_ms(few):.0f} ms")
    without, with_ = limits_us()
    promise("a limit for clients (CPU)", with_ - without, 3, "µs", f"a request: {without:.1f} µs")
