"""The profile for AppArmor that the package has, read by Debian's own parser. No kernel here has AppArmor."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.packages import install
from tests.machine.kit.units import must, sh

SHIPPED, INSTALLED = Path("/usr/share/flyted/apparmor/flyted"), Path("/etc/apparmor.d/flyted")


@pytest.fixture(scope="module", autouse=True)
def _parser() -> Iterator[None]:
    """Debian's package, which flyted does not depend on."""
    had = Path("/usr/sbin/apparmor_parser").exists()
    install("apparmor")
    yield
    if not had:
        must("apt-get", "purge", "-y", "-qq", "apparmor")
        INSTALLED.unlink(missing_ok=True)


def parses(file: Path) -> subprocess.CompletedProcess[str]:
    """Whether the parser reads a profile; nothing is loaded."""
    command = ["apparmor_parser", "-Q", "-K", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_installed_where_the_parser_can_read_it() -> None:
    """One of AppArmor 4. The service of an older one would fail at each boot; then there is no file."""
    must("dpkg-reconfigure", "flyted")
    new = int(sh("dpkg-query", "-W", "-f", "${Version}", "apparmor").partition(".")[0]) >= 4
    done = parses(SHIPPED)
    assert (done.returncode == 0) == new, done.stderr
    assert INSTALLED.exists() == new
    if new:
        assert INSTALLED.read_bytes() == SHIPPED.read_bytes()
        assert sh("apparmor_parser", "-N", str(INSTALLED)).splitlines()[0] == "flyted"


def test_what_the_parser_cannot_read_is_not_left_there(tmp_path: Path) -> None:
    """A profile of another version of the package; the installation goes on."""
    shipped = SHIPPED.read_text()
    INSTALLED.write_text(shipped)
    try:
        SHIPPED.write_text(shipped.replace("userns,", "no such rule,"))
        assert parses(SHIPPED).returncode != 0
        must("dpkg-reconfigure", "flyted")
        assert not INSTALLED.exists()
    finally:
        SHIPPED.write_text(shipped)
    must("dpkg-reconfigure", "flyted")
    must("systemctl", "is-active", "flyted.service")
