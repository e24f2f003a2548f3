"""Says what there is of each base domain: its certificates, the orders for them, and what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from flyted.contract.answers.domains import DomainStatus, OrderStatus, RevocationStatus
from flyted.contract.errors import FlytedError
from flyted.contract.names import own_host
from flyted.daemon.config import Config
from flyted.daemon.effects import Clock
from flyted.daemon.ingress.acme import Acme
from flyted.daemon.ingress.ordered import ONE_FOR_ALL
from flyted.daemon.ingress.tls import Tls
from flyted.host import avahi, ca
from flyted.host.sites import Sites
from flyted.plan.ingress import sites
from flyted.plan.ingress.orders import due
from flyted.plan.ingress.revocations import WANTED, Issued
from flyted.plan.ingress.sites import OWN_CA, WARN_S, AcmeSettings, Site, is_multicast


class DomainStatuses:
    """What clients are told of base domains. ``table``: all of them."""

    def __init__(self, table: Sites, tls: Tls, acme: Acme, config: Config, clock: Clock) -> None:
        self._table = table
        self._tls = tls
        self._acme = acme
        self._config = config
        self._clock = clock

    def all(self) -> tuple[DomainStatus, ...]:
        """Return what there is of each base domain besides the machine's own, oldest first."""
        return tuple(self.of(site) for site in self._table.all())

    def of(self, site: Site) -> DomainStatus:
        """Return what there is of one base domain."""
        listen, ordered = self._config.listen, dict(self._acme.kept.certificates(site.domain))
        kept = None
        if site.acme is not None and sites.hosts(site.domain)[0] not in ordered:
            kept = self._tls.given_before(site.domain)
        found, revocations = self._certified(site), self._revocations(self._acme.kept.issued_at(site.domain))
        wrong = next((each for each in revocations if each.problem), None)
        if wrong is not None and not found.problem:
            found = dataclasses.replace(found, problem=wrong.problem, hint=wrong.hint)
        if not found.problem and (name := self._without_room(site.domain)):
            problem = f"the ingress has no room for the certificate of {name}"
            found = dataclasses.replace(found, problem=problem, hint=ONE_FOR_ALL)
        if is_multicast(site.domain) and not found.problem and not avahi.runs():
            problem = "Avahi does not run, so no other machine finds its names"
            found = dataclasses.replace(found, problem=problem, hint="sudo apt install avahi-daemon")
        return dataclasses.replace(
            found, https_port=listen.https_port, http_port=listen.http_port, revocations=revocations,
            redirect=site.redirect,
            api=own_host(site.domain) if site.api else "", given_until=kept.ends.timestamp() if kept else 0.0,
        )  # fmt: skip

    def _without_room(self, domain: str) -> str:
        """Return a name of a domain whose certificate the ingress does not have, since there is no room; or ""."""
        shown = self._acme.kept.names.shown
        return next((name for name in self._tls.left_out() if shown.get(name) == domain), "")

    def _revocations(self, issued: Iterable[Issued]) -> tuple[RevocationStatus, ...]:
        shown = {fingerprint for _name, fingerprint in self._acme.kept.shown()}
        ready = {each.fingerprint for each in self._acme.kept.revocable(self._tls.told)}

        def waits_for(fingerprint: str) -> str:
            if fingerprint in shown:
                return "certificate"
            return "authority" if fingerprint in ready else "ingress"

        return tuple(
            RevocationStatus(each.name, each.fingerprint, waits_for(each.fingerprint), each.why, each.hint)
            for each in issued
            if each.revoke == WANTED
        )

    def left_over(self) -> tuple[RevocationStatus, ...]:
        """Return the certificates to revoke of base domains that are gone."""
        there = {each.fingerprint for site in self._table.all() for each in self._acme.kept.issued_at(site.domain)}
        return self._revocations(each for each in self._acme.kept.issued.wanted() if each.fingerprint not in there)

    def _certified(self, site: Site) -> DomainStatus:
        shown = self._config.url_domain == site.domain
        try:
            if site.acme is not None:
                return self._of_acme(site, site.acme, shown)
            return self._of_own(site, shown) if site.certificate == OWN_CA else self._of_given(site, shown)
        except FlytedError as error:
            return DomainStatus(
                site.domain, site.certificate, "", "", 0.0, 0.0, "", "", shown, error.message, error.hint
            )

    def _of_own(self, site: Site, shown: bool) -> DomainStatus:  # noqa: FBT001  a field
        authority, pem = self._tls.authority(site.domain), self._tls.leaf(site.domain)
        begins, ends = ca.validity(pem)
        return DomainStatus(
            site.domain, site.certificate, "this machine", ca.fingerprint(pem), begins.timestamp(), ends.timestamp(),
            ca.fingerprint(authority.cert_pem), authority.cert_pem.decode(), shown, problem="", hint="",
        )  # fmt: skip

    def _of_given(self, site: Site, shown: bool) -> DomainStatus:  # noqa: FBT001  a field
        found = self._tls.given(site.domain)
        begins, ends, now = found.begins.timestamp(), found.ends.timestamp(), self._clock.time()
        day, problem = f"{found.ends:%Y-%m-%d}", ""
        if now >= ends:
            problem = f"its certificate ended on {day}"
        elif now >= ends - WARN_S:
            problem = f"its certificate ends on {day}"
        elif now < begins:
            problem = f"its certificate is not valid before {found.begins:%Y-%m-%d %H:%M} UTC"
        hint = f"sudo flytectl domain cert {site.domain} --cert FILE --key FILE" if problem else ""
        return DomainStatus(
            site.domain, site.certificate, found.issuer, found.fingerprint, begins, ends, "", "", shown, problem, hint
        )

    def _of_acme(self, site: Site, settings: AcmeSettings, shown: bool) -> DomainStatus:  # noqa: FBT001  a field
        found = dict(self._acme.kept.certificates(site.domain))
        orders = tuple(
            OrderStatus(
                each.name, found[each.name].issuer if each.name in found else "", each.begins, each.ends, due(each),
                each.why, each.hint,
            )
            for each in self._acme.kept.of_site(site.domain)
        )  # fmt: skip
        first = min(found.values(), key=lambda each: each.ends, default=None)
        wrong = next((each for each in orders if each.problem), None)
        return DomainStatus(
            site.domain, site.certificate, first.issuer if first else "", first.fingerprint if first else "",
            first.begins.timestamp() if first else 0.0, first.ends.timestamp() if first else 0.0, "", "", shown,
            wrong.problem if wrong else "", wrong.hint if wrong else "", settings.email, settings.server, settings.dns,
            orders,
        )  # fmt: skip
