"""An ingress that starts, hangs or refuses as it is told of new certificates has them in the end."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure, IngressDown
from tests.daemon.authority import Authority
from tests.daemon.fake import Machine, alone, beside
from tests.daemon.test_orders import ONE, TWO, has, later, served


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with two apps that run."""
    return alone(tmp_path, monkeypatch, "one", "two")


@pytest.mark.parametrize("error", [IngressDown("it does not answer"), HostFailure("it refuses")])
def test_an_ingress_that_does_not_take_a_certificate_is_told_again(machine: Machine, error: HostFailure) -> None:
    """After a pause that grows to a minute, and not at each pass."""
    authority = Authority(machine)
    takes, told = machine.haproxy.apply_certificates, [0]

    async def refuses() -> None:
        told[0] += 1
        raise error

    async def story() -> None:
        await served(machine)
        machine.haproxy.apply_certificates = refuses  # type: ignore[method-assign]
        await later(lambda: len(authority.orders) == 2 and told[0] > 0)
        before = told[0]
        for _ in range(20):
            await machine.loop.settle()
        assert told[0] <= before + 1
        machine.haproxy.apply_certificates = takes  # type: ignore[method-assign]
        asked = machine.haproxy.asked["apply_certificates"]
        await later(lambda: machine.haproxy.asked["apply_certificates"] > asked)
        await machine.loop.settle()
        assert machine.tls.apply_at() is None

    beside(machine, story)
    machine.close()


def test_an_ingress_that_starts_is_told_again_soon_and_one_that_hangs_less_often(machine: Machine) -> None:
    """The pauses between the tries, in seconds."""
    Authority(machine)
    told: list[float] = []

    async def hangs() -> None:
        told.append(machine.clock.time())
        raise IngressDown("it does not answer")

    async def story() -> None:
        await served(machine)
        await later(lambda: has(machine, ONE, TWO)() and machine.tls.apply_at() is None)
        machine.haproxy.apply_certificates = hangs  # type: ignore[method-assign]
        await machine.tls.give()
        machine.loop.poke()
        await later(lambda: len(told) >= 9)
        assert [round(b - a) for a, b in itertools.pairwise(told)][:8] == [1, 2, 4, 8, 16, 32, 60, 60]

    beside(machine, story)
    machine.close()


def test_an_ingress_that_starts_as_the_domain_is_set_has_the_certificates_at_once(machine: Machine) -> None:
    """It restarts for its new listeners, and does not answer then; the certificates come a moment later."""
    Authority(machine)
    takes = machine.haproxy.apply_certificates

    async def starting() -> None:
        raise IngressDown("it does not answer")

    async def story() -> None:
        machine.haproxy.apply_certificates = starting  # type: ignore[method-assign]
        await served(machine)
        began, asked = machine.clock.time(), machine.haproxy.asked["apply_certificates"]
        machine.haproxy.apply_certificates = takes  # type: ignore[method-assign]
        await later(lambda: machine.haproxy.asked["apply_certificates"] > asked and has(machine, ONE, TWO)())
        await later(lambda: machine.tls.apply_at() is None)
        assert machine.clock.time() - began < 5

    beside(machine, story)
    machine.close()


def test_an_ingress_that_hangs_at_a_renewal_is_told_again(machine: Machine) -> None:
    """It runs, and asks for nothing by itself."""
    authority = Authority(machine)
    takes = machine.haproxy.apply_certificates

    async def hangs() -> None:
        raise IngressDown("it does not answer")

    async def story() -> None:
        await served(machine)
        await later(lambda: has(machine, ONE, TWO)() and machine.tls.apply_at() is None)
        machine.haproxy.apply_certificates = hangs  # type: ignore[method-assign]
        await machine.tls.renew()
        at = machine.tls.apply_at()
        assert at is not None
        assert 0 < at - machine.clock.time() <= 60
        machine.haproxy.apply_certificates = takes  # type: ignore[method-assign]
        await machine.loop.settle()
        await later(lambda: machine.tls.apply_at() is None)
        assert len(authority.orders) == 2

    beside(machine, story)
    machine.close()
