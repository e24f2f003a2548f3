"""Stores which certificates ACME authorities gave, and which are revoked, until they end (SQLite). No key is here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from flyted.host.database import Database
from flyted.plan.ingress.revocations import Issued
from flyted.plan.ingress.sites import AcmeSettings


class IssuedTable:
    """The table of certificates. Every method is one transaction, and raises as :class:`Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Issued]:
        """Return every certificate by its fingerprint."""
        rows = self._database.rows(
            "SELECT fingerprint, name, site, acme, ends, revoke, failed, why, hint FROM certificate_issued"
        )
        with self._database.entries():
            return {
                fingerprint: Issued(
                    fingerprint, name, site, AcmeSettings(**json.loads(acme)), ends, revoke,
                    tuple(map(float, json.loads(failed))), why, hint,
                )
                for fingerprint, name, site, acme, ends, revoke, failed, why, hint in rows
            }  # fmt: skip

    def chain(self, fingerprint: str) -> str:
        """Return a certificate and those that signed it, as PEM; "" if it is not known."""
        rows = self._database.rows("SELECT chain FROM certificate_issued WHERE fingerprint = ?", (fingerprint,))
        return str(rows[0][0]) if rows else ""

    def add(self, issued: Issued, chain: str) -> None:
        """Store a certificate. ``chain``: as of :meth:`chain`."""
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO certificate_issued VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    issued.fingerprint, issued.name, issued.site, json.dumps(asdict(issued.settings)), chain,
                    issued.ends, issued.revoke, json.dumps(issued.failed), issued.why, issued.hint,
                ),
            )  # fmt: skip

    def update(self, issued: Iterable[Issued]) -> None:
        """Store what is wanted of certificates, and what became of that."""
        with self._database.transaction():
            for each in issued:
                self._database.execute(
                    "UPDATE certificate_issued SET revoke = ?, failed = ?, why = ?, hint = ? WHERE fingerprint = ?",
                    (each.revoke, json.dumps(each.failed), each.why, each.hint, each.fingerprint),
                )

    def remove(self, fingerprint: str) -> None:
        """Forget a certificate, on a full disk too."""
        with self._database.freeing():
            self._database.execute("DELETE FROM certificate_issued WHERE fingerprint = ?", (fingerprint,))
