"""A deploy with a custom domain, on a machine in memory; a stand-in for the unit says where the name leads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyted.acme import words
from flyted.contract.answers.events import NOTE, Event, Progress
from flyted.contract.errors import HostFailure, InvalidInput
from flyted.plan.facts import UnitEnd
from flyted.plan.ingress.sites import ACME
from tests.daemon.fake import Machine, alone, beside
from tests.daemon.test_deploy import KEY, Deploys
from tests.daemon.test_domains import ask
from tests.daemon.test_orders import DOMAIN, WITH_HTTP
from tests.values import spec

CUSTOM = "chat.example.com"
NOWHERE = UnitEnd("exit-code", words.EX_NORECORD)


class Resolver:
    """What the units say: how each ends, with which lines."""

    def __init__(self, machine: Machine) -> None:
        self.end, self.lines = UnitEnd("success", 0), list[str]()
        self.error: HostFailure | None = None
        self.asked: list[str] = []
        self.at_once, self.most = 0, 0
        machine.systemd.run_transient = self.unit  # type: ignore[method-assign]

    async def unit(self, _name: str, properties: dict[str, Any], **_more: Any) -> UnitEnd:
        """One of them: an order gets nothing."""
        _program, words_of_it, _flags = properties["ExecStartEx"][0]
        if words.RECORD not in words_of_it:
            return UnitEnd("exit-code", words.EX_REFUSED)
        self.asked.append(words_of_it[-1])
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0.1)
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        os.write(properties["StandardOutputFileDescriptor"], "".join(f"{each}\n" for each in self.lines).encode())
        return self.end


@pytest.fixture
def deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploys]:
    """An app serves."""
    machine = alone(tmp_path, monkeypatch)
    machine.runs(machine.deployed("a"))
    yield Deploys(machine, tmp_path)
    machine.close()


async def ordering(deploys: Deploys) -> None:
    """Have certificates ordered."""
    await ask(deploys.machine, "domain.set", domain=DOMAIN, certificate=ACME, acme=WITH_HTTP)


async def serve(deploys: Deploys, said: list[str] | None = None, **changes: Any) -> None:
    """Serve the app with a custom domain."""

    async def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.kind == NOTE and said is not None:
            said.append(event.text)

    wanted = spec("a", **{"python_env": str(deploys.python), "custom_domain": CUSTOM, **changes})
    await deploys.deploy.serve(wanted, {}, emit, "bob")


def test_one_that_leads_nowhere_is_refused(deploys: Deploys) -> None:
    """With the record to make, before anything is changed; with the record it is served."""
    resolver = Resolver(deploys.machine)

    async def story() -> None:
        await ordering(deploys)
        other = spec("b", python_env=str(deploys.python), custom_domain=CUSTOM)
        resolver.end, resolver.lines = NOWHERE, [f"{words.OURS}{words.OWN}203.0.114.7"]
        for refused in (serve(deploys), deploys.deploy.check(other)):
            with pytest.raises(InvalidInput, match="it has no address in DNS") as caught:
                await refused
            assert caught.value.hint == f"make a DNS record: {CUSTOM} to 203.0.114.7"
        assert [each.number for each in deploys.store.app("a").revisions] == [1]
        assert deploys.store.find(replace(KEY, name="b")) is None
        resolver.end = UnitEnd("success", 0)
        await serve(deploys)
        assert deploys.store.app("a").serving == 2

    beside(deploys.machine, story)
    assert resolver.asked == [CUSTOM] * 3


def test_one_that_leads_elsewhere_is_told(deploys: Deploys) -> None:
    """And served: it may be a router's address."""
    resolver, said = Resolver(deploys.machine), list[str]()
    resolver.lines = [f"{words.OURS}{words.ELSEWHERE}203.0.114.9"]

    async def story() -> None:
        await ordering(deploys)
        await serve(deploys, said)
        assert deploys.store.app("a").serving == 2

    beside(deploys.machine, story)
    assert [text for text in said if "leads to 203.0.114.9, none of this machine's" in text]


@pytest.mark.parametrize("error", [HostFailure("no such unit"), None])
def test_a_look_up_that_says_nothing_refuses_nothing(deploys: Deploys, error: HostFailure | None) -> None:
    """The order of its certificate says what is wrong then, if anything is."""
    resolver = Resolver(deploys.machine)
    resolver.error, resolver.end = error, UnitEnd("timeout", 15)

    async def story() -> None:
        await ordering(deploys)
        await serve(deploys)
        assert deploys.store.app("a").serving == 2

    beside(deploys.machine, story)


def test_nothing_is_looked_up_without_need(deploys: Deploys) -> None:
    """Without an authority the name has no effect, and what flyted deploys again by itself has its name already."""
    resolver, machine = Resolver(deploys.machine), deploys.machine
    resolver.end = NOWHERE

    async def story() -> None:
        await serve(deploys)
        assert deploys.store.app("a").serving == 2
        await ordering(deploys)
        machine.deployed("a", python_env=str(deploys.python), custom_domain=CUSTOM)
        await deploys.deploy.again(KEY, deploys.emit, "bob")
        assert deploys.store.app("a").serving == 4
        assert resolver.asked == []

    beside(machine, story)


def test_a_crowd_is_looked_up_in_turn(deploys: Deploys) -> None:
    """Whoever asks for many has no more units than a few at a time."""
    resolver = Resolver(deploys.machine)

    async def story() -> None:
        await ordering(deploys)
        wanted = [spec("b", custom_domain=f"n{number}.example.com") for number in range(20)]
        await asyncio.gather(*map(deploys.deploy.records.check, wanted))

    beside(deploys.machine, story)
    assert (len(resolver.asked), resolver.most) == (20, 4)
