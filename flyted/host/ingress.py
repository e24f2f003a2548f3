"""HAProxy's files, and what a running HAProxy is told. The decisions are made in ``plan/ingress``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flyted.contract.errors import HostFailure, IngressDown
from flyted.host import twins, whole_file
from flyted.host.haproxy import ADMIN, WHY, Haproxy, check
from flyted.plan.idle import Traffic
from flyted.plan.ingress import answers as ingress_answers
from flyted.plan.ingress import certificates as ingress_certificates
from flyted.plan.ingress import changes as ingress_changes
from flyted.plan.ingress import config as ingress_config
from flyted.plan.ingress import kept
from flyted.plan.ingress import maps as ingress_maps
from flyted.plan.ingress import pools as ingress_pools
from flyted.plan.ingress import state as ingress
from flyted.plan.ingress.auth import TOKENS, USES, USES_KEPT_S
from flyted.plan.ingress.no_wake import UNCOUNTED

MOST_NAMED = 32
"""The most servers whose counters are asked for one by one."""
_MAKES = re.compile("(?:add|del) server ")
EVERY = "-1 4 -1"
"""All servers of all backends, in ``show stat``."""


@dataclass(frozen=True)
class Applied:
    """The work that :meth:`Ingress.apply` left to do."""

    draining: frozenset[str] = frozenset()  # servers that still answer requests; apply again later to remove them
    other_rules: bool = False  # HAProxy runs with other ports or rules than the files now have, and was not updated


class Ingress:
    """One HAProxy. ``places``: the paths that it uses itself. ``admin``: the admin socket's path for flyted.

    ``files``: the folder of HAProxy's files. ``timeout_s``: seconds that HAProxy may take for the answer to a command.
    ``tokens()`` returns the table of tokens, key → value, as it should be now (daemon/access/ingress_tokens.py), and
    ``certificates()`` the certificates of other base domains (daemon/ingress/tls.py).
    """

    def __init__(
        self,
        admin: Path = ADMIN,
        files: Path = Path(ingress.FILES),
        *,
        places: ingress_config.HaproxyPaths = ingress_config.STANDARD,
        timeout_s: float = 5.0,
        tokens: Callable[[], Mapping[str, str]] = dict,
        certificates: Callable[[], Sequence[ingress_certificates.Certificate]] = tuple,
    ) -> None:
        self._haproxy, self._files = Haproxy(admin, timeout_s), files
        self._places = replace(places, files=str(files))
        self._telling = asyncio.Lock()
        self._done: tuple[ingress.IngressState, ingress.Listen] | None = None  # what HAProxy has, as far as we know
        self._forgotten = self._times_told = 0
        self._process = ""
        self._rules = ""
        self._ids: dict[str, tuple[str, ...]] = {}  # how each server is asked for; (): HAProxy does not know it
        self._changing = asyncio.Lock()
        self._twins: dict[str, bool] = {}  # as in Live, while _done is known
        self.tokens = tokens
        self.certificates = certificates
        self._shown: dict[str, bytes] = {}  # by its path, what HAProxy was told to show for other base domains
        self._written: tuple[ingress_certificates.Certificate, ...] | None = None

    def write(
        self, wanted: ingress.IngressState, listen: ingress.Listen, known: ingress.IngressState | None = None
    ) -> None:
        """Write the files that differ from the wanted state, each atomically: HAProxy reads them at its next start.

        ``known``: the state that the maps on disk have; those that stay the same are not made again.

        Raises :class:`InvalidInput` when a host leads nowhere (nothing is written), :class:`HostFailure` when the disk
        refuses.
        """
        texts = {
            ingress_pools.LUA_FILE: ingress_pools.script(str(self._files)),
            ingress_config.CONFIG: ingress_config.render_config(wanted, listen, self._places),
            **ingress_maps.render_maps(wanted, known),
        }
        for name, text in texts.items():
            whole_file.update(self._files / name, text.encode())
        self.write_tokens()
        self.write_certificates()

    def write_tokens(self) -> Mapping[str, str]:
        """Write the table of tokens (``plan/tokens.py``), which HAProxy reads when it starts, and return it.

        The table says who has tokens, so only HAProxy may read it: the file gets HAProxy's group from the folder.
        Raises :class:`HostFailure` when the disk refuses.
        """
        tokens = self.tokens()
        whole_file.update(self._files / TOKENS, ingress_maps.map_text(tokens).encode(), mode=0o640)
        return tokens

    async def apply_tokens(self) -> None:
        """Write the table of tokens, then send the running HAProxy the difference.

        Calls run one after the other, each with the tokens that there are when its turn comes, so that HAProxy gets
        the newest ones last. Raises as :meth:`apply`.
        """
        async with self._telling:
            tokens = self.write_tokens()
            have = ingress_answers.parse_show_map(await self._haproxy.ask(f"show map {self._files}/{TOKENS}"))
            for command in ingress_changes.token_changes(have, tokens, str(self._files)):
                await self._haproxy.tell(command)

    async def token_uses(self) -> dict[str, float]:
        """Return how many seconds ago each token was last used at an app since HAProxy's start, by digest.

        Raises :class:`IngressDown` if HAProxy does not answer.
        """
        return ingress_answers.parse_uses(await self._haproxy.ask(f"show table {USES}"), USES_KEPT_S)

    async def read(self) -> ingress.Live:
        """Return the servers, maps and counters that HAProxy has.

        Raises :class:`IngressDown` if HAProxy does not answer, :class:`HostFailure` if the answer makes no sense.
        """
        stat = await self._haproxy.ask(f"show stat {EVERY}")
        maps = {name: await self._haproxy.ask(f"show map {self._files}/{name}") for name in ingress.TABLES}
        return ingress_answers.parse_live(stat, await self._haproxy.ask("show info"), maps)

    async def apply(
        self, wanted: ingress.IngressState, listen: ingress.Listen, touched: Collection[str] = ()
    ) -> Applied:
        """Write the files, then send the running HAProxy the difference; no connection is dropped.

        May be repeated: HAProxy is asked nothing when the same was applied last and nothing has happened since
        (:meth:`forget`). ``touched``: servers to which no connection is kept, whatever is wanted: work on them has
        begun since, or may begin while this method waits.

        Raises :class:`IngressDown` if HAProxy does not answer (the files are written, so it serves them after its next
        start), :class:`HostFailure` with HAProxy's own words if it refuses a command; and as :meth:`write`.
        """
        async with self._changing:
            return await self._apply(wanted, listen, touched)

    async def _apply(
        self, wanted: ingress.IngressState, listen: ingress.Listen, touched: Collection[str]
    ) -> Applied:  # fmt: skip
        told, wanted = self._done, kept.without(wanted, touched)
        if (wanted, listen) == told:
            return Applied()
        self.forget()
        forgotten = self._forgotten
        known = told[0] if told is not None else None
        self.write(wanted, listen, known)
        counted = await self._counted(known.servers.keys() - wanted.servers.keys() if known is not None else ())
        if counted.structure != ingress_config.structure(listen, self._places):
            return Applied(other_rules=True)  # with the rules of another version it may not even have the tables
        same, forgotten = forgotten == self._forgotten, self._forgotten
        live = self._as_told(known, counted) if known is not None and same else await self.read()
        wanted = kept.without(wanted, touched)  # those of the time that has passed, too
        still = set(ingress_changes.draining(live, wanted))
        commands = ingress_changes.changes(live, wanted, str(self._files))
        if commands:
            still |= await self._tell_all(commands)
        self._twins = kept.after(live.twins, commands)
        await self.apply_tokens()
        if not still and forgotten == self._forgotten:
            self._done = (wanted, listen)
        return Applied(frozenset(still))

    def _as_told(self, known: ingress.IngressState, counted: ingress_answers.Counted) -> ingress.Live:
        resting = frozenset(server.name for server in known.servers.values() if server.rests)
        keeps = kept.table(known.servers.values())
        return ingress.Live(known, counted.traffic, resting, kept=keeps, twins=dict(self._twins))

    async def end_kept(self, server: str) -> None:
        """Send no request over a kept connection to a server that is to stop, and end the idle ones (plan's kept.py).

        Requests that such connections have are waited for, but not for long: none follows on them, and an app that
        stops finishes those that it has. Raises as :meth:`stats`.
        """
        twin = kept.twin(server)
        async with self._changing:
            told = self._done
            if told is not None and not self._twins.get(twin):
                return
            await self._counted([server])
            words = kept.words_of(self._ids.get(server, ()))
            await self._haproxy.ask(f"del map {self._files}/{ingress.KEPT} {server}")
            if told is not None and told == self._done:
                self._done = (kept.without(told[0], [server]), told[1])
        if words:
            await twins.close(self._haproxy, server, words)
        if twin in self._twins:  # it may have gone meanwhile
            self._twins[twin] = False

    async def _tell_all(self, commands: list[str]) -> set[str]:
        """Send commands to HAProxy; return the servers that it does not delete yet, since they answer requests."""
        still = set()
        try:
            for command in commands:
                answer = await self._haproxy.ask(command)
                if ingress_answers.still_draining(command, answer):
                    still.add(command.rpartition("/")[2])
                else:
                    check(command, answer)
                if command.startswith("del server "):  # most have none there
                    await self._haproxy.ask(f"del map {self._files}/{UNCOUNTED} {command.rpartition('/')[2]}")
        finally:  # also after a command whose answer was lost
            self._times_told += 1
            changed = {command.split()[2].rpartition("/")[2] for command in commands if _MAKES.match(command)}
            self._ids = {name: words for name, words in self._ids.items() if words and name not in changed}
        return still

    def forget(self) -> None:
        """Make the next :meth:`apply` ask what HAProxy has: its unit changed, or may have."""
        self._done, self._rules, self._forgotten = None, "", self._forgotten + 1

    async def rules(self) -> str:
        """Return the digest of the rules that HAProxy was started with; it is asked once, until :meth:`forget`.

        Raises as :meth:`stats`.
        """
        return self._rules or (await self._counted(())).structure

    async def answers_calls(self) -> bool:
        """Report whether the running HAProxy listens for calls between apps. Raises :class:`IngressDown`."""
        return "\ninternal,FRONTEND," in await self._haproxy.ask("show stat internal 1 -1")

    async def stats(self, servers: Collection[str] | None = None) -> dict[str, Traffic]:
        """Return the counters of these servers, of those that HAProxy has, or of all; for ``plan/idle.py``.

        If another HAProxy process answers than the last time, the next :meth:`apply` asks what it has. Raises
        :class:`IngressDown` if HAProxy does not answer, :class:`HostFailure` if the answer makes no sense.
        """
        traffic = (await self._counted(servers)).traffic
        return {name: found for name, found in traffic.items() if servers is None or name in servers}

    async def _counted(self, servers: Collection[str] | None) -> ingress_answers.Counted:
        """Return who answers, and the counters of these servers and perhaps of others, in one question.

        HAProxy counts for each of its servers in a hundred and fifty columns, and finds a server by number alone, but
        all servers of a pool together. So it is asked for all while the number of one is not known.
        """
        which = [EVERY]
        if servers is not None and self._ids.keys() >= set(servers):
            named = list(dict.fromkeys(words for name in servers for words in self._ids[name]))
            which = named if len(named) <= MOST_NAMED else which
        about = [f"show stat {words}" for words in which]
        about += [f"show map {self._files}/{UNCOUNTED}"] if about else []
        told = self._times_told
        counted = ingress_answers.parse_counted(await self._haproxy.ask("; ".join(["show info", *about])))
        self._rules = counted.structure
        every = which == [EVERY]
        if counted.process != self._process:
            self._process, self._ids, self._shown = counted.process, {}, {}
            self.forget()
        if every:
            missing = servers or () if told == self._times_told else ()  # else they may have come since the question
            self._ids = {**dict.fromkeys(missing, ()), **counted.ids}
        elif any(not set(self._ids.get(n, "?")) <= set(counted.ids.get(n, ())) for n in servers or ()):
            self._ids = {}  # another process has other numbers, and so has a re-created server
            return await self._counted(servers)
        return counted

    async def set_certificate(self, pem: bytes) -> None:
        """Replace certificate and key of the machine's own base domain in the running HAProxy.

        HAProxy reads the credential at each start. Raises :class:`HostFailure` if HAProxy refuses (the old one
        stays in use), :class:`IngressDown` if it does not answer.
        """
        async with self._telling:
            await self._replace(self._places.certificate, pem)

    async def apply_certificates(self) -> None:
        """Tell the running HAProxy what differs in the certificates of other base domains, then write them.

        HAProxy reads what is written at its next start, and could not start with a certificate that it refuses. If it
        is not running, the certificates are only written. Connections keep the certificates that they have, and a
        name that keeps its certificate is never without it. Raises as :meth:`set_certificate`.
        """
        async with self._telling:
            try:
                unwanted = await self._tell_certificates(self.certificates())
            except IngressDown:
                self.write_certificates()
                raise
            self.write_certificates()
            for path in unwanted:
                self._shown.pop(path, None)
                await self._haproxy.tell(f"del ssl crt-list {self._list} {path}")
                await self._haproxy.tell(f"del ssl cert {path}")

    async def _tell_certificates(self, wanted: Sequence[ingress_certificates.Certificate]) -> list[str]:
        """Give HAProxy these certificates; return the paths of those that it has besides."""
        prefix = self._places.site_files
        have = ingress_certificates.parse_list(await self._haproxy.ask(f"show ssl crt-list {self._list}"))
        for each in wanted:
            path = f"{prefix}{each.name}"
            if path in have and self._shown.get(path) == each.pem:
                continue
            if path not in have:
                await self._haproxy.ask(f"new ssl cert {path}")  # which is refused if it is there, but not in use
            await self._replace(path, each.pem)
            self._shown[path] = each.pem
            if path not in have:
                await self._haproxy.tell(
                    f"add ssl crt-list {self._list} <<\n{ingress_certificates.line(each, prefix)}\n"
                )
        return sorted(have.keys() - {f"{prefix}{each.name}" for each in wanted})

    @property
    def _list(self) -> str:
        return f"{self._files}/{ingress_certificates.LIST}"

    def write_certificates(self) -> tuple[ingress_certificates.Certificate, ...]:
        """Write what HAProxy reads when it starts: a file for each certificate, and their list. Return them.

        Raises :class:`HostFailure` when the disk refuses.
        """
        wanted, folder = tuple(self.certificates()), Path(self._places.site_folder)
        if wanted == self._written:
            return wanted
        for each in wanted:
            whole_file.update(folder / each.name, each.pem, mode=0o600)
        text = ingress_certificates.list_text(wanted, self._places.site_files)
        whole_file.update(self._files / ingress_certificates.LIST, text.encode())
        names = {each.name for each in wanted}
        for path in list(folder.iterdir()) if folder.is_dir() else []:
            if path.name not in names:
                path.unlink(missing_ok=True)
        self._written = wanted
        return wanted

    async def _replace(self, path: str, pem: bytes) -> None:
        body = "\n".join(line for line in pem.decode("ascii").splitlines() if line.strip())
        said = await self._haproxy.ask(f"set ssl cert {path} <<\n{body}\n", secret=True)
        if "Transaction" in said:
            done = await self._haproxy.ask(f"commit ssl cert {path}")
            if "Success" in done:
                return
            said = done
            await self._haproxy.ask(f"abort ssl cert {path}")
        raise HostFailure(f"HAProxy refused the new certificate: {' '.join(said.split())}", hint=WHY)
