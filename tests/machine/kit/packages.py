"""Debian's packages that tests need and flyted does not depend on."""

from __future__ import annotations

from tests.machine.kit.units import must, sh
from tests.share import once_per_machine


def install(*packages: str) -> None:
    """Install packages, without those they recommend. That counts as no module's time."""
    if _missing(packages):
        with once_per_machine():
            must("apt-get", "update", "-qq")
            must("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def _missing(packages: tuple[str, ...]) -> set[str]:
    listed = sh("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n").splitlines()
    return set(packages) - {line.split()[0] for line in listed if line.endswith(" installed")}
