"""The ingress as installed: its unit, its rights, its certificate, and connections while things change around it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from urllib.parse import urlsplit

from tests.machine.lively import Load, request, serve, trusted
from tests.machine.pairs import must, sh
from tests.machine.people import alice

UNIT = "flyted-ingress.service"


def processes() -> list[str]:
    """HAProxy's master and worker."""
    return sh("systemctl", "show", "-P", "MainPID", UNIT).split() + sh("pgrep", "-P", pid()).split()


def pid() -> str:
    return sh("systemctl", "show", "-P", "MainPID", UNIT)


def test_its_exposure() -> None:
    """1.4 at most, of the running unit."""
    must("systemd-analyze", "security", "--threshold=14", UNIT)


def test_it_may_bind_low_ports_and_nothing_else() -> None:
    """A user of its own; CAP_NET_BIND_SERVICE (bit 10) is the only capability of master and worker."""
    for process in processes():
        status = sh("cat", f"/proc/{process}/status")
        caps = {line.split()[1] for line in status.split("\n") if line.startswith("Cap")}
        assert caps == {f"{1 << 10:016x}"}
        assert "NoNewPrivs:\t1" in status
        assert sh("stat", "-c", "%U", f"/proc/{process}") == "haproxy"


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
        "BEGIN .*PRIVATE KEY",
        "/run",
        "/var/lib/flyted",
        "/etc/flyted",
    )
    assert found == ""


def test_its_files_are_written_by_root_for_haproxy_to_read() -> None:
    """HAProxy cannot change its own configuration."""
    assert set(sh("sh", "-c", "stat -c '%U %a' /run/flyted/ingress/*.map /run/flyted/ingress/*.cfg").split("\n")) == {
        "root 644"
    }
    assert sh("stat", "-c", "%U %a", "/run/flyted/ingress") == "root 755"


def test_apps_that_come_and_go_drop_no_connection_of_others() -> None:
    """Deploys, stops, starts and a removal of one app while another is under load: every request is answered."""
    url = serve("steady")
    serve("coming")

    async def changes() -> None:
        for words in (("stop",), ("start",), ("sleep",), ("delete",)):
            await asyncio.to_thread(alice, "flytectl", "app", words[0], "coming", *words[1:])
        await asyncio.to_thread(serve, "coming", version="2")

    async def both() -> dict[str, int]:
        changing = asyncio.create_task(changes())
        load = Load(url)
        while not changing.done():
            await load.during(1)
        await changing
        return dict(load.results)

    results = asyncio.run(both())
    assert set(results) == {"200"}, results
    for name in ("steady", "coming"):
        alice("flytectl", "app", "delete", name)


def test_a_killed_haproxy_comes_back_with_the_same_apps() -> None:
    """kill -9 of its processes: systemd starts it again, the files say what it served; the daemon is not needed."""
    url = serve("steady")
    host, port = urlsplit(url).hostname, urlsplit(url).port or 443
    tls = trusted()
    assert asyncio.run(request(url, tls)) == "200"
    old = pid()
    must("systemctl", "kill", "--signal=KILL", UNIT)
    until = time.monotonic() + 20
    while pid() in ("0", old) or asyncio.run(request(url, tls)) != "200":
        assert time.monotonic() < until, sh("journalctl", "-n20", "-u", UNIT)
    unknown = sh("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--resolve", f"no-{host}:{port}:127.0.0.1",
                 f"https://no-{host}:{port}/")  # fmt: skip
    assert unknown == "421"
    alice("flytectl", "app", "delete", "steady")


def test_a_restart_of_the_daemon_leaves_it_alone() -> None:
    """Its process stays the same, and so do its ports."""
    before, ports = pid(), sh("ss", "-Hltn")
    must("systemctl", "restart", "flyted.service")
    assert pid() == before
    assert re.findall(r":(\d+) ", sh("ss", "-Hltn")) == re.findall(r":(\d+) ", ports)


def test_it_listens_on_this_machine_only() -> None:
    """127.0.0.1 and ::1, until the settings say otherwise."""
    lines = [line for line in sh("ss", "-Hltnp").split("\n") if "haproxy" in line]
    assert {line.split()[3].rpartition(":")[0] for line in lines} == {"127.0.0.1", "[::1]"}
    assert len(lines) == 4
