"""Has ACME authorities give and revoke certificates, each in a unit of its own; keys are in the vault.

What is done, and when, is decided in plan/ingress/orders.py and revocations.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flyted.contract.errors import FlytedError, HostFailure, NotFound
from flyted.daemon.effects import Clock, Units
from flyted.daemon.images.builds import run_unit
from flyted.daemon.ingress.ordered import OrderedCertificates
from flyted.host.given_certificate import Given, given
from flyted.host.network import nameservers
from flyted.host.signing import new_account, new_request, thumbprint
from flyted.host.sites import Sites
from flyted.host.vault import Vault
from flyted.plan.facts import UnitEnd
from flyted.plan.images.build_unit import loopback_nameservers
from flyted.plan.images.common_unit import plain
from flyted.plan.ingress import acme_unit, orders
from flyted.plan.ingress.orders import Order
from flyted.plan.ingress.revocations import WANTED, Issued
from flyted.plan.ingress.sites import AcmeSettings, Site

log = logging.getLogger(__name__)

_TOLD = 20  # the last lines of an order that failed, for the journal


class Acme:
    """The orders of certificates. ``kept``: those that there are.

    ``environment``: the machine's settings for builds, of which proxies are used. ``jobs``: what units that run now
    get as a credential, by unit. ``settle()`` waits until the ingress has what it should have: that of the loop, which
    is made later.
    """

    def __init__(
        self, units: Units, vault: Vault, sites: Sites, kept: OrderedCertificates, clock: Clock,
        environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._units = units
        self._vault = vault
        self._sites = sites
        self.kept = kept
        self._clock = clock
        self._environment = {name: value for name, value in environment.items() if name.lower().endswith("_proxy")}
        self.settle: Callable[[], Awaitable[None]]
        self._asking: dict[str, str] = {}
        self._begun: defaultdict[str, deque[float]] = defaultdict(deque)
        self.jobs: dict[str, bytes] = {}

    def challenges(self) -> Mapping[str, str]:
        """Return the names that are being proved by HTTP, and the thumbprint of the account that proves each."""
        return dict(self._asking)

    def variables(self, domain: str) -> dict[str, str] | None:
        """Return the credentials for a DNS provider, ``None`` if none are stored. Raises :class:`StoreCorrupt`."""
        try:
            found = json.loads(self._vault.get_internal(_named("acme-dns", domain)))
        except NotFound:
            return None
        return {str(key): str(value) for key, value in found.items()}

    def keep_variables(self, domain: str, variables: Mapping[str, str] | None) -> None:
        """Store the credentials for a DNS provider, in place of earlier ones; with ``None``, delete them."""
        if variables is not None:
            self._vault.put_internal(_named("acme-dns", domain), json.dumps(dict(variables)).encode())
            return
        with contextlib.suppress(NotFound):
            self._vault.delete_internal(_named("acme-dns", domain))

    def forget(self, domain: str) -> None:
        """Delete all certificates of a site, and the credentials for its DNS provider."""
        self.kept.forget(domain)
        self.keep_variables(domain, None)

    async def order(self, name: str) -> None:
        """Order a certificate. A failure is logged and stored, and the certificate that there is stays in use."""
        site = self._sites.find(self.kept.names.shown.get(name, ""))
        settings = orders.settings_of(name, site) if site is not None else None
        if site is None or settings is None:
            return
        self._count(settings.server)
        try:
            found = await self._ordered(name, site, settings)
        except Exception as error:  # noqa: BLE001  it is logged
            self._failed(name, site, _logged(error))
        else:
            if self._is_wanted(name, site):
                self.kept.succeeded(Order(name, site.domain, settings.server), found, settings)
                log.info("%s has a certificate of %s until %s", name, found.issuer, f"{found.ends:%Y-%m-%d}")

    async def revoke(self, fingerprint: str) -> None:
        """Have the authority revoke a certificate. A failure is logged and stored, and it is tried again."""
        issued = self.kept.issued.find(fingerprint)
        if issued is None or issued.revoke != WANTED:
            return
        try:
            self.kept.withdraw(issued)
            await self._revoked(issued)
            self.kept.issued.revoked(issued)
            log.info("the authority has revoked the old certificate of %s (SHA-256 %s)", issued.name, fingerprint)
        except Exception as error:  # noqa: BLE001  it is logged
            self.kept.issued.failed(issued, _logged(error))

    async def _revoked(self, issued: Issued) -> None:
        name, settings = issued.name, issued.settings
        try:
            account = self._vault.get_internal(account_name(settings))
        except NotFound as error:
            raise HostFailure(
                f"the old certificate of {name} is not revoked: the key of the account that ordered it is lost",
                hint="ask the authority to revoke it: it needs the certificate's fingerprint",
            ) from error
        job = acme_unit.Job(settings, name, account, revoke=self.kept.issued.chain(issued))
        end, lines = await self._run(issued.fingerprint, job)
        if not acme_unit.is_revoked(end, lines):
            self._tell("the revocation", name, settings, lines)
            raise acme_unit.not_revoked(name, settings, end, lines)

    def _tell(self, what: str, name: str, settings: AcmeSettings, lines: list[str]) -> None:
        """Write what lego has said last to the journal; leave an authority alone that has had enough."""
        for line in lines[-_TOLD:]:
            log.info("%s of %s: %s", what, name, plain(line))
        if acme_unit.is_limited(lines):
            self.kept.pause(settings.server, self._clock.time() + orders.HOUR)

    def _count(self, server: str) -> None:
        """Count an order, and pause for the authority's limit of orders."""
        now, begun = self._clock.time(), self._begun[server]
        begun.append(now)
        while begun[0] < now - orders.WINDOW_S:
            begun.popleft()
        if len(begun) >= orders.MOST_IN_WINDOW:
            self.kept.pause(server, begun[0] + orders.WINDOW_S)

    def _is_wanted(self, name: str, site: Site) -> bool:
        """Report whether a certificate is still for this site, after an order that took a while."""
        found = self._sites.find(site.domain)
        return found is not None and found.acme == site.acme and self.kept.names.shown.get(name) == site.domain

    def _failed(self, name: str, site: Site, error: FlytedError) -> None:
        if self._is_wanted(name, site):
            stored = self.kept.stored(name, site.domain)
            self.kept.put(orders.failed(stored, self._clock.time(), error.message, error.hint))

    async def _ordered(self, name: str, site: Site, settings: AcmeSettings) -> Given:
        account = self._account(settings)
        made = new_request(name)
        told = self.variables(site.domain) if settings.dns else {}
        if told is None:
            raise HostFailure(
                f"the credentials for the DNS provider of {site.domain} are not stored",
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
            self._tell("the order", name, settings, lines)
            raise acme_unit.failure(name, settings, end, lines)
        found = given(acme_unit.chain_of(lines) + made.key)
        if name not in found.names:
            raise HostFailure(f"the authority gave a certificate for {', '.join(found.names)} instead of {name}")
        return found

    async def _run(self, of: str, job: acme_unit.Job) -> tuple[UnitEnd, list[str]]:
        unit = acme_unit.unit_name(of)

        def wanted(pipe: int) -> dict[str, Any]:
            return acme_unit.acme_unit(job, pipe, self._environment, loopback_nameservers(nameservers()))

        self.jobs[unit] = job.text()
        try:
            return await run_unit(self._units, unit, wanted)
        finally:
            del self.jobs[unit]

    def _account(self, settings: AcmeSettings) -> bytes:
        """Return the account's key, which is made when it is first needed."""
        name = account_name(settings)
        try:
            return self._vault.get_internal(name)
        except NotFound:
            made = new_account()
            self._vault.put_internal(name, made)
            return made


def _logged(error: Exception) -> FlytedError:
    """Return an error as people are told of it, once it is in the journal."""
    if not isinstance(error, FlytedError):
        log.error("an order or a revocation failed", exc_info=error)
        error = HostFailure(f"internal error in flyted: {type(error).__name__}")
    log.warning("%s%s", error.message, f" ({error.hint})" if error.hint else "")
    return error


def account_name(settings: AcmeSettings) -> str:
    """Return the name in the vault of the key of an account."""
    return _named("acme-account", f"{settings.server} {settings.email}")


def _named(kind: str, of: str) -> str:
    """Return a name in the vault."""
    return f"{kind}-{hashlib.sha256(of.encode()).hexdigest()[:32]}"
