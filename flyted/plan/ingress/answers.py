"""Parses the answers of HAProxy's runtime API. Pure; the formats are in HAProxy's management.txt, section 9."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from flyted.contract.errors import HostFailure, InvalidInput
from flyted.contract.names import printable
from flyted.plan.idle import Traffic
from flyted.plan.ingress import kept, no_wake
from flyted.plan.ingress.auth import GUARDED
from flyted.plan.ingress.clients import LIMITS
from flyted.plan.ingress.paths import OPEN_PATHS, RESTRICTED
from flyted.plan.ingress.start_page import COLD, STEPS
from flyted.plan.ingress.state import (
    AUTHORITIES,
    BACKEND,
    CALLERS,
    CALLS,
    CHALLENGES,
    DEFAULT_MAXCONN,
    DOMAINS,
    HOSTS,
    KEPT,
    NAMES,
    POOL,
    REDIRECTS,
    STICKY,
    TIMEOUTS,
    UNAVAILABLE,
    WATCHED,
    IngressState,
    Live,
    Server,
    Unavailable,
)

_SAID_AT_SUCCESS = {
    "add server": "New server registered.",
    "del server": "Server deleted.",
}
_SSL_DONE = re.compile(r"Success|deleted|Inserting certificate .* in crt-list ")
"""What ``add ssl`` and ``del ssl`` say at success, among names."""
_COLUMNS = frozenset(
    ["pxname", "svname", "sid", "status", "slim", "scur", "qcur", "stot", "req_tot", "lastsess", "ttime_max"]
)
"""The columns that are read, out of some hundred and fifty."""
_STAT = re.compile(r"^# pxname,", re.MULTILINE)
_USE = re.compile(r"0x[0-9a-f]+: key=(?P<key>[0-9a-f]{64}) use=[0-9]+ exp=(?P<left_ms>[0-9]+)\b")
_STILL_USED = "still has connections attached"


def parse_show_map(text: str) -> dict[str, str]:
    """Parse ``show map FILE``: a line ``<reference> <key> <value>`` each. The first entry of a key counts.

    Raises :class:`HostFailure` for a line of another form.
    """
    entries: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split(" ", 2)
        if len(words) == 3 and words[0].startswith("0x"):
            entries.setdefault(words[1], words[2])
        elif line.strip():
            raise HostFailure(f"HAProxy's map cannot be read: {printable(line)}")
    return entries


def parse_uses(text: str, kept_s: float) -> dict[str, float]:
    """Parse ``show table NAME``: return the seconds since the last use of each key.

    ``kept_s``: the seconds after its last use at which the table forgets a key.
    """
    found = (_USE.match(line) for line in text.splitlines())
    return {use["key"]: max(0.0, kept_s - int(use["left_ms"]) / 1000) for use in found if use is not None}


def parse_show_stat(text: str) -> list[dict[str, str]]:
    """Parse ``show stat BACKEND 4 -1``: one row per app's server or twin, with the columns that there are.

    Raises :class:`HostFailure` for a text of another form.
    """
    header, _, rows = text.strip().partition("\n")
    if not header.startswith("# pxname,svname,"):
        raise HostFailure(f"HAProxy's counters cannot be read: {printable(header)}")
    names = enumerate(header.removeprefix("# ").split(","))
    columns = [(name, number) for number, name in names if name in _COLUMNS]
    return [
        {name: row[number] for name, number in columns if number < len(row)}
        for row in csv.reader(rows.splitlines())
        if row and (row[0] == BACKEND or POOL.fullmatch(row[0]) or row[0] == kept.BACKEND)
    ]


def traffic_of(row: dict[str, str], info: dict[str, str]) -> Traffic:
    """Return the counters in one server's row. Raises :class:`HostFailure` for one that is not a number.

    ``info``: as of :func:`parse_show_info`; it names the process that counted.
    """
    age = _number(row, "lastsess", -1)
    return Traffic(
        in_flight=_number(row, "scur"),
        queued=_number(row, "qcur"),
        started=_number(row, "stot"),
        answered=_number(row, "req_tot"),
        last_start_age_s=None if age < 0 else float(age),
        longest_s=_number(row, "ttime_max") / 1000,
        process=process_of(info),
        uptime_s=float(_number(info, "Uptime_sec")),
    )


def process_of(info: dict[str, str]) -> str:
    """Return which process answered, from :func:`parse_show_info`: a restarted HAProxy is another one."""
    return f"{info.get('Pid', '')}@{info.get('Start_time_sec', '')}"


def _number(row: dict[str, str], name: str, missing: int = 0) -> int:
    try:
        return int(row.get(name) or missing)
    except ValueError as error:
        raise HostFailure(f"HAProxy's counter {name} is not a number: {printable(row[name])}") from error


def parse_show_info(text: str) -> dict[str, str]:
    """Parse ``show info``: a line ``Name: value`` each."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


@dataclass(frozen=True)
class Counted:
    """HAProxy's counters. ``ids``: server → what follows ``show stat`` to find it, and its twin if it has one.

    ``traffic``: server → the counters of both. ``structure``: as Live's.
    """

    traffic: Mapping[str, Traffic]
    ids: Mapping[str, tuple[str, ...]]
    process: str
    structure: str


def parse_counted(text: str) -> Counted:
    """Parse ``show info``, and what was asked for behind it in the same line.

    That is each ``show stat``, then the map of answers that keep no app awake (no_wake.py).

    Raises :class:`HostFailure` for an answer that is not valid.
    """
    info, *stats = _STAT.split(text)
    about = parse_show_info(info)
    rows = [row for stat in stats for row in parse_show_stat(f"# pxname,{stat}")]
    ids: dict[str, tuple[str, ...]] = {}
    for row in rows:
        ids[row["svname"]] = (*ids.get(row["svname"], ()), _asked_by(row))
    uncounted = no_wake.parse_counts(text)
    traffic = {n: replace(t, uncounted=uncounted.get(n, 0)) for n, t in _traffic(rows, about).items()}
    return Counted(traffic, ids, process_of(about), structure_of(info))


def _traffic(rows: Iterable[dict[str, str]], about: dict[str, str]) -> dict[str, Traffic]:
    """Return the counters by server; those of its twin are among them."""
    found: dict[str, Traffic] = {}
    for row in rows:
        name, counted = row["svname"], traffic_of(row, about)
        found[name] = counted + found[name] if name in found else counted
    return found


def _asked_by(row: dict[str, str]) -> str:
    """Return the words by which a server is asked for: by its number, or all servers of its pool together."""
    return f"{row['pxname']} 4 {row.get('sid', '') if row['pxname'] in (BACKEND, kept.BACKEND) else -1}"


def parse_live(stat: str, info: str, maps: Mapping[str, str]) -> Live:
    """Return everything that HAProxy has, from its answers. ``maps``: by file name.

    Raises :class:`HostFailure` for an answer that is not valid, or an entry that flyted did not make.
    """
    tables = {name: parse_show_map(text) for name, text in maps.items()}
    found, about = parse_show_stat(stat), parse_show_info(info)
    rows = {row["svname"]: row for row in found if row["pxname"] != kept.BACKEND}
    twins = {f"{row['pxname']}/{row['svname']}": not _rests(row) for row in found if row["pxname"] == kept.BACKEND}
    try:
        servers = {n: _server(n, row) for n, row in rows.items()}
        state = IngressState(
            servers=servers,
            hosts=tables[HOSTS],
            domains=tables[DOMAINS],
            redirects=tables[REDIRECTS],
            names=tables[NAMES],
            challenges=tables[CHALLENGES],
            authorities=tables[AUTHORITIES],
            timeouts_ms={n: int(ms) for n, ms in tables[TIMEOUTS].items()},
            unavailable={host: _reason(value) for host, value in tables[UNAVAILABLE].items()},
            limits=tables[LIMITS],
            guarded=tables[GUARDED],
            restricted=tables[RESTRICTED],
            open_paths=tables[OPEN_PATHS],
            sticky=tables[STICKY],
            callers=tables[CALLERS],
            calls=tables[CALLS],
            watched={n: int(load) for n, load in tables[WATCHED].items()},
            awake=tables[no_wake.AWAKE],
            cold=tables[COLD],
            steps=tables[STEPS],
        )
        keeps = kept.checked(tables[KEPT])
    except (InvalidInput, ValueError) as error:
        raise HostFailure(
            f"HAProxy has an entry that flyted did not create: {error}", hint="systemctl restart flyted-ingress"
        ) from error
    return Live(
        state=state,
        traffic=_traffic(found, about),
        resting=frozenset(n for n, r in rows.items() if _rests(r)),
        structure=structure_of(info),
        kept=keeps,
        twins=twins,
    )


def _server(name: str, row: dict[str, str]) -> Server:
    pool = "" if row["pxname"] == BACKEND else row["pxname"]
    return Server(name, "", _number(row, "slim") or DEFAULT_MAXCONN, pool=pool, rests=bool(pool) and _rests(row))


def _rests(row: dict[str, str]) -> bool:
    return row["status"].startswith("MAINT")


def structure_of(info: str) -> str:
    """Return the digest of the rules that HAProxy was started with (``config.structure``).

    ``info``: the answer to ``show info``.
    """
    about = parse_show_info(info)
    return about.get("Description") or about.get("description", "")


def _reason(value: str) -> Unavailable:
    retry, _, reason = value.partition(" ")
    return Unavailable(reason, int(retry))


def still_draining(command: str, answer: str) -> bool:
    """Report whether HAProxy refused ``del server`` because a request is in flight: not an error, try again later."""
    return command.startswith("del server ") and _STILL_USED in answer


def refusal(command: str, answer: str) -> str:
    """Return HAProxy's own words if it refused a command that changes something; ``""`` if the command was done."""
    said, words = " ".join(answer.split()), command.split()[:2]
    if words[1:] == ["ssl"]:
        return "" if _SSL_DONE.search(said) else said or "no answer"
    return "" if said == _SAID_AT_SUCCESS.get(" ".join(words), "") else said or "no answer"
