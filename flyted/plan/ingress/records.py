"""Defines the unit that looks up where a custom domain leads, and decides by its answer. Pure.

flyted itself speaks to no other machine. Whether an address that is none of this machine's is right cannot be known:
it may be a router's, or a proxy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flyted.acme import words
from flyted.contract.errors import InvalidInput
from flyted.plan.facts import UnitEnd
from flyted.plan.images.build_unit import SANDBOX, machine_network
from flyted.plan.images.common_unit import own_lines, python_unit, variables
from flyted.plan.ingress.acme_unit import PROGRAM

LOOK_UP_MAX_S = 20
"""Seconds that a resolver has."""
_MEMORY_MAX = 64 << 20


def record_unit(name: str, output_fd: int | None, addresses: Sequence[str]) -> dict[str, Any]:
    """Return the properties of the transient service that looks a name up. It has nothing that it could keep.

    ``addresses``: the name servers in networks that are closed to apps.
    """
    common = python_unit(
        f"Look-up of {name}",
        [PROGRAM, words.RECORD, name],
        variables("/usr/bin:/bin", {}),
        tag="flyted-acme",
        memory_max=_MEMORY_MAX,
        tasks_max=8,
        output_fd=output_fd,
        runtime_max_s=LOOK_UP_MAX_S,
        user="",
    )
    closed = ["-/var/lib/flyted", "-/var/cache/flyted"]
    return {**common, **SANDBOX, **machine_network(addresses), "InaccessiblePaths": closed}


def check(name: str, end: UnitEnd, lines: Iterable[str]) -> str:
    """Return a note on where a custom domain leads, "" if there is none to make.

    Raises :class:`InvalidInput`, with the record to make, for a name of which the machine's resolver has no address. A
    look-up that takes too long, or fails otherwise, refuses nothing: the order of the certificate says it then.
    """
    said = own_lines(lines, words.OURS)
    own, elsewhere = ([line.removeprefix(mark) for line in said if line.startswith(mark)] for mark in _MARKS)
    record = f"make a DNS record: {name} to {' and '.join(own) or 'the address of your router'}"
    if end.result == "exit-code" and end.status in _NOWHERE:
        why = f"it has no address in DNS{_NOWHERE[end.status]}"
        raise InvalidInput(f"custom_domain={name!r} does not lead to this machine: {why}", hint=record)
    if not elsewhere:
        return ""
    return (
        f"custom_domain={name!r} leads to {', '.join(elsewhere)}, none of this machine's addresses: right if it is "
        f"your router's or a proxy's; else {record}"
    )


_MARKS = (words.OWN, words.ELSEWHERE)
_NOWHERE = {words.EX_NORECORD: "", words.EX_NOANSWER: " (this machine's name server does not answer for it)"}
