"""Defines what the ingress logs of a request: an entry of the journal with fields of its own. Pure.

HAProxy sends each line as a datagram to journald, in journald's own protocol: a field a line. No field has a query
string, since tokens travel in those, and none can have a line break: HAProxy refuses requests with one in their path,
host or method, and user names have none. Source: systemd's JOURNAL_NATIVE_PROTOCOL, HAProxy's configuration.txt (8.2).
"""

from __future__ import annotations

from functools import lru_cache

JOURNAL = "/run/systemd/journal/socket"
_LONGEST = 65000
"""The longest entry in bytes: HAProxy's own limit is one KiB, which a path may have alone."""
_OURS = r"\nPRIORITY=6\nSYSLOG_IDENTIFIER=flyted-ingress\nFLYTED_CLIENT=%[src]"
_LINE = "%[src] %ft %s %HM %[var(txn.host)]%[var(txn.path)] %ST %tsc %Tw/%Tc/%Tr/%Ta ms"
_MORE = " %B bytes %[var(txn.user)]"
FIELDS = {
    "FLYTED_SERVER": "%s", "FLYTED_METHOD": "%HM", "FLYTED_HOST": "%[var(txn.host)]", "FLYTED_STATUS": "%ST",
    "FLYTED_MS": "%Ta", "FLYTED_PATH": "%[var(txn.path)]",
}  # fmt: skip
"""The fields of each request that is logged, and what HAProxy has for them."""
MORE_FIELDS = {"FLYTED_BYTES": "%B", "FLYTED_USER": "%[var(txn.user)]"}
"""Those that it has besides, where each request is logged."""


@lru_cache(maxsize=8)
def rules(journal: str, *, each: bool) -> str:
    """Return what the defaults of all frontends have. ``each``: log each request, not only those that fail."""
    fields = {**FIELDS, **(MORE_FIELDS if each else {})}
    line = "".join([_LINE, _MORE if each else "", _OURS, *(rf"\n{name}={value}" for name, value in fields.items())])
    quiet = [] if each else ["option dontlog-normal"]
    lines = [
        f"log unix@{journal} len {_LONGEST} format raw daemon",
        *quiet,
        "option dontlognull",
        f'log-format "MESSAGE={line}"',
        f'error-log-format "MESSAGE=%[src] %ft: %[fc_err_str]{_OURS}"',
    ]
    return "".join(f"    {line}\n" for line in lines)
