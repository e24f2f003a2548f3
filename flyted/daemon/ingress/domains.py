"""Handles the verbs of base domains: names, besides the machine's own, at which all apps are served."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from flyted.contract.acme import LETS_ENCRYPT, STAGING
from flyted.contract.answers.domains import DomainList, DomainPreview, DomainStatus
from flyted.contract.answers.machine import Done
from flyted.contract.errors import FlytedError, HostFailure, InvalidInput, NotFound
from flyted.contract.names import base_domain, printable
from flyted.daemon.api.verbs import Call, Right, Socket, Verb
from flyted.daemon.config import Config
from flyted.daemon.effects import Clock
from flyted.daemon.ingress import site_certificates
from flyted.daemon.ingress.acme import Acme
from flyted.daemon.ingress.domain_status import DomainStatuses
from flyted.daemon.ingress.listen import addresses_for, check_ports
from flyted.daemon.ingress.tls import Tls
from flyted.daemon.loop import Loop
from flyted.host.given_certificate import Given, given
from flyted.host.sites import Sites
from flyted.host.vault import Vault
from flyted.plan.facts import StoredApp
from flyted.plan.ingress import names, revocations, sites
from flyted.plan.ingress.certificates import ROOM
from flyted.plan.ingress.dns_providers import variables
from flyted.plan.ingress.sites import ACME, FILE, OWN_CA, POLICIES, AcmeSettings, Site
from flyted.plan.ingress.state import Listen

log = logging.getLogger(__name__)

_HERE = frozenset({Socket.CONTROL})  # who is reachable by whom is decided at this machine


class Domains:
    """The handlers of the domain verbs. ``configured``: the addresses in the settings."""

    def __init__(
        self, table: Sites, vault: Vault, tls: Tls, acme: Acme, loop: Loop, config: Config,
        configured: tuple[str, ...], clock: Clock, apps: Callable[[], tuple[StoredApp, ...]],
    ) -> None:  # fmt: skip
        self._table = table
        self._vault = vault
        self._tls = tls
        self._acme = acme
        self._loop = loop
        self._config = config
        self._configured = configured
        self._clock = clock
        self._apps = apps
        self.statuses = DomainStatuses(table, tls, acme, config, clock)

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        named: dict[str, type] = {"domain": str}
        change = {"domain": str, "certificate": str, "acme": dict}
        return {
            "domain.preview": Verb(Right.READ, named, self.preview, sockets=_HERE),
            "domain.set": Verb(Right.ADMIN, change, self.set, bulk=True, sockets=_HERE, changes=True),
            "domain.api": Verb(Right.ADMIN, named | {"api": bool}, self.api, sockets=_HERE, changes=True),
            "domain.redirect": Verb(Right.ADMIN, named | {"to": str}, self.redirect, sockets=_HERE, changes=True),
            "domain.revoke": Verb(Right.ADMIN, named | {"name": str}, self.revoke, sockets=_HERE, changes=True),
            "domain.renew": Verb(Right.ADMIN, named, self.renew, sockets=_HERE, changes=True),
            "domain.list": Verb(Right.READ, {}, self.list),
            "domain.get": Verb(Right.READ, named, self.get),
            "domain.remove": Verb(Right.ADMIN, named, self.remove, sockets=_HERE, changes=True),
        }

    async def preview(self, call: Call) -> DomainPreview:
        """Return what a new base domain would change. Raises as :meth:`set`."""
        domain = self._checked(call)
        now = self._table.all()
        then = now if self._table.find(domain) is not None else (*now, Site(domain, OWN_CA, self._clock.time()))
        apps = (await self._loop.facts()).apps
        opened = [app for app in apps if app.current is not None and not app.current.spec.requires_auth]
        return DomainPreview(
            listens=self._config.listen.addresses,
            would_listen=self._listen(then).addresses,
            open_apps=tuple(str(app.key) for app in opened),
            apps=len(apps),
            shown=self._config.url_domain,
            would_show=sites.shown(then, self._config.base_domain, self._config.preferred),
        )

    async def set(self, call: Call) -> DomainStatus:
        """Serve all apps at a base domain, or give one that is served another certificate.

        What follows the request is the PEM of certificate and key. For an ACME authority it is the credentials for the
        DNS provider, or nothing to keep those that are stored. If this machine signs, it is nothing. Raises
        :class:`InvalidInput` or :class:`AlreadyExists` for a domain or certificate that cannot be taken,
        :class:`HostFailure` when the ingress cannot listen. After an error everything is as it was.
        """
        domain, policy = self._checked(call), call.args["certificate"]
        call.about.tell(domain=domain)
        if policy not in POLICIES:
            raise InvalidInput(f"there is no certificate of kind {printable(policy)}")
        found = self._fitting(call.bulk, domain) if policy == FILE else None
        acme = _acme(call, domain) if policy == ACME else None
        before = self._table.find(domain)
        site = Site(domain, policy, self._clock.time(), acme)
        if before is not None:
            site = dataclasses.replace(before, certificate=policy, acme=acme)
        given_variables = self._variables(call.bulk, site, before)
        after = (*(each for each in self._table.all() if each.domain != domain), site)
        check_ports(self._listen(after), self._config.listen)
        old = None
        with contextlib.suppress(FlytedError):  # there is none, or it is damaged, which is why there is another one
            old = self._tls.given(domain)
        told = self._acme.variables(domain)
        try:
            if given_variables is not None or acme is None or not acme.dns:
                self._acme.keep_variables(domain, given_variables)
            self._keep(site, found)
            await self._apply()
            self._check_room(after)
        except FlytedError:
            for step in self._back(domain, before, old):  # each, however the others end
                with contextlib.suppress(FlytedError):
                    step()
            with contextlib.suppress(FlytedError):
                self._acme.keep_variables(domain, told)
            with contextlib.suppress(FlytedError):  # the first one is what the caller has to know
                await self._apply()
            raise
        if before is not None and before.acme is not None and acme is None:
            try:
                self._acme.forget(domain)
            except FlytedError as error:  # nothing uses them any more
                log.error("certificates of %s cannot be deleted: %s", domain, error.message)  # noqa: TRY400
        self._acme.kept.ask_again(domain)
        self._loop.poke()
        return self.statuses.of(site)

    async def list(self, _call: Call) -> DomainList:
        """Return all base domains besides the machine's own, oldest first."""
        return DomainList(self.statuses.all())

    async def get(self, call: Call) -> DomainStatus:
        """Return one base domain. Raises :class:`NotFound`."""
        return self.statuses.of(self._known(call))

    async def remove(self, call: Call) -> Done:
        """Stop serving apps at a base domain, and delete its key.

        With the last domain, the ingress stops listening on the addresses that the first one added. This machine's
        authority for the domain stays. Raises :class:`NotFound`, :class:`InvalidInput` for a domain that others
        redirect to, and :class:`HostFailure`.
        """
        site = self._known(call)
        call.about.tell(domain=site.domain)
        sites.check_no_target(site.domain, self._table.all())
        self._forget(site.domain)
        await self._apply()
        return Done()

    async def api(self, call: Call) -> DomainStatus:
        """Serve flyted's API at a base domain, or stop that. Raises :class:`NotFound`, :class:`AlreadyExists`."""
        self._known(call)
        api = call.args["api"]
        call.about.outcome = "served" if api else "not served"
        if api:
            names.check_api(self._apps())
        return await self._changed(call, api=api)

    async def redirect(self, call: Call) -> DomainStatus:
        """Send clients of apps to their names at another base domain, ``to``; with "", serve them again.

        Raises :class:`NotFound`, :class:`InvalidInput`.
        """
        domain, to = self._known(call).domain, call.args["to"]
        call.about.tell(domain=domain)
        sites.check_redirect(domain, to, self._table.all())
        call.about.outcome = f"redirects to {to}" if to else "served"
        return await self._changed(call, redirect=to)

    async def _changed(self, call: Call, **fields: Any) -> DomainStatus:
        """Change fields of a site; if the ingress cannot follow, put them back."""
        before = self._known(call)
        site = dataclasses.replace(before, **fields)
        call.about.tell(domain=site.domain)
        self._table.put(site)
        try:
            await self._loop.settle()
        except FlytedError:
            now = self._table.find(site.domain)
            if now is not None:
                self._table.put(dataclasses.replace(now, **{name: getattr(before, name) for name in fields}))
            self._loop.poke()
            raise
        return self.statuses.of(site)

    async def renew(self, call: Call) -> DomainStatus:
        """Order the certificates of a base domain that could not be had, without waiting for their next try.

        Raises :class:`NotFound`, or :class:`InvalidInput` for a domain for which nothing is ordered.
        """
        site = self._known(call)
        call.about.tell(domain=site.domain)
        if site.acme is None:
            raise _not_ordered(site)
        self._acme.kept.ask_again(site.domain)
        await self._loop.settle()
        return self.statuses.of(site)

    async def revoke(self, call: Call) -> DomainStatus:
        """Have authorities revoke certificates. One that is shown is revoked when another one has taken its place.

        ``name``: of all certificates for that name; "": of all the domain's, also of apps that are gone. Raises
        :class:`NotFound` or :class:`InvalidInput` if there is none, :class:`HostFailure`.
        """
        site, name = self._known(call), call.args["name"]
        if self._vault.refusal is not None:
            raise self._vault.refusal
        found = revocations.chosen(self._acme.kept.issued_at(site.domain), name)
        call.about.tell(domain=site.domain, certificate=sorted({each.name for each in found}))
        if not found and site.acme is None:
            raise _not_ordered(site)
        if not found:
            raise NotFound(
                f"no authority has given a certificate for {printable(name or site.domain)}",
                hint=f"flytectl domain get {site.domain}",
            )
        self._acme.kept.issued.revoke(found)
        self._loop.poke()
        return self.statuses.of(site)

    def _variables(self, text: bytes, site: Site, before: Site | None) -> Mapping[str, str] | None:
        """Return credentials for a DNS provider, ``None`` to keep those that are stored.

        Raises :class:`InvalidInput`.
        """
        if site.acme is None or not site.acme.dns:
            return None
        if text:
            return variables(text, site.acme.dns)
        if before is not None and before.acme is not None and before.acme.dns == site.acme.dns:
            return None
        raise InvalidInput(
            f"no credentials for the DNS provider {site.acme.dns} are stored", hint="give its token: --from-file FILE"
        )

    def _keep(self, site: Site, found: Given | None) -> None:
        """Store a site and the certificate that was given for it, if any; without one, an older one goes.

        It stays if certificates are ordered: names show it until theirs have come.
        """
        if found is not None:
            site_certificates.keep(self._vault, site.domain, found)
        self._table.put(site)
        if found is None and site.acme is None:
            site_certificates.forget(self._vault, site.domain)

    def _back(self, domain: str, before: Site | None, given_before: Given | None) -> Iterator[Callable[[], None]]:
        """Yield the steps that store a site, and the certificate that was given for it, as they were."""
        if before is None:
            yield partial(self._forget, domain)
        elif given_before is not None:
            yield partial(site_certificates.keep, self._vault, domain, given_before)
            yield partial(self._put_back, before)
        elif before.certificate != FILE:
            yield partial(site_certificates.forget, self._vault, domain)
            yield partial(self._put_back, before)

    def _put_back(self, before: Site) -> None:
        """Store where a site's certificate came from; other calls may have changed the rest meanwhile."""
        now = self._table.find(before.domain) or before
        self._table.put(dataclasses.replace(now, certificate=before.certificate, acme=before.acme))

    def _forget(self, domain: str) -> None:
        self._table.remove(domain)
        self._acme.forget(domain)
        site_certificates.forget(self._vault, domain)

    async def _apply(self) -> None:
        """Have the ingress serve the sites that the table has."""
        self._config.listen = self._listen(self._table.all())
        await self._tls.give()
        await self._loop.settle()

    def _check_room(self, found: tuple[Site, ...]) -> None:
        """Raise :class:`HostFailure` if the ingress cannot have the certificates of all domains."""
        left_out = set(self._tls.left_out()) & {site.domain for site in found}
        if left_out:
            raise HostFailure(
                f"the ingress has no room for another certificate: all may take {ROOM // 1024} KiB",
                hint="remove a domain, or give certificates with fewer names: flytectl domain ls",
            )

    def _listen(self, found: tuple[Site, ...]) -> Listen:
        return dataclasses.replace(self._config.listen, addresses=addresses_for(self._configured, found))

    def _checked(self, call: Call) -> str:
        domain = base_domain(call.args["domain"])
        custom = [spec.custom_domain for app in self._apps() for spec in names.claims(app) if spec.custom_domain]
        sites.check_free(domain, self._config.base_domain, self._table.all(), custom)
        return domain

    def _known(self, call: Call) -> Site:
        site = self._table.find(call.args["domain"])
        if site is None:
            raise NotFound(f"there is no base domain {printable(call.args['domain'])}", hint="flytectl domain ls")
        return site

    def _fitting(self, pem: bytes, domain: str) -> Given:
        found = given(pem)
        if not sites.covers(found.names, domain):
            has = ", ".join(found.names[:5]) or "no host name"
            raise InvalidInput(
                f"the certificate is not for *.{domain}, but for {has}",
                hint=f"every app has a name of its own below {domain}: ask for a certificate with the name *.{domain}",
            )
        if found.ends.timestamp() <= self._clock.time():
            raise InvalidInput(f"the certificate ended on {found.ends:%Y-%m-%d}")
        return found


def _not_ordered(site: Site) -> InvalidInput:
    return InvalidInput(f"the certificate of {site.domain} is not ordered from an authority")


def _acme(call: Call, domain: str) -> AcmeSettings:
    """Return how certificates are ordered, as a call says. Raises :class:`InvalidInput`."""
    found = sites.acme_settings(call.args["acme"])
    if found.server in (LETS_ENCRYPT, STAGING):
        sites.check_public(domain)
    return found
