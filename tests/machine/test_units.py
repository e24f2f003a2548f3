"""Real pairs under the real PID 1: what arrives of each property, and what an app can and cannot do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.errors import HostFailure
from flyted.host.bus import PROPERTIES
from flyted.host.object_path import unit_path
from flyted.host.signatures import text
from tests.machine.kit.units import connected, do, exists, listening, must, planned, run, serving, sh, show, spec

pytestmark = pytest.mark.usefixtures("stub_app")

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
                while "eth0" not in await do(one, "open('/proc/self/net/route').read()"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)  # its network comes beside it
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
