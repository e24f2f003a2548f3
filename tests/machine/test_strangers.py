"""What other users of the machine, and other apps, learn of an app: that it runs, and not with what."""

from __future__ import annotations

import subprocess

from tests.machine.kit.units import LAYOUT, connected, do, run, serving, sh, spec, stub_app
from tests.machine.kit.users import by

CANARY = "CANARY-7f3a91"


def test_variables_and_arguments_are_the_apps_own() -> None:
    """Not on D-Bus, in unit files or the list of processes; the app has them, and needs no flyted for that."""

    async def work() -> None:
        made = spec("quiet", command=("serve", f"--dsn={CANARY}"), env=(("DB_URL", f"{CANARY}\nsecond line"),))
        async with connected() as units, serving(units, made) as quiet, serving(units, spec("nosy")) as nosy:
            assert await do(quiet, "os.environ['DB_URL'], sys.argv[-1]") == repr(
                (f"{CANARY}\nsecond line", f"--dsn={CANARY}")
            )
            start = LAYOUT.start_file(quiet)
            assert CANARY in sh("cat", start), "root does not find it either: this test proves nothing"
            asked = [
                ["systemctl", "show", quiet.service, quiet.socket],
                ["systemctl", "cat", quiet.service],
                ["busctl", "call", "org.freedesktop.systemd1", _path(quiet.service),
                 "org.freedesktop.DBus.Properties", "GetAll", "s", "org.freedesktop.systemd1.Service"],
                ["ps", "axww", "-o", "args"],
                ["sh", "-c", "grep -rsa CANARY /run /var/lib/flyted /var/cache /tmp 2>/dev/null; true"],
                ["cat", start],
            ]  # fmt: skip
            for words in asked:
                done = by("mallory", *words)
                assert CANARY not in done.stdout + done.stderr, words
            assert quiet.app_id in by("mallory", "ps", "axww", "-o", "args").stdout
            found = await do(nosy, "[p for p in ('/run/systemd/transient', '/run/flyted') if os.path.exists(p)]")
            assert found == "[]"
            pid = sh("systemctl", "show", "-P", "MainPID", quiet.service)
            assert "FileNotFoundError" in await do(nosy, f"open('/proc/{pid}/cmdline').read()")
            assert sh("stat", "-c", "%U %a", start) == "root 600"

    with stub_app():
        run(work())


def _path(unit: str) -> str:
    found = subprocess.run(
        ["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
         "org.freedesktop.systemd1.Manager", "GetUnit", "s", unit],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return found.stdout.split('"')[1]
