"""Stores which unit holds which GPU, and the measured need of each app: in memory and on disk.

A grant is on disk before it is announced. Everything else counts even if the disk refuses it: that a lease is over
the next start of flyted finds out again, from systemd and NVML.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

from flyted.contract.errors import FlytedError
from flyted.host.gpu_records import GpuRecords
from flyted.plan.gpus import lease as gpu_lease
from flyted.plan.gpus.facts import Inventory, Learned, Lease

log = logging.getLogger(__name__)

_NEWS = 1.05  # a peak that is hardly higher is not worth a write


class LeaseStore:
    """The leases by unit, and what was learned of each app. A lease that is over stays until its memory has come back.

    Only :meth:`hold` raises: a pass of the loop, which is for all apps, goes through the other changes.
    """

    def __init__(self, records: GpuRecords) -> None:
        self._records = records
        self._leases = {lease.unit: lease for lease in records.leases()}
        self._learned = records.learned()

    @property
    def leases(self) -> tuple[Lease, ...]:
        """All leases."""
        return tuple(self._leases.values())

    @property
    def running(self) -> tuple[Lease, ...]:
        """The leases whose units run."""
        return tuple(lease for lease in self._leases.values() if lease.ended_at is None)

    def of(self, unit: str) -> Lease | None:
        """Return the lease of a unit, or ``None``."""
        return self._leases.get(unit)

    def hold(self, lease: Lease) -> None:
        """Record a lease that is granted. Raises :class:`HostFailure` when the disk refuses it."""
        self._records.hold(lease)
        self._leases[lease.unit] = lease

    def end(self, lease: Lease) -> None:
        """Record that a lease is over."""
        self._leases[lease.unit] = lease
        with _logged():
            self._records.hold(lease)

    def drop(self, unit: str) -> None:
        """Forget the lease of a unit: its memory has come back, or the grant failed."""
        self._leases.pop(unit, None)
        with _logged():
            self._records.drop(unit)

    def drop_returned(self, inventory: Inventory) -> bool:
        """Drop all leases whose memory has come back; report whether there was one."""
        found = [le for le in self._leases.values() if le.ended_at is not None and gpu_lease.returned(le, inventory)]
        for lease in found:
            self.drop(lease.unit)
        return bool(found)

    @property
    def learned_all(self) -> dict[str, Learned]:
        """What is known of each app's need, by the app's id."""
        return dict(self._learned)

    def learned(self, app_id: str) -> Learned:
        """Return what is known of an app's need."""
        return self._learned.get(app_id, Learned())

    def learn_peaks(self, inventory: Inventory) -> None:
        """Record the apps' new peaks of memory that a look at the GPUs shows."""
        for lease in self.running:
            used, known = gpu_lease.used(lease.unit, lease.devices, inventory), self.learned(lease.app_id)
            if used > known.peak_bytes * _NEWS:
                self._learn(lease.app_id, dataclasses.replace(known, peak_bytes=used))

    def learn_load(self, app_id: str, seconds: float) -> None:
        """Record how many seconds it took from the grant until the app served."""
        self._learn(app_id, dataclasses.replace(self.learned(app_id), load_s=seconds))

    def forget(self, app_id: str) -> None:
        """Forget an app's need: it did not start with what was thought enough, or it was deleted."""
        if self._learned.pop(app_id, None) is not None:
            with _logged():
                self._records.forget(app_id)

    def forget_all_but(self, app_ids: set[str]) -> None:
        """Forget the need of all other apps: they were deleted, and leave nothing behind."""
        for app_id in [known for known in self._learned if known not in app_ids]:
            self.forget(app_id)

    def _learn(self, app_id: str, learned: Learned) -> None:
        self._learned[app_id] = learned
        with _logged():
            self._records.learn(app_id, learned)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Log a write that fails: what it was to record counts all the same."""
    try:
        yield
    except FlytedError as error:
        log.error("%s", error.message)  # noqa: TRY400
