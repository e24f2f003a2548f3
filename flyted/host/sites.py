"""Stores the base domains at which apps are served besides the machine's own (SQLite). Their keys are in the vault."""

from __future__ import annotations

import json
from dataclasses import asdict

from flyted.host.database import Database
from flyted.plan.ingress.sites import AcmeSettings, Site


class Sites:
    """The table of sites. Every method is one transaction, and raises as :class:`Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._all = self._read()

    def all(self) -> tuple[Site, ...]:
        """Return every site, oldest first, from memory."""
        return self._all

    def find(self, domain: str) -> Site | None:
        """Return the site of a domain, if there is one."""
        return next((site for site in self._all if site.domain == domain), None)

    def put(self, site: Site) -> None:
        """Store a site, in place of the one of its domain, if any."""
        with self._database.transaction():
            acme = json.dumps(asdict(site.acme)) if site.acme is not None else ""
            self._database.execute(
                "INSERT OR REPLACE INTO site VALUES (?, ?, ?, ?, ?, ?)",
                (site.domain, site.certificate, site.created_at, acme, site.api, site.redirect),
            )
        self._all = self._read()

    def remove(self, domain: str) -> None:
        """Forget a site, on a full disk too."""
        with self._database.freeing():
            self._database.execute("DELETE FROM site WHERE domain = ?", (domain,))
        self._all = self._read()

    def _read(self) -> tuple[Site, ...]:
        rows = self._database.rows(
            "SELECT domain, certificate, created_at, acme, api, redirect FROM site ORDER BY created_at, domain"
        )
        with self._database.entries():
            return tuple(
                Site(
                    domain,
                    certificate,
                    created_at,
                    AcmeSettings(**json.loads(acme)) if acme else None,
                    bool(api),
                    redirect,
                )
                for domain, certificate, created_at, acme, api, redirect in rows
            )
