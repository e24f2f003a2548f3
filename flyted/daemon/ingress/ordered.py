"""Keeps the certificates that ACME authorities gave, and what became of each order; the certificates are secrets.

A certificate outlives its app until it ends: an app that is deployed again finds it, and authorities limit how many
they give for one name. It is shown while the app is stopped, too, to visitors who are told so.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flyted.contract.errors import FlytedError, NotFound
from flyted.daemon.effects import Clock
from flyted.daemon.ingress import site_certificates
from flyted.daemon.ingress.issued import IssuedCertificates
from flyted.host.given_certificate import Given
from flyted.host.orders import OrderTable
from flyted.host.sites import Sites
from flyted.host.vault import Vault
from flyted.plan.facts import StoredApp
from flyted.plan.ingress import orders
from flyted.plan.ingress import sites as sites_of
from flyted.plan.ingress.orders import Order
from flyted.plan.ingress.revocations import REVOKED, WANTED, Issued
from flyted.plan.ingress.sites import AcmeSettings

log = logging.getLogger(__name__)

MOST = 200
"""The most certificates that are ordered: a unit's credentials have room for 1 MiB, and one takes about 4 KiB."""
_NO_ROOM = f"there is room for {MOST} certificates"
ONE_FOR_ALL = "prove the domain by DNS, so that one certificate is for all apps: flytectl domain set --help"


@dataclass(frozen=True)
class _Names:
    """Names of apps with the domain of their sites.

    ``ordered``: of apps that serve; ``left_out``: of those for which there is no room; ``shown``: of all apps that
    have come up once.
    """

    ordered: dict[str, str]
    left_out: dict[str, str]
    shown: dict[str, str]


class OrderedCertificates:
    """The certificates of all sites that have an ACME authority. ``apps()`` returns all apps."""

    def __init__(
        self, vault: Vault, sites: Sites, table: OrderTable, issued: IssuedCertificates,
        apps: Callable[[], tuple[StoredApp, ...]], clock: Clock,
    ) -> None:  # fmt: skip
        self._vault = vault
        self._sites = sites
        self._table = table
        self.issued = issued
        self._apps = apps
        self._clock = clock
        self._orders = table.all()
        self._have: dict[str, Given] = {}
        self._stored: dict[str, str] = {}  # name → fingerprint of what the vault has, as far as it was read
        self._ordered_at: dict[str, float] = {}
        self._paused: dict[str, float] = {}
        self._version = 0
        self._named: tuple[object, object, _Names] | None = None
        self._facts: tuple[object, tuple[Order, ...]] = ((), ())
        self._shown: tuple[object, frozenset[tuple[str, str]]] = ((), frozenset())
        self.clock_was_set()  # an earlier run of flyted may have stored failures of a time that has not come

    @property
    def names(self) -> _Names:
        """The names of apps, made again only when apps or sites have changed; without an authority no app is read."""
        sites, apps = self._sites.all(), self._apps()
        if self._named is None or self._named[0] is not sites or self._named[1] is not apps:
            ordering = any(site.acme is not None for site in sites)
            served = [(app, app.current.spec) for app in apps if app.current is not None] if ordering else []

            def wanted(chosen: Callable[[StoredApp], object]) -> dict[str, str]:
                specs = {app.key.id: spec for app, spec in served if chosen(app)}
                labels = [*specs, *(spec.subdomain for spec in specs.values() if spec.subdomain)]
                custom = [spec.custom_domain for spec in specs.values() if spec.custom_domain]
                return orders.wanted_names(sites, labels, custom)

            ordered = wanted(lambda app: app.serving_replicas)
            apis = sites_of.apis(sites)  # other machines could not do without that one
            first = sorted(ordered, key=lambda name: (name not in apis, name not in self._orders, name))
            self._named = (sites, apps, _Names(
                {name: ordered[name] for name in first[:MOST]}, {name: ordered[name] for name in first[MOST:]},
                wanted(lambda _app: True),
            ))  # fmt: skip
        return self._named[2]

    @property
    def _known(self) -> tuple[_Names, int, int, bool]:
        """What facts follow from, which are asked for in each pass, and rarely change."""
        return self.names, self._version, self.issued.version, self._vault.refusal is None

    def facts(self) -> tuple[Order, ...]:
        """Return what there is of each certificate that is wanted; nothing while the vault is refused."""
        if self._facts[0] != self._known:
            found = self._wanted() if self._vault.refusal is None else {}
            self._facts = (self._known, tuple(self._order(name, site) for name, site in found.items()))
        return self._facts[1]

    def _wanted(self) -> dict[str, str]:
        """Return the names to order for: of apps that serve, and those whose certificate is to be revoked."""
        replaced = {}
        if self.issued.wanted():
            replaced = {name: site for name, site in self.names.shown.items() if self._to_be_revoked(name)}
        return {**self.names.ordered, **replaced}

    def _to_be_revoked(self, name: str) -> bool:
        found = self.certificate(name)
        return found is not None and self.issued.state(found.fingerprint) == WANTED

    def of_site(self, domain: str) -> tuple[Order, ...]:
        """Return what there is of the certificates of one site, with those for which there is no room."""
        found, left_out = self.facts(), dict(self.names.left_out)
        for order in found:
            left_out.pop(order.name, None)
        out = [Order(name, site, why=_NO_ROOM, hint=ONE_FOR_ALL) for name, site in left_out.items()]
        return tuple(order for order in (*found, *out) if order.site == domain)

    def certificates(self, domain: str) -> Iterator[tuple[str, Given]]:
        """Yield the certificates that a site shows, by name."""
        for name, site in self.names.shown.items():
            if site == domain and (found := self.certificate(name)) is not None:
                yield name, found

    def shown(self) -> frozenset[tuple[str, str]]:
        """Return the names and fingerprints of all certificates that are shown."""
        if self._shown[0] != self._known:
            found = ((name, self.certificate(name)) for name in self.names.shown)
            shown = frozenset((name, each.fingerprint) for name, each in found if each is not None)
            self._shown = (self._known, shown)
        return self._shown[1]

    def certificate(self, name: str) -> Given | None:
        """Return a certificate, if there is one that can be read and is not revoked: a backup may bring it back."""
        if name not in self._have and name in self._orders:
            try:
                found = site_certificates.kept(self._vault, name)
            except NotFound:
                return None
            except FlytedError as error:
                if self._vault.refusal is None:
                    log.error("the certificate of %s is not used: %s", name, error.message)  # noqa: TRY400
                return None
            if self.issued.state(found.fingerprint) == REVOKED:
                return None
            self._have[name], self._stored[name] = found, found.fingerprint
        return self._have.get(name)

    def stored(self, name: str, site: str) -> Order:
        """Return what became of the orders for a name."""
        return self._orders.get(name) or Order(name, site)

    def succeeded(self, order: Order, found: Given, settings: AcmeSettings) -> None:
        """Store a new certificate; on a full disk it is used all the same, until flyted ends."""
        self._have[order.name] = found
        self._ordered_at[order.name] = self._clock.time()
        ends = found.ends.timestamp()
        self.issued.add(Issued(found.fingerprint, order.name, order.site, settings, ends), found)
        try:
            self._keep(order.name)
        except FlytedError as error:
            log.error("the certificate of %s cannot be stored: %s", order.name, error.message)  # noqa: TRY400
        self.put(order)
        self._prune()

    def put(self, order: Order) -> None:
        """Store what became of an order."""
        self._orders[order.name] = order
        self._version += 1
        try:
            self._table.put(order)
        except FlytedError as error:
            log.error("cannot store what became of an order: %s", error.message)  # noqa: TRY400

    def pause(self, server: str, until: float) -> None:
        """Order nothing from an authority before ``until``."""
        self._paused[server] = max(until, self._paused.get(server, 0.0))
        self._version += 1

    def ask_again(self, domain: str) -> None:
        """Try what failed again, as soon as the authority's limits permit."""
        for order in self.facts():
            if order.failed and order.site == domain:
                self._orders[order.name] = dataclasses.replace(self.stored(order.name, domain), asked=True)
        self.issued.ask_again(domain)
        self._version += 1

    def _keep(self, name: str) -> None:
        """Store the certificate of a name in the vault. Raises as :func:`site_certificates.keep`."""
        found = self._have[name]
        site_certificates.keep(self._vault, name, found)
        self._stored[name] = found.fingerprint

    def issued_at(self, domain: str) -> tuple[Issued, ...]:
        """Return the certificates that authorities gave for a site's names, also those of apps that are gone."""
        shown = self.names.shown
        return tuple(each for each in self.issued.all() if shown.get(each.name, each.site) == domain)

    def revocable(self, told: frozenset[tuple[str, str]] | None) -> tuple[Issued, ...]:
        """Return the certificates to revoke that the ingress does not have any more, nor shall have.

        ``told``: the names and fingerprints of those that it has; ``None``: that is not known.
        """
        wanted = self.issued.wanted()
        if not wanted or told is None or self._vault.refusal is not None:
            return ()
        there = {fingerprint for _name, fingerprint in (*told, *self.shown())}
        return tuple(
            dataclasses.replace(each, not_before=self._paused.get(each.settings.server, 0.0))
            for each in wanted
            if each.fingerprint not in there
        )

    def withdraw(self, issued: Issued) -> None:
        """Have the vault keep another certificate, or none, instead of one: flyted would show it after its next start.

        Raises as the vault.
        """
        if self._stored.get(issued.name) != issued.fingerprint:
            return
        if self._have[issued.name].fingerprint != issued.fingerprint:
            self._keep(issued.name)  # the disk was full when it came
        else:
            self._forget(issued.name)

    def clock_was_set(self) -> None:
        """Forget times that have not come."""
        now = self._clock.time()
        self._orders = {name: orders.after_the_clock_was_set(each, now) for name, each in self._orders.items()}
        self._ordered_at = {}
        self._paused = {}
        self.issued.clock_was_set()
        self._version += 1

    def forget(self, domain: str) -> None:
        """Delete the certificates of a site that is gone, or has another kind; those that another one shows stay."""
        for name in [name for name, order in self._orders.items() if order.site == domain]:
            other = self.names.shown.get(name, domain)
            if other != domain:
                self.put(dataclasses.replace(self._orders[name], site=other))
            else:
                self._forget(name)

    def _forget(self, name: str) -> None:
        """Delete a certificate; the row goes last, so that a crash leaves no key behind that nobody knows of."""
        site_certificates.forget(self._vault, name)
        self._have.pop(name, None)
        self._stored.pop(name, None)
        self._version += 1
        self._table.remove(name)
        self._orders.pop(name, None)

    def _prune(self) -> None:
        """Delete certificates that have ended, of names that no app has any more."""
        now = self._clock.time()
        for name in [name for name in self._orders if name not in self.names.shown]:
            found = self.certificate(name)
            if found is None or found.ends.timestamp() < now:
                try:
                    self._forget(name)
                except FlytedError as error:
                    log.error("an old certificate cannot be deleted: %s", error.message)  # noqa: TRY400
                    return

    def _order(self, name: str, site: str) -> Order:
        stored, found, wanted = self.stored(name, site), self.certificate(name), self._sites.find(site)
        server = wanted.acme.server if wanted is not None and wanted.acme is not None else ""
        stored = dataclasses.replace(
            stored, site=site, revoke=self._to_be_revoked(name),
            ordered_at=self._ordered_at.get(name, 0.0), not_before=self._paused.get(server, 0.0),
        )  # fmt: skip
        if found is None or stored.server != server:
            return stored  # a certificate of another authority is used until there is one of this
        return dataclasses.replace(stored, begins=found.begins.timestamp(), ends=found.ends.timestamp())
