"""A program with a port of its own, as its unit would run it: the real systemd-socket-proxyd in front of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flyted.launch import listeners
from flyted.launch.health import Ready
from flyted.launch.log import Log
from flyted.launch.notify import Notifier
from flyted.launch.options import parse
from flyted.launch.port import PROXY
from flyted.launch.refused import Refused
from flyted.launch.supervise import Supervisor
from tests.launch.harness import ROOT, App, Unit, bundle, fserve

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]
PROGRAM = (ROOT / "tests" / "apps" / "port_server.py").read_bytes()
CANARY = "CANARY-5d0a77"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path(PROXY).exists(), reason="no systemd-socket-proxyd here")]


def start(unit: Unit, tmp_path: Path, port: int, *options: str, more: tuple[str, ...] = ()) -> App:
    """launch, with the program on that port."""
    code = bundle(tmp_path, {"port_server.py": PROGRAM, "main.py": b"raise RuntimeError('nobody imports this')"})
    args = ("python", "port_server.py", "--port", str(port), *options)
    return unit.start_on(port, code, fserve("main:env", args=args), *more)


def start_script(unit: Unit, tmp_path: Path, port: int, text: str, *words: str, more: tuple[str, ...] = ()) -> App:
    """launch, with a program of a few lines; ``words`` are its arguments."""
    code = bundle(tmp_path, {"p.py": text})
    return unit.start_on(port, code, fserve("", args=("python", "p.py", *words)), *more)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_it_is_ready_when_its_port_listens(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int, host: str
) -> None:
    """Not before; requests that came meanwhile are answered; wherever it listens."""
    if ":" in host and not Path("/proc/sys/net/ipv6").exists():
        pytest.skip("no IPv6 here")
    app = running(start(make_unit(), tmp_path, port, "--host", host, "--late", "1"))
    app.ready_for_who_came_early()
    assert app.stop() == 0


def test_a_model_that_is_still_loading_is_waited_for(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int
) -> None:
    """Its server listens at once and says 503 to everybody: requests wait for it instead."""
    script = (
        "import http.server, sys, time\n"
        "begun, asked = time.monotonic(), []\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        asked.append(self.path); loading = time.monotonic() < begun + 1.5\n"
        "        self.send_response(503 if loading else 200); self.end_headers()\n"
        "        self.wfile.write(b'loading' if loading else ' '.join(asked).encode())\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n"
    )
    health = ("--health", "/health")
    app = running(start_script(make_unit(), tmp_path, port, script, str(port), more=health))
    status, body = app.get("/early")
    assert (status, body.split()[0], body.split()[-1]) == (200, "/health", "/early")
    assert len(body.split()) > 2  # it was asked, and said no, more than once
    app.ready()
    app.stop()


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", (True, True, True)),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", (True, True, True)),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", (True, True, False)),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", (True, False, False)),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", (True, True, False)),
        (b"", (True, True, False)),
    ],
)
def test_who_is_ready(answer: bytes, ready: tuple[bool, bool, bool]) -> None:
    """Without a path who speaks serves; an engine that says "not yet" does not; a path has to be there."""
    for kind, expected in zip((Ready(), Ready(health="/health"), Ready("/ready", "/health")), ready, strict=True):
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=_answer_once, args=(server, answer))
            thread.start()
            assert kind.at(f"127.0.0.1:{server.getsockname()[1]}") is expected
            thread.join()
        assert not kind.at("127.0.0.1:1")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x46", "speaks TLS, which flyted's ingress does for it"),
        (b"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + bytes(6), "speaks only HTTP/2 (gRPC does)"),
        (b"-ERR unknown command 'HEAD', with args beginning with: '/' 'HTTP/1.0'\r\n", "does not speak HTTP, and"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP, and"),
    ],
    ids=["TLS", "HTTP/2", "redis", "ssh"],
)
def test_who_speaks_no_http_is_not_ready(answer: bytes, said: str) -> None:
    """It was ready, and each visitor got 502. An engine may still open its port for something else."""
    for kind in (Ready(), Ready("/ready"), Ready(health="/health")):
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=_answer_once, args=(server, answer))
            thread.start()
            port = server.getsockname()[1]
            if kind.asks == "/health":
                assert kind.at(f"127.0.0.1:{port}")
            else:
                with pytest.raises(Refused, match=re.escape(f"port {port} {said}")):
                    kind.at(f"127.0.0.1:{port}")
            thread.join()


def _answer_once(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(answer)


def test_a_model_that_never_loads_is_told(make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int) -> None:
    """When systemd's time is over, the last line says what was waited for."""
    script = (
        "import http.server, sys\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_error(503); print('asked', flush=True)\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n"
    )
    health = ("--health", "/health")
    app = running(start_script(make_unit(), tmp_path, port, script, str(port), more=health))
    app.until("asked").stop()
    assert f"port {port} listens, but /health says that it is not ready" in app.err


def test_the_program_has_neither_the_socket_nor_systemds_variables(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int
) -> None:
    """It cannot take what is the proxy's, nor tell systemd that it is ready."""
    app = running(start(make_unit(), tmp_path, port)).ready()
    assert not {"LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"} & set(app.get("/env")[1].split())
    program, _proxy = program_and_proxy(app)
    third = Path(f"/proc/{program}/fd/3")
    assert not third.exists() or third.stat().st_ino != os.fstat(app.unit.listener.fileno()).st_ino
    app.stop()


def program_and_proxy(app: App) -> tuple[int, int]:
    """The two processes that launch has started; READY=1 may come before the second is what it will be."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        pids = descendants(app.process.pid)
        proxies = [pid for pid in pids if "socket-proxyd" in command(pid)]
        if len(pids) == 2 and proxies:
            return next(pid for pid in pids if pid not in proxies), proxies[0]
        time.sleep(0.01)
    raise AssertionError(app.err)


def descendants(pid: int) -> list[int]:
    """The children of a process."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


def command(pid: int) -> str:
    """A process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def test_a_secret_argument_shows_in_no_process(make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int) -> None:
    """Neither in launch's, nor in the program's, nor in the proxy's."""
    unit = make_unit(secrets={"s0": ("env:AUTH", CANARY.encode())})
    app = running(start(unit, tmp_path, port, "--key", "$AUTH")).ready()
    assert app.get("/key") == (200, CANARY)
    program, proxy = program_and_proxy(app)
    assert not [pid for pid in (app.process.pid, program, proxy) if CANARY in command(pid)]
    assert CANARY not in Path(f"/proc/{proxy}/environ").read_text()
    app.stop()


@pytest.mark.parametrize(
    "way", ["os.execv(B, [B, K])", "subprocess.run([B, K])", "os.posix_spawn(B, [B, K], {})", "os.system(B + ' ' + K)"]
)
def test_a_program_may_not_pass_a_secret_on_to_another(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int, way: str
) -> None:
    """A console script that starts the real program would show it after all."""
    script = f"import os, subprocess, sys\nB, K = '/bin/echo', sys.argv[1]\n{way}\n"
    unit = make_unit(secrets={"s0": ("env:AUTH", CANARY.encode())})
    app = running(start_script(unit, tmp_path, port, script, "$AUTH"))
    assert app.wait() == 78
    assert "program 'echo' would show secret AUTH to all users in its arguments" in app.err
    assert CANARY not in app.err + app.out
    allowed = running(start_script(unit, tmp_path, port, script, "$AUTH", more=("--secret-in-argv", "yes")))
    allowed.wait()
    assert allowed.out == "***\n"  # it was an argument; the journal keeps things for longer


def test_no_secret_that_the_program_prints_reaches_the_journal(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int
) -> None:
    """Neither its own lines nor those of what it starts, to the last one before its end; all else is as it was."""
    script = (
        "import os, subprocess, sys\nprint('out', sys.argv[1]); print({'api_key': sys.argv[1]}, file=sys.stderr)\n"
        "subprocess.run(['/bin/sh', '-c', 'echo child $AUTH; echo end >&2; exit 0'])\n"
        "os.write(1, b'no newline ' + sys.argv[1].encode()); raise SystemExit(4)\n"
    )
    unit = make_unit(secrets={"s0": ("env:AUTH", CANARY.encode())})
    app = running(start_script(unit, tmp_path, port, script, "$AUTH"))
    assert app.wait() == 4
    assert app.out == "out ***\nchild ***\nno newline ***"
    assert app.err.startswith("{'api_key': '***'}\nend\n")
    assert app.err.endswith("the program exited with status 4 and never listened\n")
    assert CANARY not in app.out + app.err


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--exit", "3"), 3, "the program exited with status 3 and never listened"),
        (("--exit", "0"), 0, "the program exited with status 0 and never listened"),
        (("--no-such",), 2, "unrecognized arguments"),
    ],
)
def test_an_end_before_it_listens_is_told(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int, options: tuple[str, ...], status: int, said: str
) -> None:
    """Its exit status is the unit's."""
    app = running(start(make_unit(), tmp_path, port, *options))
    assert app.wait() == status
    assert said in app.err


def test_an_error_is_told_as_one_whatever_it_leaves_behind(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only a program that ends well and leaves something has gone to the background: to start it again is no use."""
    monkeypatch.setattr(listeners, "others_of_this_unit", lambda _known: [7])
    options = parse(["--app", "a", "--port", "8080", "--quoted", "p"])
    supervisor = Supervisor(options, 2, 3, Notifier(None), Log([]))
    assert supervisor._program_ended(1) == 1
    assert "the program exited with status 1 and never listened" in capfd.readouterr().err
    assert supervisor._program_ended(0) == 78
    assert "left 1 process(es) in the background" in capfd.readouterr().err


def test_a_signal_is_told(make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int) -> None:
    """As a shell does: 128 and the number."""
    app = running(start(make_unit(), tmp_path, port)).ready()
    os.kill(program_and_proxy(app)[0], signal.SIGKILL)
    assert app.wait() == 137
    assert "the program was terminated by signal SIGKILL" in app.err


def test_a_proxy_that_dies_ends_the_program(make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int) -> None:
    """No request would reach it any more."""
    app = running(start(make_unit(), tmp_path, port)).ready()
    os.kill(program_and_proxy(app)[1], signal.SIGKILL)
    assert app.wait() == 0
    assert "systemd-socket-proxyd exited" in app.err


def test_a_stop_finishes_what_is_in_flight_and_leaves_the_rest_to_the_next_start(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int
) -> None:
    """One request is being answered, others come while the app stops: none is refused, none is cut."""
    unit = make_unit()
    app = running(start(unit, tmp_path, port)).ready()
    answers: list[tuple[int, str]] = []
    slow = threading.Thread(target=lambda: answers.append(app.get("/slow?s=1")))
    slow.start()
    time.sleep(0.3)
    app.process.send_signal(signal.SIGTERM)
    assert unit.notice().startswith("STOPPING=1")
    slow.join(20)
    assert answers[0][0] == 200
    late = threading.Thread(target=lambda: answers.append(app.get("/late")))
    late.start()
    assert app.wait() == 0
    assert unit.notice() == "EXITED"  # the harness's own word
    again = running(start(unit, tmp_path, port)).ready()
    late.join(20)
    assert answers[1][0] == 200
    again.stop()


def test_a_stop_before_it_listens_says_on_which_port_nothing_is(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int
) -> None:
    """systemd's time is over: the last line says why."""
    app = running(start(make_unit(), tmp_path, port, "--late", "100"))
    deadline = time.monotonic() + 20
    while not descendants(app.process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    app.stop()
    assert f"on port {port}" in app.err


def test_what_listens_is_read_from_the_kernel() -> None:
    """Address and port of every family, in the form that the proxy takes."""
    with socket.create_server(("127.0.0.2", 0)) as one:
        port = one.getsockname()[1]
        heard = listeners.listening()
        assert ("127.0.0.2", port) in heard
        assert listeners.target(heard, port) == f"127.0.0.2:{port}"
    assert listeners.target([("::", 9), ("0.0.0.0", 9)], 9) == "127.0.0.1:9"
    assert listeners.target([("::", 9)], 9) == "::1:9"
    assert listeners.target([("10.0.0.1", 9)], 8) is None


def test_a_program_that_is_not_there_is_named(make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int) -> None:
    """The same words as for any app; starting again cannot help."""
    assert shutil.which("no-such-program") is None
    unit = make_unit()
    code = bundle(tmp_path, {"x.py": ""})
    app = running(unit.start_on(port, code, fserve("", args=("no-such-program",))))
    assert app.wait() == 78
    assert "program 'no-such-program' is not in the image" in app.err
