"""The certificate authority when the clock goes wrong, and of a machine that had several; in a real secret store."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flyted.contract.errors import StoreCorrupt
from flyted.daemon.ingress.tls import Tls
from flyted.host import ca
from flyted.host.ingress import Ingress
from flyted.host.vault import Vault
from tests.daemon.clocks import FakeClock
from tests.host.vaults import opened, reopened, state_folder

DAY = 86400.0


class Machine:
    """A secret store whose daemon is started again and again, each time with the clock at another time."""

    def __init__(self, folder: Path) -> None:
        self.folder = state_folder(folder)
        self.vault: Vault = opened(self.folder)
        self._now = time.time()

    def start(self, days: float = 0.0, base_domain: str = "apps.localhost") -> Tls:
        """Starts the daemon, so many days from the true time."""
        self.vault = reopened(self.vault, self.folder)
        ingress = Ingress(self.folder / "admin.sock", self.folder / "ingress")
        clock = FakeClock(lambda: self._now + days * DAY)
        return Tls(self.vault, ingress, base_domain, self.folder / "ca.pem", clock)

    def authority(self, days: float = 0.0, base_domain: str = "apps.localhost") -> str:
        """The fingerprint of the authority that a start uses."""
        tls = self.start(days, base_domain)
        (shown,) = {ca.fingerprint(tls.authority(base_domain).cert_pem)}
        assert ca.fingerprint(tls.authority(base_domain).cert_pem) == shown
        assert tls.site_pem()
        return shown


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A new machine."""
    return Machine(tmp_path)


def test_a_wrong_clock_never_costs_the_authority_that_clients_trust(machine: Machine) -> None:
    """Behind, it stays; years ahead, there has to be another one until the clock is right again."""
    first = machine.authority()
    assert machine.authority(-730) == first
    assert machine.authority(730) == first
    second = machine.authority(3600)
    assert second != first
    assert machine.authority(3600) == second
    assert machine.authority() == first
    assert machine.authority(3650) == second
    assert machine.authority(-730) == first


def test_an_authority_for_another_domain_is_made_beside_it(machine: Machine) -> None:
    """And the first one is back with its domain."""
    first = machine.authority()
    other = machine.authority(base_domain="box.example.org")
    assert other != first
    assert machine.authority(base_domain="box.example.org") == other
    assert machine.authority() == first


def test_a_damaged_authority_is_kept_beside_the_one_that_takes_its_place(machine: Machine) -> None:
    """Nothing is written over: from a backup of its file it comes back."""
    first = machine.authority()
    (file,) = (machine.folder / "secrets").glob("*ca-key*.age")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    second = machine.authority()
    assert second != first
    file.write_bytes(whole)
    assert machine.authority() == first


def test_a_store_that_is_refused_makes_no_authority(machine: Machine) -> None:
    """Until somebody has said whether a restored store is the right one."""
    machine.authority()
    manifest = machine.folder / "secrets/manifest"
    manifest.write_bytes(manifest.read_bytes()[:-1])
    before = sorted(path.name for path in (machine.folder / "secrets").iterdir())
    with pytest.raises(StoreCorrupt):
        machine.start().site_pem()
    assert sorted(path.name for path in (machine.folder / "secrets").iterdir()) == before
