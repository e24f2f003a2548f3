"""The ingress's certificates and the local CA: kept in the vault, given to HAProxy as credentials, renewed in time."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flyted.contract.answers.machine import Authority
from flyted.contract.authority import FOLDER
from flyted.contract.errors import FlytedError, HostFailure, IngressDown, NotFound, StoreCorrupt
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.effects import Clock, Ingress
from flyted.daemon.ingress.ordered import OrderedCertificates
from flyted.daemon.ingress.site_certificates import kept
from flyted.host import ca, whole_file
from flyted.host.given_certificate import Given
from flyted.host.vault import Vault
from flyted.plan.ingress.certificates import Certificate, that_fit
from flyted.plan.ingress.sites import ACME, FILE, OWN_CA, WARN_S, Site, hosts
from flyted.plan.upkeep_facts import CertificateFact

log = logging.getLogger(__name__)

_CERT, _KEY = "ca-certificate", "ca-key"
_SOON_S, _LATER_S = 1.0, 60.0  # until a HAProxy that did not take certificates is told them again: longer each time
_AGAIN_S = 3600.0  # until the next try after a failure


class Tls:
    """The CAs of this machine, and a certificate for each base domain, issued when first asked for.

    The certificates are in memory only. An authority is good for the machine's own names and one base domain; it is
    kept, and one that is needed in its place is kept beside it, under the next number.

    ``ca_file``: where the certificate of the machine's own CA is written, for programs that want a path. ``sites()``
    returns the base domains besides the machine's own, and ``ordered`` has the certificates
    of ACME authorities for them.
    """

    def __init__(
        self, vault: Vault, ingress: Ingress, base_domain: str, ca_file: Path, clock: Clock,
        sites: Callable[[], Sequence[Site]] = tuple, ordered: OrderedCertificates | None = None,
    ) -> None:  # fmt: skip
        self._vault = vault
        self._clock = clock
        self._ca_file = ca_file
        self._ingress = ingress
        self._base_domain = base_domain
        self._sites = sites
        self._ordered = ordered
        self._authorities: dict[str, ca.Ca] = {}
        self._leaves: dict[str, ca.Leaf] = {}
        self._given: dict[str, Given] = {}
        self._certificates: tuple[Certificate, ...] | None = None
        self._left_out: tuple[str, ...] = ()
        self._told: frozenset[tuple[str, str]] | None = None  # of ACME authorities' certificates; None: not yet
        self._behind = False  # whether the ingress has failed to take what there is
        self._tell_at, self._pause_s = 0.0, _SOON_S
        self._tried: frozenset[tuple[str, str]] = frozenset()  # those that were there when it was told last
        self._fact = CertificateFact()

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {"ca.show": Verb(Right.READ, {}, self.show)}

    def site_pem(self) -> bytes:
        """Return certificate and key of the machine's own names. Raises :class:`StoreCorrupt` for a refused store."""
        return self.leaf(self._base_domain)

    def leaf(self, domain: str) -> bytes:
        """Return certificate and key for a base domain, signed here. Raises :class:`StoreCorrupt` as that."""
        if domain not in self._leaves:
            alone = domain != self._base_domain
            self._leaves[domain] = ca.issue_leaf(self.authority(domain), domain, self._now(), alone=alone)
        return self._leaves[domain].pem

    def given(self, domain: str) -> Given:
        """Return the certificate that was given for a base domain. Raises as :func:`site_certificates.kept`."""
        if domain not in self._given:
            self._given[domain] = kept(self._vault, domain)
        return self._given[domain]

    def certificates(self) -> tuple[Certificate, ...]:
        """Return the certificates of all sites that have one, the same until :meth:`renew`.

        If there is no room for all, those of stopped apps are left out first, and those for whole domains last.
        """
        if self._certificates is None:
            wanted = sorted(self._of_sites(), key=self._rank)
            self._certificates = that_fit(wanted)
            has = {each.name for each in self._certificates}
            self._left_out = tuple(each.name for each in wanted if each.name not in has)
            if self._left_out:
                log.error("the ingress has no room for the certificates of %s", ", ".join(self._left_out))
        return self._certificates

    def left_out(self) -> tuple[str, ...]:
        """Return the names of the certificates for which the ingress has no room."""
        self.certificates()
        return self._left_out

    def _rank(self, certificate: Certificate) -> int:
        if len(certificate.hosts) > 1:
            return 0
        return 1 if self._ordered is not None and certificate.name in self._ordered.names.ordered else 2

    def apply_at(self) -> float | None:
        """Return when to :meth:`apply`: the ingress has other certificates of ACME authorities than there are.

        ``None``: it has the right ones, or has been given none yet (:meth:`facts`). One that has not taken them is
        told again after a pause, and of new ones at once: it may just have been starting.
        """
        shown = self._shown()
        at = self._tell_at if shown == self._tried else 0.0
        if self._behind:
            matters = shown or self._told or (self._ordered is not None and self._ordered.issued.wanted())
            return at if matters else None
        return None if self._told in (None, shown) else at

    @property
    def told(self) -> frozenset[tuple[str, str]] | None:
        """The names and fingerprints of ACME authorities' certificates that the ingress has; ``None``: not known."""
        return self._told

    def _shown(self) -> frozenset[tuple[str, str]]:
        return self._ordered.shown() if self._ordered is not None else frozenset()

    def _of_sites(self) -> Iterator[Certificate]:
        for site in self._sites():
            try:
                yield from self._of_site(site)
            except FlytedError as error:
                log.error("%s has no certificate: %s", site.domain, error.message)  # noqa: TRY400

    def _of_site(self, site: Site) -> Iterator[Certificate]:
        """Yield a site's certificates.

        Until an authority has given one, names have the certificate that the operator gave before, or one that this
        machine signs. HAProxy prefers one for exactly a client's name to one with ``*``.
        """
        ordered: dict[str, Given] = {}
        if site.certificate == ACME and self._ordered is not None:
            ordered = dict(self._ordered.certificates(site.domain))
        every = ordered.pop(hosts(site.domain)[0], None)
        if site.certificate == FILE:
            every = self.given(site.domain)
        elif site.certificate == ACME and every is None:
            every = self.given_before(site.domain)
        pem = self.leaf(site.domain) if every is None else every.pem
        yield Certificate(site.domain, hosts(site.domain), pem)
        for name, found in ordered.items():
            yield Certificate(name, (name,), found.pem)

    def given_before(self, domain: str) -> Given | None:
        """Return the certificate that the operator gave for a domain before an authority was asked, if it is good."""
        with contextlib.suppress(FlytedError):  # mostly there is none
            found = self.given(domain)
            return found if found.begins.timestamp() <= self._clock.time() < found.ends.timestamp() else None
        return None

    async def show(self, _call: Call) -> Authority:
        """Return the CA's certificate, which is public. Raises :class:`StoreCorrupt` when the store is refused."""
        cert_pem = self.authority(self._base_domain).cert_pem
        return Authority(cert_pem.decode(), ca.fingerprint(cert_pem), tuple(ca.leaf_names(self._base_domain)))

    def facts(self) -> CertificateFact:
        """Return the validity of the ingress's certificates. At the daemon's start there is none."""
        return self._fact

    def clock_was_set(self) -> None:
        """Retry what failed immediately: the clock may have been the reason."""
        self._fact = dataclasses.replace(self._fact, again_at=None)

    async def renew(self) -> None:
        """Give the ingress new certificates. A failure is logged, and it is tried again an hour later.

        Also at the daemon's start: an ingress that kept running has the certificates of the previous daemon.
        """
        self._fact = dataclasses.replace(self._fact, again_at=self._clock.time() + _AGAIN_S)  # if it fails
        try:
            await self.give()
        except FlytedError as error:
            log.error("cannot replace the ingress's certificates: %s", error.message)  # noqa: TRY400

    async def apply(self) -> None:
        """Give the ingress the certificates that there are now. A failure is logged, and it is tried again."""
        self._certificates = None
        self._given.clear()
        self._tell_later()
        told = self._tried = self._shown()
        try:
            await self._ingress.apply_certificates()
        except FlytedError as error:
            log.error("cannot give the ingress the certificates of other domains: %s", error.message)  # noqa: TRY400
        else:
            self._took(told)

    async def give(self) -> None:
        """Give the ingress new certificates. If that fails it keeps those that it has: raises :class:`FlytedError`."""
        self._leaves.clear()
        self._given.clear()
        self._authorities.clear()
        self._certificates = None
        whole_file.write(self._ca_file, self.authority(self._base_domain).cert_pem)
        self._publish()
        pem, told = self.site_pem(), self._shown()
        self._tried = told
        try:
            await self._ingress.set_certificate(pem)
            await self._ingress.apply_certificates()
        except IngressDown:  # HAProxy asks for these when it starts; one that hangs has to be told again
            self._behind = True
            self._tell_later()
        else:
            self._took(told)
        begins, ends = ca.validity(pem)
        since = min(begins.timestamp(), self._clock.time())  # before the authority's begin, no other one can be had
        dues = [ca.renew_at(begins, ends).timestamp(), *self._ending()]
        self._fact = CertificateFact(since, min(dues))

    def _tell_later(self) -> None:
        """Tell the ingress again after a pause, unless it takes the certificates now."""
        self._tell_at = self._clock.time() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LATER_S)

    def _took(self, told: frozenset[tuple[str, str]]) -> None:
        """Note that the ingress has taken these certificates of ACME authorities."""
        self._told, self._behind, self._tell_at, self._pause_s = told, False, 0.0, _SOON_S

    def _publish(self) -> None:
        """Write the authorities of sites where the gateway finds them, and remove those that are not used any more."""
        folder = self._ca_file.with_name(Path(FOLDER).name)
        used = {f"{site.domain}.pem": site.domain for site in self._sites() if site.certificate == OWN_CA}
        try:
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
            for old in folder.iterdir():
                if old.name not in used:
                    old.unlink()
        except OSError as error:
            raise HostFailure(f"cannot change {folder}: {error.strerror}", hint=f"ls -ld {folder}") from error
        for name, domain in used.items():
            whole_file.update(folder / name, self.authority(domain).cert_pem)

    def _ending(self) -> Iterator[float]:
        """Yield when to look again at each certificate that flyted cannot renew; warn of those that end soon."""
        now = self._clock.time()
        for site in self._sites():
            with contextlib.suppress(FlytedError):  # logged already
                if site.certificate == ACME and (before := self.given_before(site.domain)) is not None:
                    yield before.ends.timestamp()
                if site.certificate != FILE:
                    continue
                ends = self.given(site.domain).ends.timestamp()
                if now < ends - WARN_S:
                    yield ends - WARN_S
                    continue
                day = f"{dt.datetime.fromtimestamp(ends, dt.UTC):%Y-%m-%d}"
                log.warning(
                    "the certificate of %s %s on %s: sudo flytectl domain cert %s --cert FILE --key FILE",
                    site.domain, "ends" if now < ends else "ended", day, site.domain,
                )  # fmt: skip
                if now < ends:
                    yield ends

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.time(), dt.UTC)

    def authority(self, domain: str) -> ca.Ca:
        """Return the CA of a base domain, made if there is none. Raises :class:`StoreCorrupt` for a refused store."""
        if domain not in self._authorities:
            self._authorities[domain] = self._load_or_make(domain)
        return self._authorities[domain]

    def _load_or_make(self, domain: str) -> ca.Ca:
        kept_ones = list(self._kept())
        chosen = ca.chosen([each for each in kept_ones if each is not None], domain, self._clock.time())
        if chosen is not None:
            return chosen
        number = len(kept_ones) + 1
        made = ca.new_ca(domain, self._now(), alone=domain != self._base_domain)
        self._vault.put_internal(_numbered(_KEY, number), made.key_pem)
        self._vault.put_internal(_numbered(_CERT, number), made.cert_pem)
        if number == 1 or domain != self._base_domain:
            log.info("created a local certificate authority for %s", domain)
        else:
            log.warning(
                "created another local certificate authority for %s, since no earlier one can sign any more: "
                "every client has to trust it (flytectl ca install)", domain,
            )  # fmt: skip
        return made

    def _kept(self) -> Iterator[ca.Ca | None]:
        """Yield the authorities that were made until now, oldest first; ``None`` for one that is damaged.

        Raises :class:`StoreCorrupt` when the whole store is refused.
        """
        for number in itertools.count(1):
            try:
                cert = self._vault.get_internal(_numbered(_CERT, number))
            except NotFound:
                return
            except StoreCorrupt:
                cert = b""
            try:
                found = ca.Ca(cert, self._vault.get_internal(_numbered(_KEY, number)))
                ca.check(found)
            except (NotFound, StoreCorrupt) as error:
                if self._vault.refusal is not None:
                    raise
                log.error("certificate authority %d is not used: %s", number, error.message)  # noqa: TRY400
                yield None
            else:
                yield found


def _numbered(name: str, number: int) -> str:
    """Return the name in the vault: the first CA has the bare name, as in flyted 0.1.0, which never had a second."""
    return name if number == 1 else f"{name}-{number}"
