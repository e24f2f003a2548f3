"""Real pairs under the real PID 1: what arrives of each property, what an app can and cannot do, how units end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.errors import HostFailure
from flyted.host.bus import PROPERTIES
from flyted.host.object_path import unit_path
from flyted.host.signatures import text
from flyted.plan.facts import UnitEnd
from flyted.plan.units import STARTS
from tests.machine.kit.units import (
    connected,
    do,
    exists,
    listening,
    must,
    planned,
    run,
    serving,
    sh,
    show,
    spec,
)

pytestmark = pytest.mark.usefixtures("hands")

CHANGING = ("ExecStart", "NeedDaemonReload", "CPUUsage", "Memory", "IO", "IP", "Tasks", "Effective", "ControlGroup")
_KINDS = {"service": "org.freedesktop.systemd1.Service", "socket": "org.freedesktop.systemd1.Socket"}
NASTY = (
    "$HOME",
    "${HOME}",
    "a$",
    "$$",
    "%n",
    "100%",
    ";",
    "\\;",
    "q\"u'o",
    "\\\\",
    "",
    "é",
    "--x=$HOME",
    "+a",
    "@",
    "-",
)


def plain(value: Any) -> Any:
    """A D-Bus value with its strings as text and its sequences as lists."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def wanted(name: str, value: Any) -> Any:
    if name == "LogExtraFields":
        return [list(field.encode()) for field in value]
    return plain(value)


def differences(units: Any, unit: str, properties: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Properties that systemd does not report as they were given."""
    found = {}
    for name, value in properties.items():
        got: Any = None
        for interface in ("org.freedesktop.systemd1.Unit", _KINDS[unit.rsplit(".", 1)[1]]):
            try:
                got = plain(
                    units._bus.call("Get", text(interface), text(name), path=unit_path(unit), interface=PROPERTIES)
                )
                break
            except HostFailure:
                continue
        expected = wanted(name, value)
        if name in ("IPAddressDeny", "IPAddressAllow", "Environment"):
            got, expected = sorted(got), sorted(expected)
        if name in ("Wants", "Upholds", "JoinsNamespaceOf"):  # systemd has more of its own
            got, expected = sorted(each for each in got if each in expected), sorted(expected)
        if name == "SystemCallFilter":
            allowed, calls = got
            ok = allowed and {"read", "sched_setaffinity"} <= set(calls) and not {"mount", "chown", "bpf"} & set(calls)
            got, expected = ok, True
        if name == "RestrictAddressFamilies":
            got, expected = [got[0], sorted(got[1])], [expected[0], sorted(expected[1])]
        if name == "ExecStartEx":
            path, argv, flags = got[0][:3]
            got = [[path, argv, ["no-env-expand"]]] if flags in ([], ["no-env-expand"]) else got
        if got != expected:
            found[name] = (got, expected)
    return found


@pytest.mark.parametrize("egress", [True, False])
def test_every_property_arrives(egress: bool) -> None:
    """Read back from systemd one by one: nothing is lost or changed on D-Bus."""

    async def work() -> None:
        made = spec("props", egress=egress, cpu_cores=0.5, memory_bytes=256 << 20, env=(("A", 'b "c" $d %e'),))
        async with connected() as units, serving(units, made, start=False) as replica:
            pair = planned(made)[1]
            assert differences(units, replica.socket, pair.socket) == {}
            assert differences(units, replica.service, pair.service) == {}

    run(work())


@pytest.mark.parametrize(("egress", "limit"), [(True, 9), (False, 7)])
def test_the_exposure_of_a_running_app(egress: bool, limit: int) -> None:
    """``systemd-analyze security`` of the running unit, before and after a reload: what is lost would show."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("score", egress=egress)) as replica:
            for _ in range(2):
                must("systemd-analyze", "security", f"--threshold={limit}", replica.service)
                must("systemctl", "daemon-reload")

    run(work())


def test_a_reload_changes_nothing() -> None:
    """Any package upgrade reloads systemd, which then reads units back from its own files: they must say the same."""

    async def work() -> None:
        made = spec("reload", command=("serve", *NASTY), env=(("A", "b \"c\" 'd' $e %f \\g"),))
        async with connected() as units, serving(units, made) as replica:
            before = [show(unit, *CHANGING) for unit in (replica.service, replica.socket)]
            must("systemctl", "daemon-reload")
            assert [show(unit, *CHANGING) for unit in (replica.service, replica.socket)] == before
            argv = await do(replica, "sys.argv")
            assert await units.stop(replica.service) == "done"
            assert await do(replica, "sys.argv") == argv  # woken from what was read back
            assert await do(replica, "os.environ['A']") == repr(dict(made.env)["A"])

    run(work())


def test_what_an_app_cannot_do() -> None:
    """The daemon's files and sockets, other apps, the host's loopback and metadata, new namespaces, more rights."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("one")) as one, serving(units, spec("two")) as two:
            with listening() as port:
                closed = {
                    ("127.0.0.1", port): "ConnectionRefusedError",
                    ("0.0.0.0", port): "ConnectionRefusedError",
                    ("::ffff:127.0.0.1", port): "ConnectionRefusedError",
                    ("169.254.169.254", 80): "PermissionError",
                }
                for where, error in closed.items():
                    assert (await do(one, f"socket.create_connection({where}, 5)")).startswith(error), where
                gone = "FileNotFoundError"
                refused = {
                    "__import__('ctypes').CDLL(None, use_errno=True).unshare(0x10000000)": "-1",
                    "os.chroot('/')": "PermissionError",
                    "os.listdir('/run/flyted')": gone,
                    f"socket.socket(socket.AF_UNIX).connect('/run/flyted/apps/{two.server}.sock')": gone,
                    "socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')": gone,
                    "socket.socket(socket.AF_UNIX).connect('/run/systemd/private')": gone,
                    "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)": "OSError",
                    "os.chown('/tmp', 0, 0)": "PermissionError",
                    "os.mkdir('/etc/x')": "OSError",
                    f"os.listdir('/run/credentials/{two.service}')": gone,
                    f"os.listdir('/var/lib/private/flyted-app-{two.app_id}')": "Error",
                    "os.kill(1, 0)": "Error",
                    "os.setuid(0)": "PermissionError",
                }
                for source, error in refused.items():
                    assert error in (await do(one, source)), (source, await do(one, source))
            assert await do(one, "os.listdir('/var/lib/flyted')") == "[]"
            assert await do(one, "os.listdir('/home') + os.listdir('/root')") in (
                "[]",
                "PermissionError(13, 'Permission denied')",
            )
            pids = await do(one, "[p for p in os.listdir('/proc') if p.isdigit()]")
            assert pids == f"['{sh('systemctl', 'show', '-P', 'MainPID', one.service)}']"
            assert await do(
                one, "[l for l in open('/proc/self/status') if l.startswith('CapEff') or l.startswith('CapBnd')]"
            ) == ("['CapEff:\\t0000000000000000\\n', 'CapBnd:\\t0000000000000000\\n']")
            assert (
                await do(one, "open('/proc/self/limits').read().split('Max core file size')[1].split()[:2]")
                == "['0', '0']"
            )

    run(work())


def test_what_an_app_can_do() -> None:
    """Its own state, cache and /tmp; the memory of the machine for psutil; chosen CPUs; executable memory."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("able")) as replica:
            for folder in ("os.environ['HOME']", "os.environ['XDG_CACHE_HOME']", "'/tmp'"):
                assert await do(replica, f"open({folder} + '/x', 'w').write('x')") == "1"
            assert "MemTotal" in await do(replica, "open('/proc/meminfo').read()")
            assert await do(replica, "os.sched_setaffinity(0, os.sched_getaffinity(0))") == "None"
            assert await do(replica, "__import__('mmap').mmap(-1, 4096, prot=7).close()") == "None"
            assert await do(replica, "os.getcwd()") == "'/'"
            assert await do(replica, "__import__('subprocess').run(['true']).returncode") == "0"

    run(work())


def test_without_egress_there_is_no_network() -> None:
    """Only its own loopback; nothing of the host's, nothing outside, no abstract socket of another unit."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("alone", egress=False)) as replica:
            with listening() as port:
                assert "ConnectionRefusedError" in await do(
                    replica, f"socket.create_connection(('127.0.0.1', {port}), 3)"
                )
            assert "OSError" in await do(replica, "socket.create_connection(('192.0.2.1', 80), 3)")
            # not /sys/class/net: systemd 252 leaves the host's /sys in place
            links = "[line.split(':')[0].strip() for line in [*open('/proc/net/dev')][2:]]"
            assert await do(replica, links) == "['lo']"
            server = "socket.create_server(('127.0.0.1', 0))"
            own = f"(lambda s: socket.create_connection(s.getsockname(), 3).close())({server})"
            assert await do(replica, own) == "None"

    run(work())


def test_two_revisions_share_their_state() -> None:
    """The same user and the same files, at the same time."""

    async def work() -> None:
        async with (
            connected() as units,
            serving(units, spec("both")) as first,
            serving(units, spec("both"), 2) as second,
        ):
            assert await do(first, "open(os.environ['HOME'] + '/x', 'w').write('from 1')") == "6"
            assert await do(second, "open(os.environ['HOME'] + '/x').read()") == "'from 1'"
            assert await do(second, "open(os.environ['HOME'] + '/x', 'w').write('from 2')") == "6"
            assert await do(first, "open(os.environ['HOME'] + '/x').read()") == "'from 2'"
            assert await do(first, "os.getuid()") == await do(second, "os.getuid()")

    run(work())


def test_the_socket_wakes_a_sleeping_app() -> None:
    """Stopped service, listening socket: a request starts it; sleeping more often than the start limit is no crash."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("nap"), start=False) as replica:
            for _ in range(STARTS + 3):
                pid = await do(replica, "os.getpid()")
                assert await units.stop(replica.service) == "done"
                assert f"/proc/{pid}" != await do(replica, "0")
                await units.stop(replica.service)
            found = {fact.name: fact.active for fact in units.list([f"flyted-app-{replica.app_id}-*"])}
            assert found == {replica.socket: "active", replica.service: "inactive"}

    run(work())


def test_a_crash_loop_ends_with_the_socket_closed() -> None:
    """An app that dies at every start is not started for ever: callers are refused at once, and the reason is kept."""

    async def work() -> None:
        async with connected() as units:
            replica, pair = planned(spec("loop", command=("crash",)))
            await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
            changes: asyncio.Queue[str] = asyncio.Queue()
            units.subscribe(changes.put_nowait)
            try:
                assert await units.start(replica.service) == "failed"
                assert units.ended(replica.service) == UnitEnd("exit-code", 3)
                _, writer = await asyncio.open_unix_connection(f"/run/flyted/apps/{replica.server}.sock")
                while any(f.name == replica.socket and f.active == "active" for f in units.list()):
                    await changes.get()
                writer.close()
                with pytest.raises(OSError):
                    await asyncio.open_unix_connection(f"/run/flyted/apps/{replica.server}.sock")
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)
            # and the names are free again
            async with serving(units, spec("loop")) as again:
                assert again == replica

    run(work())


def test_a_refusal_of_launch_is_not_repeated() -> None:
    """Exit 78: trying again changes nothing, so even an app with a minimum stays down."""

    async def work() -> None:
        async with connected() as units:
            replica, pair = planned(spec("never", command=("refuse",), min_replicas=1))
            await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
            try:
                assert await units.start(replica.service) == "failed"
                assert units.ended(replica.service) == UnitEnd("exit-code", 78)
                assert [f.sub for f in units.list([replica.service])] == ["failed"]
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)

    run(work())


def test_an_app_with_a_minimum_comes_back_after_a_crash() -> None:
    """By systemd, without the daemon and without a request."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("back", min_replicas=1)) as replica:
            changes: asyncio.Queue[str] = asyncio.Queue()
            units.subscribe(changes.put_nowait)
            pid = await do(replica, "os.getpid()")
            os.kill(int(pid), signal.SIGKILL)
            while sh("systemctl", "show", "-P", "MainPID", replica.service) in (pid, "0"):
                await changes.get()
            assert await do(replica, "os.getpid()") != pid

    run(work())


def test_a_pair_of_the_same_name_replaces_what_is_left() -> None:
    """Leftovers that failed or run without their socket do not block the name."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("again")) as replica:
            pair = planned(spec("again"))[1]
            assert await units.stop(replica.socket) == "done"
            assert await units.start_pair(replica.socket, pair.socket, replica.service, pair.service) == "done"
            assert await do(replica, "1 + 1") == "2"
            assert await units.start_pair(replica.socket, pair.socket, replica.service, pair.service) == "done"
            assert await do(replica, "1 + 1") == "2"

    run(work())


def test_a_frozen_app_can_be_stopped() -> None:
    """systemd refuses to stop a frozen unit; it is thawed first."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("cold")) as replica:
            said = sh("systemctl", "freeze", replica.service)
            if "support" in said:
                pytest.skip(said)  # cgroup v1
            assert show(replica.service)["FreezerState"] == "frozen"
            assert await units.stop(replica.service) == "done"
            assert await do(replica, "1 + 1") == "2"

    run(work())


def test_a_secret_file_is_mounted(tmp_path: Any) -> None:
    """``/etc/flyte/secrets`` holds the file that was asked for, readable by the app, and nothing else."""

    async def work() -> None:
        made = spec("files", secrets=(SecretUse("TOKEN", file="team_token"),))
        replica, pair = planned(made)
        source = tmp_path / "value"
        source.write_bytes(b"CANARY-file")
        pair.service["LoadCredential"][1:] = [("s0", str(source)), ("sums", str(source))]
        async with connected() as units:
            try:
                await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
                assert await do(replica, "os.listdir('/etc/flyte/secrets')") == "['team_token']"
                assert await do(replica, "open('/etc/flyte/secrets/team_token').read()") == "'CANARY-file'"
                assert "OSError" in await do(replica, "open('/etc/flyte/secrets/x', 'w')")
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)

    run(work())


def command(*argv: str, **more: Any) -> dict[str, Any]:
    return {"Type": "exec", "ExecStartEx": [(argv[0], list(argv), ["no-env-expand"])], **more}


def test_a_transient_service_runs_to_its_end() -> None:
    """How it ended is known whatever CollectMode says; its output went to the descriptor that was passed."""

    async def work() -> None:
        reading, writing = os.pipe()
        async with connected() as units:
            for status in (0, 3):
                end = await units.run_transient(
                    "flyted-test-run.service",
                    command("/bin/sh", "-c", f"echo out && exit {status}", StandardOutputFileDescriptor=writing,
                            CollectMode="inactive-or-failed"),
                )  # fmt: skip
                assert end == UnitEnd("success" if status == 0 else "exit-code", status)
                assert os.read(reading, 100) == b"out\n"
            assert units.list(["flyted-test-run.service"]) == []
        os.close(writing)
        os.close(reading)

    run(work())


def test_two_of_one_name_run_one_after_the_other() -> None:
    """Two clients that need the same image: the second waits for the first, and stops nothing."""

    async def work() -> None:
        reading, writing = os.pipe()
        async with connected() as units:
            both = [
                units.run_transient(
                    "flyted-test-turn.service",
                    command("/bin/sh", "-c", f"echo {n} in && sleep 0.3 && echo {n} out",
                            StandardOutputFileDescriptor=writing),
                )
                for n in (1, 2)
            ]  # fmt: skip
            assert await asyncio.gather(*both) == [UnitEnd("success", 0)] * 2
        os.close(writing)
        lines = os.read(reading, 1000).split(b"\n")[:-1]
        assert sorted([lines[:2], lines[2:]]) == [[b"1 in", b"1 out"], [b"2 in", b"2 out"]]
        os.close(reading)

    run(work())


@pytest.fixture
def after_a_slow_one() -> Iterator[str]:
    """The name of a service whose start systemd puts off until ``flyted-test-slow.service`` has ended."""
    name = "flyted-test-after.service"
    folder = Path(f"/run/systemd/system/{name}.d")
    folder.mkdir(parents=True)
    (folder / "after.conf").write_text("[Unit]\nAfter=flyted-test-slow.service\n")
    must("systemctl", "daemon-reload")
    yield name
    shutil.rmtree(folder)
    must("systemctl", "daemon-reload")


def test_one_that_is_about_to_start_is_waited_for(after_a_slow_one: str, tmp_path: Path) -> None:
    """Until systemd has come to the job that starts it, a unit is as inactive as one that has ended."""
    said = tmp_path / "said"

    async def work() -> None:
        async with connected() as units:
            slow = units.run_transient("flyted-test-slow.service", command("/bin/sleep", "1", Type="oneshot"))
            says = command("/bin/sh", "-c", f"echo x >>{said}")
            both = [units.run_transient(after_a_slow_one, says) for _ in (1, 2)]
            assert await asyncio.gather(slow, *both) == [UnitEnd("success", 0)] * 3
            assert said.read_text() == "x\nx\n"

    run(work())


def test_one_that_is_stopped_before_it_began_has_not_ended_well(after_a_slow_one: str) -> None:
    """What never ran has done nothing, even if systemd has no failure to tell of."""

    async def work() -> None:
        async with connected() as units:
            slow = asyncio.create_task(
                units.run_transient("flyted-test-slow.service", command("/bin/sleep", "3", Type="oneshot"))
            )
            stopped = asyncio.create_task(units.run_transient(after_a_slow_one, command("/bin/true")))
            await asyncio.sleep(0.2)
            await units.stop(after_a_slow_one)
            with pytest.raises(HostFailure, match=f"systemd did not start {after_a_slow_one}: canceled"):
                await stopped
            assert await slow == UnitEnd("success", 0)

    run(work())


def test_whoever_stops_waiting_stops_the_service() -> None:
    """A client that goes away, or a time limit, leaves no build behind."""

    async def work() -> None:
        async with connected() as units:
            changes: asyncio.Queue[str] = asyncio.Queue()
            units.subscribe(changes.put_nowait)
            with pytest.raises(HostFailure, match="did not end within"):
                await units.run_transient("flyted-test-slow.service", command("/bin/sleep", "600"), 0.3)
            waiting = asyncio.create_task(
                units.run_transient("flyted-test-slow.service", command("/bin/sleep", "600"))
            )
            while not any(f.active == "active" for f in units.list(["flyted-test-slow.service"])):
                await changes.get()
            waiting.cancel()
            await asyncio.wait([waiting], timeout=60)
            assert waiting.cancelled()
            assert units.list(["flyted-test-slow.service"]) == []

    run(work())


def test_an_apps_folders_are_deleted() -> None:
    """By systemd, as the daemon may not even look into them; a link in them is not followed."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("gone")) as replica:
            assert await do(replica, "open(os.environ['HOME'] + '/x', 'w').write('x')") == "1"
            assert await do(replica, "os.symlink('/etc', os.environ['HOME'] + '/etc')") == "None"
            folder = f"/var/lib/private/flyted-app-{replica.app_id}"
            assert exists(f"{folder}/x")
        assert not exists(folder)
        assert not exists(f"/var/lib/flyted-app-{replica.app_id}")
        assert exists("/etc/passwd")

    run(work())


def test_a_unit_that_is_not_there_is_stopped_already() -> None:
    """Stopping it is no error, starting it is, in systemd's words."""

    async def work() -> None:
        async with connected() as units:
            assert await units.stop("flyted-app-nowhere-r1-0.service") == "done"
            with pytest.raises(HostFailure, match="not found"):
                await units.start("flyted-app-nowhere-r1-0.service")
            assert units.ended("flyted-app-nowhere-r1-0.service") is None

    run(work())
