"""Stores which certificates have been ordered, and which orders have failed (SQLite). The certificates are secrets."""

from __future__ import annotations

import json

from flyted.host.database import Database
from flyted.plan.ingress.orders import Order


class OrderTable:
    """The table of orders. Every method is one transaction, and raises as :class:`Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Order]:
        """Return every order by its name, without the dates of its certificate."""
        rows = self._database.rows("SELECT name, site, failed, why, hint, server FROM certificate_order")
        with self._database.entries():
            return {
                name: Order(name, site, server, failed=tuple(map(float, json.loads(failed))), why=why, hint=hint)
                for name, site, failed, why, hint, server in rows
            }

    def put(self, order: Order) -> None:
        """Store an order, in place of the one of its name, if any."""
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO certificate_order VALUES (?, ?, ?, ?, ?, ?)",
                (order.name, order.site, json.dumps(order.failed), order.why, order.hint, order.server),
            )

    def remove(self, name: str) -> None:
        """Forget an order, on a full disk too."""
        with self._database.freeing():
            self._database.execute("DELETE FROM certificate_order WHERE name = ?", (name,))
