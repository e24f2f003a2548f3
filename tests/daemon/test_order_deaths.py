"""flyted under kill -9 at every step of an order: before each change of the disk, the ingress and the units."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flyted.contract.acme import LETS_ENCRYPT
from flyted.host.orders import OrderTable
from flyted.plan.facts import UnitEnd
from flyted.plan.ingress.sites import ACME, AcmeSettings, Site
from tests.daemon.authority import DAY, Authority
from tests.daemon.fake import Machine, alone, beside
from tests.daemon.test_domains import ask, files_with
from tests.daemon.test_orders import DOMAIN, ONE, has, kept_again, later, served, shown
from tests.host.deaths import dying_at, forks, in_child, in_memory

pytestmark = [pytest.mark.slow, forks]

SITE = Site(DOMAIN, ACME, 1.0, AcmeSettings("me@example.org", LETS_ENCRYPT))
OF_AN_ORDER = 25
"""It has more steps than these: the account, the ingress, the unit, the certificate, and what is known of it."""


@contextmanager
def life(folder: Path, age_s: float = 60.0) -> Iterator[tuple[Machine, Authority]]:
    """A run of flyted. ``age_s``: how old a certificate is when it comes."""
    machine = Machine(folder)
    authority = Authority(machine)
    authority.age_s = age_s
    try:
        yield machine, authority
    finally:
        machine.close()


def fingerprint(machine: Machine) -> str:
    """That of the certificate that flyted has for the app; "" without one."""
    found = machine.acme.kept.certificate(ONE)
    return found.fingerprint if found is not None else ""


async def ordered(machine: Machine, old: str) -> None:
    """Look, as at each start, and wait until the ingress has another certificate than the old one."""
    await machine.loop.settle()
    await later(lambda: fingerprint(machine) not in {"", old} and has(machine, ONE)())
    await machine.loop.settle()
    await later(lambda: machine.tls.apply_at() is None)


def dies(folder: Path, step: int, old: str) -> None:
    """A run that dies before a step. It leaves a line for each certificate that the authority has signed."""
    with life(folder) as (machine, authority):
        sign = authority.sign

        def signed(job: dict[str, object]) -> bytes:
            with (folder / "signed").open("a") as file:
                file.write("one\n")
            return sign(job)

        authority.sign = signed  # type: ignore[method-assign]
        dying_at(
            step, (machine.haproxy, "apply"), (machine.haproxy, "apply_certificates"),
            (machine.systemd, "run_transient"), (machine.store.database, "execute"), (authority, "sign"),
        )  # fmt: skip
        beside(machine, lambda: ordered(machine, old))


def check_disk(folder: Path) -> None:
    """No key is in the clear, and nothing half is in the vault."""
    assert files_with(b"PRIVATE KEY", folder) == []
    assert [path.name for path in (folder / "flyted/secrets").iterdir() if path.suffix not in {"", ".age"}] == []


@pytest.mark.parametrize("renewal", [False, True])
def test_after_a_death_at_any_step_there_is_one_good_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, renewal: bool
) -> None:
    """The next run orders what the last one had not stored, once; a renewal takes no good certificate away."""
    before = alone(tmp_path, monkeypatch, "one")
    before.sites.put(SITE)
    before.close()
    old = ""
    if renewal:
        with life(tmp_path, 65 * DAY) as (machine, _authority):
            beside(machine, lambda: ordered(machine, ""))
            old = fingerprint(machine)
    known: list[bool] = []
    with in_memory() as scratch:
        for step in itertools.count(1):
            folder = scratch / str(step)
            shutil.copytree(tmp_path, folder)
            ended = in_child(lambda folder=folder, step=step: dies(folder, step, old))  # type: ignore[misc]
            assert ended in (0, 9)
            known.append(_goes_on(folder, old))
            if ended == 0:
                break
            shutil.rmtree(folder)
    assert known == sorted(known), "what was stored once is not ordered again"
    assert known[-1]
    assert len(known) > OF_AN_ORDER


def _goes_on(folder: Path, old: str) -> bool:
    """Start flyted again after its death; report whether it knew of the new certificate."""
    signed = folder / "signed"
    given = len(signed.read_text().splitlines()) if signed.exists() else 0
    with life(folder) as (machine, authority):
        found = fingerprint(machine)
        known = found not in {"", old}
        assert not old or found, "a good certificate is there at any moment"
        assert machine.vault.refusal is None

        async def story() -> None:
            await ordered(machine, old)
            await asyncio.sleep(30 * DAY)

        beside(machine, story)
        assert len(authority.orders) == (0 if known else 1)
        assert given <= 1
        assert shown(machine)[ONE] == (ONE,)
        new = machine.acme.kept.certificate(ONE)
        assert new is not None
        pem = next(each.pem for each in machine.tls.certificates() if each.name == ONE)
        assert pem == new.pem
        again = kept_again(machine).certificate(ONE)
        assert again is not None
        assert again.pem == new.pem, "it is stored whole, with its key"
        assert [order.failed for order in OrderTable(machine.store.database).all().values()] == [()]
        assert (machine.acme.jobs, machine.acme.challenges()) == ({}, {})
    check_disk(folder)
    return known


@pytest.mark.parametrize("part", [0, 0.3, 0.6, 1])
def test_a_unit_that_is_killed_as_it_prints_gives_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: float
) -> None:
    """Not even if all of its certificate has come. It is a failure, and the next try has a certificate."""
    machine = alone(tmp_path, monkeypatch, "one")
    authority = Authority(machine)

    async def killed(name: str, properties: dict[str, object], **more: object) -> UnitEnd:
        said = await output(authority, name, properties, **more)
        os.write(properties["StandardOutputFileDescriptor"], said[: round(len(said) * part)])  # type: ignore[arg-type]
        machine.systemd.run_transient = authority.unit  # type: ignore[method-assign]
        return UnitEnd("signal", 9)

    async def story() -> None:
        machine.systemd.run_transient = killed  # type: ignore[method-assign]
        await served(machine)
        await later(lambda: len(authority.orders) == 1)
        await machine.loop.settle()
        assert set(shown(machine)) == {DOMAIN}
        found = await ask(machine, "domain.get", domain=DOMAIN)
        assert found["problem"] == f"no certificate for {ONE}: the order ended with status 9"
        await later(has(machine, ONE))
        assert len(authority.orders) == 2
        assert (await ask(machine, "domain.get", domain=DOMAIN))["problem"] == ""

    beside(machine, story)
    machine.close()


async def output(authority: Authority, name: str, properties: dict[str, object], **more: object) -> bytes:
    """What a unit prints that ends well."""
    read, write = os.pipe()
    try:
        await authority.unit(name, {**properties, "StandardOutputFileDescriptor": write}, **more)
    finally:
        os.close(write)
    with os.fdopen(read, "rb") as said:
        return said.read()
