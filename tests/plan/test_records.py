"""The unit that looks a custom domain up, and what is decided by its answer."""

from __future__ import annotations

import pytest

from flyted.acme import words
from flyted.contract.errors import InvalidInput
from flyted.plan.facts import UnitEnd
from flyted.plan.ingress.records import check, record_unit

NAME = "chat.example.com"
OWN = [f"{words.OURS}{words.OWN}203.0.114.7", f"{words.OURS}{words.OWN}2001:db9::7"]
WELL = UnitEnd("success", 0)


def test_the_unit_has_nothing() -> None:
    """Neither a credential nor a right nor a folder to write; and it does not wait for ever."""
    unit = record_unit(NAME, 7, ("127.0.0.53",))
    assert unit["ExecStartEx"][0][1][-2:] == [words.RECORD, NAME]
    assert unit["DynamicUser"]
    assert (unit["CapabilityBoundingSet"], unit["NoNewPrivileges"], unit["ProtectSystem"]) == (0, True, "strict")
    assert {"User", "LoadCredential", "BindPaths", "ReadWritePaths"}.isdisjoint(unit)
    assert unit["InaccessiblePaths"] == ["-/var/lib/flyted", "-/var/cache/flyted"]
    assert unit["RuntimeMaxUSec"] == 20_000_000
    assert unit["StandardOutputFileDescriptor"] == 7


@pytest.mark.parametrize(
    ("lines", "hint"),
    [
        (OWN, f"make a DNS record: {NAME} to 203.0.114.7 and 2001:db9::7"),
        ([], f"make a DNS record: {NAME} to the address of your router"),
    ],
)
def test_a_name_without_a_record(lines: list[str], hint: str) -> None:
    with pytest.raises(InvalidInput, match="does not lead to this machine: it has no address in DNS") as caught:
        check(NAME, UnitEnd("exit-code", words.EX_NORECORD), lines)
    assert caught.value.hint == hint


def test_a_name_server_that_does_not_answer_is_named() -> None:
    """As it may have no answer just now, or the name's zone may be broken."""
    with pytest.raises(InvalidInput, match=r"has no address in DNS \(this machine's name server does not answer"):
        check(NAME, UnitEnd("exit-code", words.EX_NOANSWER), OWN)


def test_a_name_that_leads_elsewhere_is_told() -> None:
    """It may be a router's address."""
    said = check(NAME, WELL, [*OWN[:1], f"{words.OURS}{words.ELSEWHERE}203.0.114.9"])
    assert said.startswith(f"custom_domain='{NAME}' leads to 203.0.114.9, none of this machine's addresses")
    assert said.endswith(f"else make a DNS record: {NAME} to 203.0.114.7")
    assert check(NAME, WELL, OWN) == ""


@pytest.mark.parametrize(
    "end",
    [UnitEnd("exit-code", words.EX_SOFTWARE), UnitEnd("timeout", 15), UnitEnd("signal", words.EX_NORECORD)],
)
def test_no_answer_refuses_nothing(end: UnitEnd) -> None:
    assert check(NAME, end, OWN) == ""
