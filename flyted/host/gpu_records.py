"""Stores the facts about GPUs that outlive the daemon: the leases, and the measured need of each app."""

from __future__ import annotations

import json
from typing import Any

from flyted.host.database import Database
from flyted.plan.gpus.facts import Learned, Lease


class GpuRecords:
    """Rows of the daemon's database; each method is one transaction, flushed before it returns.

    Methods raise :class:`HostFailure` or :class:`StoreCorrupt`, as :class:`Database`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def leases(self) -> list[Lease]:
        """Return all leases, oldest first, also those whose memory has not come back yet."""
        query = (
            "SELECT unit, app_id, revision, devices, since, reserve_bytes, unexplained, ended_at"
            " FROM gpu_lease ORDER BY since, unit"
        )
        with self._database.entries():
            return [_lease(row) for row in self._database.rows(query)]

    def hold(self, lease: Lease) -> None:
        """Record a lease: a new one before its unit is granted it, one that has ended also on a full disk."""
        row = (
            lease.unit, lease.app_id, lease.revision,
            json.dumps(list(zip(lease.devices, lease.names, strict=True))), lease.since, lease.reserve_bytes,
            json.dumps(lease.unexplained), lease.ended_at,
        )  # fmt: skip
        begin = self._database.transaction if lease.ended_at is None else self._database.freeing
        with begin():
            self._database.execute("INSERT OR REPLACE INTO gpu_lease VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def drop(self, unit: str) -> None:
        """Delete a unit's lease: its memory has come back, or its devices could not be opened."""
        with self._database.freeing():
            self._database.execute("DELETE FROM gpu_lease WHERE unit = ?", (unit,))

    def learned(self) -> dict[str, Learned]:
        """Return what is known of each app's need, by the app's id."""
        rows = self._database.rows("SELECT app_id, peak_bytes, load_s FROM gpu_learned")
        return {app_id: Learned(peak, load) for app_id, peak, load in rows}

    def learn(self, app_id: str, learned: Learned) -> None:
        """Replace what is known of an app's need."""
        row = (app_id, learned.peak_bytes, learned.load_s)
        with self._database.transaction():
            self._database.execute("INSERT OR REPLACE INTO gpu_learned VALUES (?, ?, ?)", row)

    def forget(self, app_id: str) -> None:
        """Forget what is known of an app's need."""
        with self._database.freeing():
            self._database.execute("DELETE FROM gpu_learned WHERE app_id = ?", (app_id,))


def _lease(row: tuple[Any, ...]) -> Lease:
    unit, app_id, revision, devices, since, reserve, unexplained, ended_at = row
    pairs = json.loads(devices)
    return Lease(
        unit, app_id, revision, tuple(uuid for uuid, _ in pairs), since, tuple(name for _, name in pairs), reserve,
        tuple(json.loads(unexplained)), ended_at,
    )  # fmt: skip
