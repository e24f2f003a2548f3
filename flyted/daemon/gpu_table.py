"""Who holds which GPU, and what each app was seen to need: in memory, and on disk before anybody hears of it."""

from __future__ import annotations

import dataclasses

from flyted.host.gpu_records import GpuRecords
from flyted.plan import gpu_lease
from flyted.plan.gpu_facts import Inventory, Learned, Lease

_NEWS = 1.05  # a peak that is hardly higher is not worth a write


class GpuTable:
    """The leases by unit. A lease that is over stays until its memory has come back."""

    def __init__(self, records: GpuRecords) -> None:
        self._records = records
        self._leases = {lease.unit: lease for lease in records.leases()}
        self._learned = records.learned()

    @property
    def leases(self) -> tuple[Lease, ...]:
        """All of them."""
        return tuple(self._leases.values())

    @property
    def running(self) -> tuple[Lease, ...]:
        """Those whose units run."""
        return tuple(lease for lease in self._leases.values() if lease.ended_at is None)

    def of(self, unit: str) -> Lease | None:
        """The lease of a unit."""
        return self._leases.get(unit)

    def hold(self, lease: Lease) -> None:
        """A grant, or one that is over now."""
        self._records.hold(lease)
        self._leases[lease.unit] = lease

    def drop(self, unit: str) -> None:
        """The memory has come back."""
        self._records.drop(unit)
        self._leases.pop(unit, None)

    def drop_returned(self, inventory: Inventory) -> bool:
        """Drops all leases whose memory has come back; whether there was one."""
        found = [le for le in self._leases.values() if le.ended_at is not None and gpu_lease.returned(le, inventory)]
        for lease in found:
            self.drop(lease.unit)
        return bool(found)

    @property
    def learned_all(self) -> dict[str, Learned]:
        """What is known of each app, by its id."""
        return dict(self._learned)

    def learned(self, app_id: str) -> Learned:
        """What is known of an app."""
        return self._learned.get(app_id, Learned())

    def learn_peaks(self, inventory: Inventory) -> None:
        """Every look at the GPUs may show an app at a new peak."""
        for lease in self.running:
            used, known = gpu_lease.used(lease.unit, lease.devices, inventory), self.learned(lease.app_id)
            if used > known.peak_bytes * _NEWS:
                self._learn(lease.app_id, dataclasses.replace(known, peak_bytes=used))

    def learn_load(self, app_id: str, seconds: float) -> None:
        """How long it took from the grant until the app served."""
        self._learn(app_id, dataclasses.replace(self.learned(app_id), load_s=seconds))

    def forget(self, app_id: str) -> None:
        """An app did not come up with what was thought enough, or is no more: nothing is known."""
        if self._learned.pop(app_id, None) is not None:
            self._records.forget(app_id)

    def forget_all_but(self, app_ids: set[str]) -> None:
        """Apps that were deleted leave nothing behind."""
        for app_id in [known for known in self._learned if known not in app_ids]:
            self.forget(app_id)

    def _learn(self, app_id: str, learned: Learned) -> None:
        self._learned[app_id] = learned
        self._records.learn(app_id, learned)
