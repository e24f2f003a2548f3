"""The daemon's own units, as installed and running."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from tests.machine.kit.units import main_pid, must, sh


def test_the_daemons_exposure() -> None:
    """1.2 at most, of the running daemon: what is lost on the way into the kernel would show."""
    must("systemd-analyze", "security", "--threshold=12", "flyted.service")


def test_the_daemon_has_no_capability() -> None:
    """Root, without one: not effective, permitted, inheritable, ambient, nor to be had by executing something."""
    pid = main_pid("flyted.service")
    status = sh("cat", f"/proc/{pid}/status").split("\n")
    assert {line.split()[1] for line in status if line.startswith("Cap")} == {"0" * 16}
    assert "NoNewPrivs:\t1" in status


def test_the_sockets_are_for_whom_they_are_for() -> None:
    """The control socket is the group's, the credential socket root's alone."""
    assert sh("stat", "-c", "%U:%G %a", "/run/flyted/control.sock") == "root:flyted 660"
    assert sh("stat", "-c", "%U:%G %a", "/run/flyted/credentials.sock") == "root:root 600"


def test_what_it_holds_is_not_written_down() -> None:
    """No core, no swap."""
    pid = main_pid("flyted.service")
    assert sh("sed", "-n", "s/^Max core file size *//p", f"/proc/{pid}/limits").split() == ["0", "0", "bytes"]
    assert sh("systemctl", "show", "-P", "MemorySwapMax", "flyted.service") == "0"


def test_what_it_hardly_uses_is_not_loaded() -> None:
    """Nothing that the daemon imports has loaded it, nor imported it before it was postponed."""
    late = ["asyncio.sslproto", "csv", "shutil"]
    if sys.version_info >= (3, 13):
        # inspect of older ones reads one when it is imported, and both subprocess and calendar import the other
        late += ["ast", "locale"]
    program = (
        "import runpy, sys\nsys.argv = ['flyted', '--version']\n"
        "try:\n    runpy.run_path('/usr/sbin/flyted')\nexcept SystemExit:\n"
        f"    print(*(type(sys.modules[name]).__name__ for name in {late}), sys.modules['ssl'])"
    )
    shown = sh("/usr/bin/python3", "-IS", "-c", program).split("\n")[-1]
    assert shown.split() == ["_LazyModule"] * len(late) + ["None"]


def test_the_byte_code_has_no_docstrings() -> None:
    """It is where Python looks for it without -OO. That of flytectl has them: they are the text of ``--help``."""
    code = Path("/usr/lib/flyted/flyted")
    found = {path.name for path in code.glob("**/*.pyc")}
    assert {name.partition(".")[0] for name in found} >= {path.stem for path in code.glob("**/*.py")}
    assert not [name for name in found if ".opt-" in name]
    program = "import sys; sys.path[:0] = ['/usr/lib/flyted']; import {0}; print({0}.__doc__ is None)"
    for module, says in (("flyted.plan.units", "True"), ("flytectl.load", "False")):
        assert sh("/usr/bin/python3", "-I", "-c", program.format(module)) == says


def test_what_pip_has_installed_for_all_is_not_imported(tmp_path: Path) -> None:
    """``sudo pip install`` puts packages before Debian's, and .pth files that every Python runs."""
    local = Path(sysconfig.get_path("purelib", "posix_local"))
    broken, hook, ran = local / "msgpack.py", local / "flyted-test.pth", tmp_path / "ran"
    local.mkdir(parents=True, exist_ok=True)
    broken.write_text("raise SystemExit('not the msgpack of Debian')\n")
    hook.write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n")
    try:
        must("systemctl", "restart", "flyted", "flyted-gateway", "flyted-gpu")
        must("flytectl", "doctor")
        must("systemctl", "is-active", "flyted", "flyted-gateway", "flyted-gpu")
        assert not ran.exists()
        must("/usr/bin/python3", "-I", "-c", "")
        assert ran.exists(), "the hook would have run"
    finally:
        broken.unlink()
        hook.unlink()
