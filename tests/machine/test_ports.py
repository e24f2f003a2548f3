"""Programs that open a TCP port of their own: all on 8080, with the manners of any other app."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.machine.kit import users
from tests.machine.kit.apps import Load, request, state, trusted, websocket
from tests.machine.kit.leaks import Search
from tests.machine.kit.programs import port_server, processes, serve, unit, write
from tests.machine.kit.users import (
    alice,
    answer,
    by,
    curl,
    delete_apps,
    forget_apps,
    forget_secrets,
    give,
    lines_of,
    refused,
    running,
    serving,
    until,
)  # fmt: skip

TEN = [f"port-ten-{number}" for number in range(10)]
CANARY = "CANARY-9c41d0b7e2"
SEARCH = Search(CANARY)


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("port-")
    forget_secrets("PORT_KEY")


def systemctl(*words: str) -> str:
    """systemctl's answer; it must work."""
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True).stdout.strip()


def show(service: str, name: str) -> str:
    """One property of a unit."""
    return systemctl("show", "--value", f"--property={name}", service)


def test_ten_programs_have_the_same_port_at_once() -> None:
    """Each answers under its own name, and nothing listens on the machine's port 8080."""
    with ThreadPoolExecutor(3) as pool:
        urls = list(pool.map(lambda name: serve(name, port_server("--version", name)), TEN))
    assert [curl(f"{url}/")[1].split()[1] for url in urls] == TEN
    listening = subprocess.run(["ss", "-Hltn", "sport = :8080"], capture_output=True, text=True, check=True)
    assert listening.stdout == ""
    app = answer("app", "get", TEN[0])
    assert app["port"] == 8080
    delete_apps(TEN[1:])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_any_address_of_its_own_will_do(host: str) -> None:
    """A program need not listen on all interfaces, nor on IPv4."""
    url = serve("port-any", port_server("--host", host, "--port", "9000"), port=9000)
    status, body = curl(f"{url}/x")
    assert (status, body.split()[2]) == (200, "/x")


def test_a_console_script_and_a_module_serve() -> None:
    """What pip installs as a program, here waitress; and `python -m http.server`, as `command`."""
    give("portal.py", "def app(environ, start):\n    start('200 OK', [])\n    return [b'from waitress']\n")
    words = ["waitress-serve", "--listen=127.0.0.1:8080", "portal:app"]
    assert curl(serve("port-script", words, include=("portal.py",))) == (200, "from waitress")
    # shown as Python: it runs in launch's own process, so no argument of it can be read
    assert not [line for line in processes(unit("port-script")).values() if line.startswith("waitress")]
    url = serve("port-module", ["python", "-m", "http.server", "8080"], how="command")
    assert curl(url)[0] == 200
    assert curl(f"{url}/no-such-file")[0] == 404


def test_a_program_that_is_not_python_serves() -> None:
    """busybox's web server, which knows nothing of sockets that are handed over."""
    url = serve(
        "port-busybox", ["/usr/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/usr/share/doc/flyted/examples"]
    )
    status, body = curl(f"{url}/hello.py")
    assert (status, "import flyte" in body) == (200, True)
    assert any("busybox httpd" in line for line in processes(unit("port-busybox")).values())


def test_it_sleeps_and_a_hundred_requests_wake_it_once() -> None:
    """All are held until the port listens, and answered by one process; its network stays meanwhile."""
    url = serve("port-nap", port_server("--late", "1"))
    service = unit("port-nap")
    network = service.replace("flyted-app-", "flyted-net@")
    alice("flytectl", "app", "sleep", "port-nap")
    assert (state("port-nap"), show(network, "ActiveState")) == ("sleeping", "active")

    async def together() -> list[str]:
        tls = trusted()
        return await asyncio.gather(*(request(url, tls) for _ in range(100)))

    assert set(asyncio.run(together())) == {"200"}
    assert state("port-nap") == "running"


def test_sleeping_under_load_loses_no_request() -> None:
    """What is in flight is finished, what comes meanwhile waits for the next start."""
    url = serve("port-load", port_server())

    async def nap() -> None:
        for _ in range(2):
            await asyncio.sleep(2)
            await asyncio.to_thread(alice, "flytectl", "app", "sleep", "port-load")

    assert set(asyncio.run(Load(url, rate=20).during(8, nap()))) == {"200"}


def test_websockets_and_streams_pass() -> None:
    """Both ways, and as they come."""
    url = serve("port-load", port_server())

    async def talk() -> None:
        async with websocket(url, trusted()) as (reader, writer):
            for word in (b"hi", b"yo"):
                writer.write(b"\x81\x82\x00\x00\x00\x00" + word)
                assert (await reader.readexactly(9))[2:] == b"echo:" + word

    asyncio.run(talk())
    done = alice("curl", "-sSN", "--max-time", "60", f"{url}/stream?n=3")
    assert done.stdout == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_a_new_revision_takes_over_without_a_lost_request() -> None:
    """Both revisions have the same port at the same time, and the same user."""
    url = serve("port-load", port_server("--version", "old"))

    async def replace() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(serve, "port-load", port_server("--version", "new"))

    assert set(asyncio.run(Load(url, rate=20).during(8, replace()))) == {"200"}
    assert curl(url)[1].split()[1] == "new"


def test_kill_9_of_the_daemon_loses_no_request_and_the_app_wakes_without_it() -> None:
    """Network, proxy and app are systemd's own."""
    url = serve("port-load", port_server())

    async def kill() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(systemctl, "kill", "--signal=KILL", "flyted.service")

    assert set(asyncio.run(Load(url, rate=20).during(3, kill()))) == {"200"}
    until(lambda: show("flyted.service", "ActiveState") == "active")
    alice("flytectl", "app", "sleep", "port-load")
    systemctl("stop", "flyted.socket", "flyted-api.socket", "flyted.service")
    try:
        assert curl(url)[0] == 200
    finally:
        systemctl("start", "flyted.socket", "flyted-api.socket", "flyted.service")
    assert state("port-load") == "running"


def test_it_comes_back_when_the_proxy_dies() -> None:
    """Nobody would take requests any more: the program is stopped as well, and started again."""
    url = serve("port-load", port_server())
    service = unit("port-load")
    until(lambda: any("socket-proxyd" in line for line in processes(service).values()))
    proxy = next(pid for pid, line in processes(service).items() if "socket-proxyd" in line)
    os.kill(proxy, signal.SIGKILL)
    until(lambda: proxy not in processes_or_none(service))
    until(lambda: show(service, "ActiveState") in ("inactive", "failed"))
    assert curl(url)[0] == 200
    assert "systemd-socket-proxyd exited" in alice("flytectl", "logs", "port-load", "-n", "50").stdout


def processes_or_none(service: str) -> dict[int, str]:
    """Its processes; none where it has ended."""
    try:
        return processes(service)
    except OSError:
        return {}


def test_a_stop_is_quick_and_one_that_is_ignored_ends_too() -> None:
    """SIGTERM reaches the program; what ignores it is killed after the time that all apps have."""
    serve("port-load", port_server())
    began = time.monotonic()
    alice("flytectl", "app", "sleep", "port-load")
    assert time.monotonic() - began < 25, "what ignores SIGTERM is killed after 30 s"
    url = serve("port-stubborn", port_server("--stubborn"))
    alice("flytectl", "app", "sleep", "port-stubborn")
    assert state("port-stubborn") == "sleeping"
    assert curl(url)[0] == 200


def test_the_first_request_is_held_for_the_whole_start() -> None:
    """A start may take longer than an answer: the time for that begins when the app serves."""
    url = serve("port-held", port_server("--late", "6"), more="timeouts=flyte.app.Timeouts(request=3)")
    assert curl(f"{url}/slow?s=6")[0] == 504
    alice("flytectl", "app", "sleep", "port-held")
    assert curl(f"{url}/")[0] == 200
    until(lambda: state("port-held") == "running")
    assert curl(f"{url}/slow?s=6")[0] == 504


def test_a_wrong_port_is_told_while_it_starts() -> None:
    """Not only when its time is over, which may be minutes away: to who serves it, and to who looks."""
    with running(*serving(write("port-else", port_server("--port", "9000")))) as process:
        said = lines_of(process)
        words = "nothing listens on port 8080, but the program does on 9000"
        until(lambda: any(line.startswith("note: ") and words in line for line in said))
        assert words in alice("flytectl", "logs", "port-else").stdout
    alice("flytectl", "app", "delete", "--yes", "--data", "port-else")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--port", "9000"), "nothing listens on port 8080, but the program does on 9000"),
        (("--late", "100"), "nothing listens on port 8080"),
        (("--exit", "3"), "it exited with status 3 during its start: .*the program exited with status 3"),
        (("--exit", "0"), "the program exited with status 0 and never listened"),
        (("--fork",), "left 1 process.* in the background: it has to stay in the foreground"),
        (("--no-such-option",), "it exited with status 2"),
    ],
    ids=["wrong port", "late", "exits", "ends", "forks and leaves", "wrong argument"],
)
def test_a_program_that_does_not_serve_is_told_why(options: tuple[str, ...], said: str) -> None:
    """The reason names the port; the revision before it goes on."""
    url = serve("port-worse", port_server("--version", "good"))
    done = by("alice", *serving(write("port-worse", port_server(*options))))
    assert done.returncode == 8, done.stderr
    assert re.search(said, done.stderr.split("did not start")[1]), done.stderr
    assert curl(url)[1].split()[1] == "good"


def test_a_port_below_1024_is_as_good_as_any() -> None:
    """It is in the app's own network, which opens it, also at a wake; without egress nobody does."""
    url = serve("port-low", port_server("--port", "80"), port=80)
    assert curl(url)[0] == 200
    alice("flytectl", "app", "sleep", "port-low")
    assert curl(url)[0] == 200
    alice("flytectl", "app", "delete", "--yes", "--data", "port-low")
    assert "80" in refused(*serving("--no-egress", write("port-bad", port_server(), port=80)), status=2)


def test_reserved_ports_are_refused() -> None:
    """Before anything is built; Flyte's SDK refuses the first itself."""
    assert by("alice", "flytectl", "serve", write("port-bad", port_server(), port=8012)).returncode in (2, 3)


@pytest.fixture
def secret() -> None:
    """The secret of these tests, shown by no app yet."""
    forget_apps("port-passes")
    alice("flytectl", "secret", "create", "PORT_KEY", "-", "--replace", typed=f"{CANARY}\n")


@pytest.mark.usefixtures("secret")
def test_a_secret_argument_of_a_python_program_is_in_no_command_line() -> None:
    """The program has it; no process of the machine shows it; nor does the journal."""
    wanted = "[flyte.Secret(key='PORT_KEY', as_env_var='PORT_KEY')]"
    url = serve("port-secret", port_server("--key", "$PORT_KEY"), secrets=wanted)
    assert curl(f"{url}/key")[1] == CANARY
    assert SEARCH.in_command_lines() == []
    alice("flytectl", "app", "sleep", "port-secret")
    assert curl(f"{url}/key")[1] == CANARY
    assert SEARCH.in_command_lines() == []
    journal = subprocess.run(["journalctl", "-b", "-o", "export"], capture_output=True, check=True).stdout
    assert CANARY.encode() not in journal


@pytest.mark.usefixtures("secret")
def test_a_secret_argument_of_another_program_is_refused_unless_it_is_allowed() -> None:
    """At serve, before anything is built; with the flag it is what the user wanted."""
    wanted = "[flyte.Secret(key='PORT_KEY', as_env_var='PORT_KEY')]"
    words = ["/usr/bin/busybox", "httpd", "-f", "-p", "8080", "-r", "$PORT_KEY"]
    file = write("port-open", words, secrets=wanted)
    said = refused(*serving(file), status=2)
    assert "would show secret PORT_KEY to all users" in said
    assert "--allow-secret-in-argv" in said
    start = "['/usr/bin/busybox', 'httpd', '-f', '-p', '8080', '-r', *sys.argv[1:]]"
    give("passes_on.py", f"import subprocess, sys\nsubprocess.run({start})\n")
    file = write("port-passes", ["python", "passes_on.py", "$PORT_KEY"], secrets=wanted, include=("passes_on.py",))
    done = by("alice", *serving(file))
    assert done.returncode == 8
    assert "would show secret PORT_KEY to all users in its arguments" in done.stderr
    assert SEARCH.in_command_lines() == []
    assert CANARY not in done.stderr + done.stdout
    assert curl(users.serve(file, "--allow-secret-in-argv"))[0] in (200, 404)
    assert len(SEARCH.in_command_lines()) == 1


def test_the_sandbox_is_as_tight_as_any_apps() -> None:
    """Measured live: the app, and both units of its network."""
    serve("port-load", port_server())
    service = unit("port-load")
    network = service.replace("flyted-app-", "flyted-net@")
    for name, limit in ((service, 14), (network, 14), ("flyted-net.service", 26)):
        done = subprocess.run(
            ["systemd-analyze", "security", f"--threshold={limit}", name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout.splitlines()[-1:]


def test_a_deleted_app_leaves_no_network() -> None:
    """Neither its own, nor, with the last of them, egress."""
    delete_apps(app["name"] for app in answer("app", "ls")["apps"] if app["port"])
    left = [
        "systemctl",
        "list-units",
        "--plain",
        "--no-legend",
        "--state=active",
        "flyted-net@*",
        "flyted-net.service",
    ]
    until(lambda: subprocess.run(left, capture_output=True, text=True, check=True).stdout == "")
