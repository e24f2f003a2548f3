"""The ingress as installed: its unit, its rights, its certificate, and connections while things change around it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import time
from urllib.parse import urlsplit

from tests.machine.kit import users
from tests.machine.kit.apps import Load, request, serve, trusted
from tests.machine.kit.settings import settings
from tests.machine.kit.units import must, sh
from tests.machine.kit.users import alice, answer, curl, give, until

UNIT = "flyted-ingress.service"
SOCKET = "flyted-ingress.socket"


def processes() -> list[str]:
    """HAProxy's master and worker."""
    master = pid()
    return [] if master == "0" else [master, *sh("pgrep", "-P", master).split()]


def pid() -> str:
    return sh("systemctl", "show", "-P", "MainPID", UNIT)


def test_its_exposure() -> None:
    """0.5 at most, of the running unit."""
    must("systemd-analyze", "security", "--threshold=5", UNIT)


def test_it_has_no_right_and_no_network_of_its_own() -> None:
    """A user of its own, no capability in master and worker; PID 1 listens, so not even CAP_NET_BIND_SERVICE."""
    for process in processes():
        status = sh("cat", f"/proc/{process}/status")
        caps = {line.split()[1] for line in status.split("\n") if line.startswith("Cap")}
        assert caps == {"0" * 16}
        assert "NoNewPrivs:\t1" in status
        assert sh("stat", "-c", "%U", f"/proc/{process}") == "haproxy"
        assert sh("readlink", f"/proc/{process}/ns/net") != sh("readlink", "/proc/1/ns/net")


def test_its_admin_socket_is_roots_alone() -> None:
    """HAProxy itself did not make it, so no mode of HAProxy's can open it to others."""
    assert sh("stat", "-c", "%U:%G %a", "/run/flyted/admin.sock") == "root:root 600"
    done = subprocess.run(
        ["runuser", "-u", "haproxy", "--", "python3", "-c",
         "import socket; socket.socket(socket.AF_UNIX).connect('/run/flyted/admin.sock')"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "PermissionError" in done.stderr


def test_the_key_is_in_no_file_but_the_credential() -> None:
    """Certificate and key come as a credential, for HAProxy's user; no private key lies about below our folders."""
    assert sh("stat", "-c", "%a", f"/run/credentials/{UNIT}/site.pem") in ("400", "440")
    found = sh(
        "grep",
        "-rlE",
        "--exclude-dir=credentials",
        "--exclude-dir=images",
        "--exclude-dir=layers",
        "BEGIN .*PRIVATE KEY",
        "/run",
        "/var/lib/flyted",
        "/etc/flyted",
    )
    assert found == ""


def test_its_files_are_written_by_root_for_haproxy_to_read() -> None:
    """HAProxy cannot change its own configuration; the table of tokens is for it alone to read."""
    found = sh("sh", "-c", "stat -c '%n %U:%G %a' /run/flyted/ingress/*.map /run/flyted/ingress/*.cfg").split("\n")
    for line in found:
        name, owner, mode = line.split()
        assert (owner, mode) == ("root:haproxy", "640" if name.endswith("/tokens.map") else "644")
    assert sh("stat", "-c", "%U:%G %a", "/run/flyted/ingress") == "root:haproxy 2755"


TRAILERS = """
from fastapi import FastAPI, Request
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.post("/")
async def seen(request: Request):
    body = (await request.body()).decode()
    return [body, "httptools" in __import__("sys").modules, sorted({n.decode() for n, _ in request.scope["headers"]})]

env = FastAPIAppEnvironment(
    name="trailing", app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "httptools"),
)
"""


def test_a_field_behind_the_body_is_no_header() -> None:
    """Nobody names a user there, or anything else: httptools hands trailers to uvicorn as it does headers."""
    url = users.serve(give("trailing.py", TRAILERS))
    where = urlsplit(url)
    chunked = "1\r\nx\r\n0\r\nX-Flyte-User: root\r\nX-Other: y\r\n\r\n"
    ask = f"POST / HTTP/1.1\r\nHost: {where.hostname}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    plain = socket.create_connection(("127.0.0.1", where.port or 443), 30)
    with trusted().wrap_socket(plain, server_hostname=where.hostname) as connection:
        connection.sendall((ask + chunked).encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    body, fast, names = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (body, fast) == ("x", True)
    assert names == [
        "connection",
        "host",
        "transfer-encoding",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ]
    alice("flytectl", "app", "delete", "--yes", "--data", "trailing")


def test_apps_that_come_and_go_drop_no_connection_of_others() -> None:
    """Deploys, stops, starts and a removal of one app while another is under load: every request is answered."""
    url = serve("steady")
    serve("coming")

    async def changes() -> None:
        for words in (("stop",), ("start",), ("sleep",), ("delete", "--yes")):
            await asyncio.to_thread(alice, "flytectl", "app", *words, "coming")
        await asyncio.to_thread(serve, "coming", version="2")

    async def both() -> dict[str, int]:
        return dict(await Load(url).during(1, changes()))

    results = asyncio.run(both())
    assert set(results) == {"200"}, results
    for name in ("steady", "coming"):
        alice("flytectl", "app", "delete", "--yes", "--data", name)


def test_a_killed_haproxy_comes_back_with_the_same_apps() -> None:
    """kill -9 of its processes: systemd starts it again, the files say what it served; the daemon is not needed."""
    url = serve("steady")
    host, port = urlsplit(url).hostname, urlsplit(url).port or 443
    tls = trusted()
    assert asyncio.run(request(url, tls)) == "200"
    old = pid()
    must("systemctl", "kill", "--signal=KILL", UNIT)
    end = time.monotonic() + 60
    while pid() in ("0", old) or asyncio.run(request(url, tls)) != "200":
        assert time.monotonic() < end, sh("journalctl", "-n20", "-u", UNIT)
    unknown = sh("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--resolve", f"no-{host}:{port}:127.0.0.1",
                 f"https://no-{host}:{port}/")  # fmt: skip
    assert unknown == "421"
    alice("flytectl", "app", "delete", "--yes", "--data", "steady")


def test_a_restart_loses_no_request() -> None:
    """What is in flight is answered, and new connections wait with PID 1 until the next HAProxy takes them."""
    url = serve("steady")

    async def restart() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            await asyncio.to_thread(must, "systemctl", "restart", UNIT)

    results = asyncio.run(Load(url).during(5, restart()))
    assert set(results) == {"200"}, results
    alice("flytectl", "app", "delete", "--yes", "--data", "steady")


def test_a_kill_refuses_no_connection() -> None:
    """Requests in flight die with HAProxy; whoever connects afterwards waits. Master and worker killed, or one."""
    url = serve("steady")
    tls = trusted()

    async def kill() -> None:
        for victims in (slice(None), slice(0, 1), slice(1, 2)):
            until(lambda: len(processes()) == 2)
            # a worker that ends with its master is not there any more
            must("sh", "-c", 'kill -KILL "$@" || :', "sh", *processes()[victims])
            answers = await asyncio.gather(*(request(url, tls) for _ in range(50)))
            # a worker whose master is dead takes a few with it
            assert set(answers) <= {"200", "ConnectionResetError", "empty"}, (victims, answers)
            assert victims.stop == 1 or set(answers) == {"200"}, (victims, answers)

    asyncio.run(kill())
    alice("flytectl", "app", "delete", "--yes", "--data", "steady")


def test_other_ports_take_a_restart_of_the_daemon() -> None:
    """New settings count at once, there and back; HAProxy follows without being told."""
    url = serve("steady")
    with settings('[ingress]\nhttps_port = 9443\nhttp_port = 9080\nlisten = ["127.0.0.1"]'):
        other = answer("app", "get", "steady")["url"]
        assert other == f"https://{urlsplit(url).hostname}:9443"
        assert curl(other)[0] == 200
        assert sh("systemctl", "show", "-P", "Listen", SOCKET).count("Stream") == 3
    assert answer("app", "get", "steady")["url"] == url
    assert curl(url)[0] == 200
    alice("flytectl", "app", "delete", "--yes", "--data", "steady")


def test_listeners_that_somebody_stopped_come_back() -> None:
    """HAProxy cannot start without them; flyted sees it try, and has them made."""
    url = serve("steady")
    must("systemctl", "stop", SOCKET)
    assert curl(url)[0] == 200  # HAProxy has its own copies
    subprocess.run(["systemctl", "restart", UNIT], check=False, capture_output=True)  # may fail once
    until(lambda: sh("systemctl", "show", "-P", "ActiveState", UNIT) == "active")
    assert curl(url)[0] == 200
    alice("flytectl", "app", "delete", "--yes", "--data", "steady")


def test_a_restart_of_the_daemon_leaves_it_alone() -> None:
    """Its process stays the same, and so do its ports."""
    before, ports = pid(), sh("ss", "-Hltn")
    must("systemctl", "restart", "flyted.service")
    assert pid() == before
    assert re.findall(r":(\d+) ", sh("ss", "-Hltn")) == re.findall(r":(\d+) ", ports)


def test_it_listens_on_this_machine_only() -> None:
    """127.0.0.1 and ::1, until the settings say otherwise."""
    ports = {
        where.rpartition(":")[2] for where in sh("systemctl", "show", "-P", "Listen", SOCKET).split() if ":" in where
    }
    lines = [line for line in sh("ss", "-Hltn").split("\n") if line.split()[3].rpartition(":")[2] in ports]
    assert {line.split()[3].rpartition(":")[0] for line in lines} == {"127.0.0.1", "[::1]"}
    assert len(lines) == 4
