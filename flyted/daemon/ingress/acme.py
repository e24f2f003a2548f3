"""Orders certificates from ACME authorities, each in a unit of its own; keys and certificates are in the vault.

What is ordered, and when, is decided in plan/ingress/orders.py. A certificate outlives its app until it ends: an app
that is deployed again finds it, and authorities limit how many they give for one name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from flyted.contract.answers.events import Event
from flyted.contract.errors import FlytedError, HostFailure, NotFound
from flyted.daemon.effects import Clock, Units
from flyted.daemon.images.builds import run_unit
from flyted.daemon.ingress import site_certificates
from flyted.host.given_certificate import Given, given
from flyted.host.network import nameservers
from flyted.host.orders import OrderTable
from flyted.host.signing import new_account, new_request, thumbprint
from flyted.host.sites import Sites
from flyted.host.vault import Vault
from flyted.plan.facts import StoredApp, UnitEnd
from flyted.plan.images.build_unit import loopback_nameservers
from flyted.plan.images.common_unit import plain
from flyted.plan.ingress import acme_unit, orders
from flyted.plan.ingress.orders import Order
from flyted.plan.ingress.sites import AcmeSettings, Site

log = logging.getLogger(__name__)

_TOLD = 20  # the last lines of an order that failed, for the journal


class Acme:
    """The certificates that are ordered.

    ``apps()`` returns all apps. ``environment``: proxies. ``jobs``: what units that run now get as a credential, by
    unit. ``settle()`` waits until the ingress has what it should have: that of the loop, which is made later.
    """

    def __init__(
        self, units: Units, vault: Vault, sites: Sites, table: OrderTable, apps: Callable[[], tuple[StoredApp, ...]],
        clock: Clock, environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._units = units
        self._vault = vault
        self._sites = sites
        self._table = table
        self._apps = apps
        self._clock = clock
        self._environment = environment
        self.settle: Callable[[], Awaitable[None]]
        self._orders = table.all()
        self._have: dict[str, Given | None] = {}
        self._wanted: tuple[object, object, dict[str, str]] | None = None
        self._asking: dict[str, str] = {}
        self.jobs: dict[str, bytes] = {}

    def facts(self) -> tuple[Order, ...]:
        """Return what there is of each certificate that is wanted."""
        return tuple(self._order(name, site) for name, site in self._names().items())

    def of_site(self, domain: str) -> tuple[Order, ...]:
        """Return what there is of the certificates of one site."""
        return tuple(order for order in self.facts() if order.site == domain)

    def certificates(self, domain: str) -> Iterator[tuple[str, Given]]:
        """Yield the certificates that a site has, by name."""
        for name, site in self._names().items():
            if site == domain and (found := self._certificate(name)) is not None:
                yield name, found

    def challenges(self) -> Mapping[str, str]:
        """Return the names that are being proved by HTTP, and the thumbprint of the account that proves each."""
        return dict(self._asking)

    def clock_was_set(self) -> None:
        """Forget failures of a time that has not come."""
        now = self._clock.time()
        self._orders = {name: orders.after_the_clock_was_set(each, now) for name, each in self._orders.items()}

    def ask_again(self, domain: str) -> None:
        """Try what failed again, as soon as the authority's limits permit."""
        for order in self.of_site(domain):
            if order.failed:
                self._orders[order.name] = dataclasses.replace(self._stored(order.name, domain), asked=True)

    def variables(self, domain: str) -> dict[str, str] | None:
        """Return what a DNS provider wants to know, ``None`` if nothing is stored. Raises :class:`StoreCorrupt`."""
        try:
            found = json.loads(self._vault.get_internal(_named("acme-dns", domain)))
        except NotFound:
            return None
        return {str(key): str(value) for key, value in found.items()}

    def keep_variables(self, domain: str, variables: Mapping[str, str]) -> None:
        """Store what a DNS provider wants to know, in place of what was stored before."""
        self._vault.put_internal(_named("acme-dns", domain), json.dumps(dict(variables)).encode())

    def forget(self, domain: str) -> None:
        """Delete all certificates of a site, and what its DNS provider wants to know."""
        for name in [name for name, order in self._orders.items() if order.site == domain]:
            self._table.remove(name)
            site_certificates.forget(self._vault, name)
            del self._orders[name]
            self._have.pop(name, None)
        with contextlib.suppress(NotFound):
            self._vault.delete_internal(_named("acme-dns", domain))
        self._wanted = None

    async def order(self, name: str) -> None:
        """Order a certificate. A failure is logged and stored, and the certificate that there is stays in use."""
        site = self._sites.find(self._names().get(name, ""))
        settings = orders.settings_of(name, site) if site is not None else None
        if site is None or settings is None:
            return
        try:
            found = await self._ordered(name, site, settings)
            site_certificates.keep(self._vault, name, found)
        except FlytedError as error:
            self._failed(name, site, error)
            return
        self._have[name] = found
        self._store(Order(name, site.domain, settings.server))
        log.info("%s has a certificate of %s until %s", name, found.issuer, f"{found.ends:%Y-%m-%d}")

    async def _ordered(self, name: str, site: Site, settings: AcmeSettings) -> Given:
        account = self._account(settings)
        made = new_request(name)
        told = self.variables(site.domain) if settings.dns else {}
        if told is None:
            raise HostFailure(
                f"what the DNS provider of {site.domain} wants to know is not stored",
                hint=f"sudo flytectl domain set {site.domain} --dns PROVIDER --from-file FILE",
            )
        job = acme_unit.Job(settings, name, account, made.request, told)
        if not settings.dns:
            self._asking[name] = thumbprint(account)
        try:
            if not settings.dns:
                await self.settle()
            end, lines = await self._run(name, job)
        finally:
            self._asking.pop(name, None)
        if end != UnitEnd("success", 0):
            for line in lines[-_TOLD:]:
                log.info("the order of %s: %s", name, plain(line))
            raise acme_unit.failure(name, settings, end, lines)
        found = given(acme_unit.chain_of(lines) + made.key)
        if name not in found.names:
            raise HostFailure(f"the authority gave a certificate for {', '.join(found.names)} instead of {name}")
        return found

    async def _run(self, name: str, job: acme_unit.Job) -> tuple[UnitEnd, list[str]]:
        unit = acme_unit.unit_name(name)

        def wanted(pipe: int) -> dict[str, Any]:
            return acme_unit.acme_unit(name, pipe, self._environment, loopback_nameservers(nameservers()))

        self.jobs[unit] = job.text()
        try:
            return await run_unit(self._units, unit, wanted, _nobody)
        finally:
            del self.jobs[unit]

    def _failed(self, name: str, site: Site, error: FlytedError) -> None:
        log.warning("%s%s", error.message, f" ({error.hint})" if error.hint else "")
        self._store(orders.failed(self._stored(name, site.domain), self._clock.time(), error.message, error.hint))

    def _store(self, order: Order) -> None:
        self._orders[order.name] = order
        try:
            self._table.put(order)
        except FlytedError as error:
            log.error("cannot store what became of an order: %s", error.message)  # noqa: TRY400

    def _names(self) -> dict[str, str]:
        """Return the wanted names with their sites, made again only when apps or sites have changed."""
        sites, apps = self._sites.all(), self._apps()
        if self._wanted is None or self._wanted[0] is not sites or self._wanted[1] is not apps:
            specs = {app.key.id: app.current.spec for app in apps if app.serving_replicas and app.current is not None}
            subdomains = [spec.subdomain for spec in specs.values() if spec.subdomain]
            custom = [spec.custom_domain for spec in specs.values() if spec.custom_domain]
            self._wanted = (sites, apps, orders.wanted_names(sites, [*specs, *subdomains], custom))
        return self._wanted[2]

    def _order(self, name: str, site: str) -> Order:
        stored, found, wanted = self._stored(name, site), self._certificate(name), self._sites.find(site)
        if found is None or wanted is None or wanted.acme is None or stored.server != wanted.acme.server:
            return stored  # a certificate of another authority is used until there is one of this
        return dataclasses.replace(stored, begins=found.begins.timestamp(), ends=found.ends.timestamp())

    def _stored(self, name: str, site: str) -> Order:
        return self._orders.get(name) or Order(name, site)

    def _certificate(self, name: str) -> Given | None:
        if name not in self._have:
            self._have[name] = None
            if name in self._orders:
                try:
                    self._have[name] = site_certificates.kept(self._vault, name)
                except NotFound:
                    pass
                except FlytedError as error:
                    log.error("the certificate of %s is not used: %s", name, error.message)  # noqa: TRY400
        return self._have[name]

    def _account(self, settings: AcmeSettings) -> bytes:
        """Return the account's key, which is made when it is first needed."""
        name = _named("acme-account", f"{settings.server} {settings.email}")
        try:
            return self._vault.get_internal(name)
        except NotFound:
            made = new_account()
            self._vault.put_internal(name, made)
            return made


async def _nobody(_event: Event) -> None:
    """Tell nobody of the lines, which are for this program."""


def _named(kind: str, of: str) -> str:
    """Return a name in the vault."""
    return f"{kind}-{hashlib.sha256(of.encode()).hexdigest()[:32]}"
