"""The ingress against the real HAProxy: what a visitor gets, and that no change costs a connection."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from flyted.contract.errors import HostFailure, IngressDown, InvalidInput
from flyted.host.ingress import Applied, Ingress
from flyted.plan.ingress.state import IngressState, Listen, Unavailable
from tests.host.haproxy import A, B, Machine, apply, exchange, needs_haproxy, one, parsed, until

pytestmark = [pytest.mark.slow, needs_haproxy]


def test_an_app_is_added_changed_and_removed_while_haproxy_runs(box):
    """421 before, the app's answer while it is there, its successor's after a switch, 421 after removal."""
    box.app("a-r1-0")
    box.app("a-r2-0")
    assert box.get()[0] == 421
    assert apply(box, one(box)) == Applied()
    assert box.get()[::2] == (200, "a-r1-0\n")
    apply(box, one(box, "a-r2-0"))
    assert box.get()[::2] == (200, "a-r2-0\n")
    apply(box, IngressState())
    assert box.get()[0] == 421
    assert asyncio.run(box.ingress.read()).state == IngressState()


def test_what_is_read_back_is_what_was_applied(box):
    """Applying twice sends nothing the second time; limits and reasons come back as they went, spaces and all."""
    reason = Unavailable("it crashed: KeyError 'x' <<; \"quoted\" \\ %[src] #1 é <<", 7)
    wanted = replace(one(box, limit=1234), unavailable={B: reason})
    apply(box, wanted)
    live = asyncio.run(box.ingress.read())
    assert live.state.hosts == wanted.hosts
    assert live.state.timeouts_ms == wanted.timeouts_ms
    assert live.state.unavailable == {B: reason}
    assert apply(box, wanted) == Applied()
    apply(box, replace(wanted, unavailable={B: Unavailable("other; words", 8)}))
    assert asyncio.run(box.ingress.read()).state.unavailable == {B: Unavailable("other; words", 8)}


def test_a_restart_serves_the_same(box):
    """The files repeat the run-time state: a new process answers as the old one did."""
    box.app("a-r1-0")
    # one that is awake: the answer that wakes an app says how long that took
    wanted = replace(
        one(box, limit=60_000), unavailable={B: Unavailable("it is; stopped", 9)}, awake={"a-r1-0": "yes"}
    )
    apply(box, wanted)
    before = box.get(), box.get(host=B), box.get(host="c.apps.localhost")
    box.stop()
    box.start()
    assert (box.get(), box.get(host=B), box.get(host="c.apps.localhost")) == before
    live = asyncio.run(box.ingress.read())
    assert apply(box, wanted) == Applied()
    assert asyncio.run(box.ingress.read()).state == live.state


def test_a_program_is_spoken_to_in_its_protocol(box):
    """HTTP/2 begins with its preface (RFC 9113 3.4), told at run time and read from the file after a restart alike."""
    app = box.app("a-r1-0")
    wanted = replace(one(box), servers={"a-r1-0": replace(box.server("a-r1-0"), h2=True)})
    apply(box, wanted)
    box.get()
    box.stop()
    box.start()
    box.get()
    assert apply(box, wanted) == Applied()
    assert len(app.seen) >= 2
    assert all(seen.startswith(b"PRI * HTTP/2.0\r\n\r\n") for seen in app.seen)
    apply(box, IngressState())
    apply(box, one(box))
    assert box.get()[0] == 200, "another one of that name speaks HTTP/1.1"


def test_a_server_of_the_file_can_be_removed_like_a_new_one(box):
    """After a restart the servers are static ones; they go as well."""
    box.app("a-r1-0")
    apply(box, one(box))
    box.stop()
    box.start()
    apply(box, IngressState())
    assert asyncio.run(box.ingress.read()).state.servers == {}


def test_a_server_stays_until_its_last_request_is_answered(box):
    """Removed while a request is in flight: the request gets its answer, new ones do not, and it goes later."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    with box.connect() as held:
        held.sendall(b"GET /hold HTTP/1.1\r\nHost: a.apps.localhost\r\nConnection: close\r\n\r\n")
        until(lambda: app.seen)
        assert apply(box, IngressState()) == Applied(draining=frozenset({"a-r1-0"}))
        assert box.get()[0] == 421
        app.release.set()
        assert parsed(exchange(held, b""))[::2] == (200, "a-r1-0\n")
    until(lambda: not asyncio.run(box.ingress.stats())["a-r1-0"].busy)
    assert apply(box, IngressState()) == Applied()
    assert asyncio.run(box.ingress.stats()) == {}


def test_changes_under_load_drop_no_connection(box):
    """Apps come, switch revisions and go fifty times while another answers in a loop: every answer is a 200."""
    names = ["a-r1-0", "a-r2-0", "b-r1-0"]
    for name in names:
        box.app(name)
    apply(box, one(box))
    answers: Counter[int] = Counter()
    stop = threading.Event()

    def visit() -> None:
        while not stop.is_set():
            answers[box.get("/busy")[0]] += 1

    visitors = [threading.Thread(target=visit) for _ in range(6)]
    for visitor in visitors:
        visitor.start()
    other = IngressState(servers={"b-r1-0": box.server("b-r1-0")}, hosts={B: "b-r1-0"})
    for turn in range(50):
        mine = one(box, names[turn % 2])
        both = IngressState(servers={**mine.servers, **other.servers}, hosts={**mine.hosts, **other.hosts})
        apply(box, both if turn % 3 else mine)
    stop.set()
    for visitor in visitors:
        visitor.join()
    assert set(answers) == {200}, answers
    assert answers[200] > 50


def test_ports_that_changed_need_a_restart_and_it_is_said(box):
    """Everything else is told at run time; other ports are in the file, and HAProxy is found to run without them."""
    assert apply(box, IngressState()).other_rules is False
    assert apply(box, IngressState(), Listen(1, 2, ("127.0.0.1",))).other_rules is True


OLDER = """global
    description flyted-older
    stats socket {box.places.admin} level admin
defaults
    mode http
    timeout client 5s
    timeout connect 5s
    timeout server 5s
frontend https
    bind 127.0.0.1:{box.listen.https_port} ssl crt {box.places.certificate}
backend apps
    balance random
"""


def test_a_haproxy_of_another_version_is_told_nothing_but_restarted(tmp_path):
    """After an upgrade it may not have the tables that we would fill; its files are new, and a restart reads them."""
    (tmp_path / "old").mkdir()
    box = Machine(tmp_path / "old")
    try:
        box.ingress.write(one(box), box.listen)
        (box.files / "haproxy.cfg").write_text(OLDER.format(box=box))
        box.start()
        assert "Unknown map" in asyncio.run(box.ingress._haproxy.ask(f"show map {box.files}/guarded.map"))
        assert apply(box, one(box)).other_rules is True
        box.stop()
        box.start()
        assert apply(box, one(box)).other_rules is False
    finally:
        box.close()


def test_a_haproxy_that_is_down_is_told_apart_and_its_files_are_written(box):
    """The state is not lost: HAProxy serves it when it starts."""
    box.app("a-r1-0")
    box.stop()
    with pytest.raises(IngressDown, match=r"cannot send .* to the ingress"):
        apply(box, one(box))
    with pytest.raises(IngressDown):
        asyncio.run(box.ingress.stats())
    box.start()
    assert box.get()[::2] == (200, "a-r1-0\n")


def test_a_haproxy_that_hangs_is_down_too(tmp_path):
    """A socket that accepts and says nothing (PID 1 holds it while HAProxy cannot start) ends in an error in time."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "admin.sock"))
        listener.listen()
        begin = time.monotonic()
        with pytest.raises(IngressDown, match="no answer in time"):
            asyncio.run(Ingress(tmp_path / "admin.sock", tmp_path, timeout_s=0.2).stats())
        assert time.monotonic() - begin < 5


def test_bad_states_change_no_file(box):
    """A host that leads nowhere: refused before anything is written or told."""
    before = {p.name: p.read_bytes() for p in box.files.iterdir()}
    with pytest.raises(InvalidInput):
        apply(box, IngressState(hosts={A: "nowhere"}))
    assert {p.name: p.read_bytes() for p in box.files.iterdir()} == before


def test_a_full_disk_or_missing_folder_is_said(tmp_path):
    """The path and the system's reason; no half-written file is left."""
    with pytest.raises(HostFailure, match=r"cannot write .*missing/load.lua: No such file"):
        Ingress(tmp_path / "admin.sock", tmp_path / "missing").write(IngressState(), Listen())
    assert list(tmp_path.iterdir()) == []


def test_files_are_for_haproxy_to_read_and_for_nobody_to_write(box):
    """0644 whatever the daemon's umask is (tokens: HAProxy's group only), and no temporary file stays behind."""
    old = os.umask(0o077)
    try:
        apply(box, IngressState())
    finally:
        os.umask(old)
    assert {p.name: p.stat().st_mode & 0o777 for p in box.files.iterdir()} == {
        "haproxy.cfg": 0o644, "certificates.list": 0o644, "hosts.map": 0o644, "domains.map": 0o644,
        "authorities.map": 0o644, "challenges.map": 0o644, "names.map": 0o644, "redirects.map": 0o644,
        "timeouts.map": 0o644, "unavailable.map": 0o644,
        "limits.map": 0o644, "guarded.map": 0o644, "restricted.map": 0o644,
        "open-paths.map": 0o644, "sticky.map": 0o644, "tokens.map": 0o640,
        "callers.map": 0o644, "calls.map": 0o644, "watched.map": 0o644, "load.lua": 0o644,
        "awake.map": 0o644, "kept.map": 0o644, "uncounted.map": 0o644,
        "cold.map": 0o644, "steps.map": 0o644,
    }  # fmt: skip


def test_a_thousand_apps_are_told_in_seconds(box):
    """The whole state of a large machine after a restart of the daemon."""
    names = [f"app-{i}-r1-0" for i in range(1000)]
    wanted = IngressState(
        servers={n: box.server(n) for n in names}, hosts={f"app-{i}.apps.localhost": n for i, n in enumerate(names)}
    )
    begin = time.monotonic()
    apply(box, wanted)
    assert time.monotonic() - begin < 30
    assert len(asyncio.run(box.ingress.stats())) == 1000
    assert apply(box, wanted) == Applied()
