"""Keeps what is known of the certificates that ACME authorities gave, so that each can be revoked until it ends."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable

from flyted.contract.errors import FlytedError
from flyted.daemon.effects import Clock
from flyted.host.given_certificate import Given
from flyted.host.issued import IssuedTable
from flyted.plan.ingress import revocations
from flyted.plan.ingress.revocations import REVOKED, WANTED, Issued

log = logging.getLogger(__name__)


class IssuedCertificates:
    """The certificates that have not ended. ``version`` changes with them."""

    def __init__(self, table: IssuedTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._all = table.all()
        self.version = 0
        self.clock_was_set()  # an earlier run of flyted may have stored failures of a time that has not come

    def all(self) -> tuple[Issued, ...]:
        """Return all of them."""
        return tuple(self._all.values())

    def wanted(self) -> tuple[Issued, ...]:
        """Return those that are to be revoked."""
        return tuple(each for each in self._all.values() if each.revoke == WANTED)

    def find(self, fingerprint: str) -> Issued | None:
        """Return one of them, if it is known."""
        return self._all.get(fingerprint)

    def state(self, fingerprint: str) -> str:
        """Return :data:`WANTED` or :data:`REVOKED` of one that is to be revoked, or is; "" of all others."""
        found = self._all.get(fingerprint)
        return found.revoke if found is not None else ""

    def chain(self, issued: Issued) -> str:
        """Return a certificate and those that signed it, as PEM. Raises :class:`HostFailure`."""
        return self._table.chain(issued.fingerprint)

    def add(self, issued: Issued, found: Given) -> None:
        """Store a new certificate, and forget those that have ended. On a full disk, it is known until flyted ends."""
        self._put(issued)
        now = self._clock.time()
        try:
            self._table.add(issued, found.chain)
            for each in self.all():
                if each.ends < now and each.revoke != WANTED:
                    self.forget(each)
        except FlytedError as error:
            log.error("cannot store which certificate was given for %s: %s", issued.name, error.message)  # noqa: TRY400

    def revoke(self, found: Iterable[Issued]) -> None:
        """Have certificates revoked; a crash forgets none. Raises :class:`HostFailure` if that cannot be stored."""
        found = tuple(map(revocations.wanted, found))
        self._table.update(found)
        self._put(*found)

    def ask_again(self, domain: str) -> None:
        """Try those of a domain that failed again, as soon as the authority's limits permit."""
        self._put(*(dataclasses.replace(each, asked=True) for each in self.wanted() if each.site == domain))

    def failed(self, issued: Issued, error: FlytedError) -> None:
        """Store why an authority did not revoke a certificate; give up on one that has ended."""
        now = self._clock.time()
        self._put(revocations.failed(issued, now, error.message, error.hint))
        try:
            if issued.ends < now:
                log.info("the old certificate of %s has ended: it is not revoked any more", issued.name)
                self.forget(issued)
            else:
                self._table.update([self._all[issued.fingerprint]])
        except FlytedError as disk:
            log.error("cannot store what became of a revocation: %s", disk.message)  # noqa: TRY400

    def revoked(self, issued: Issued) -> None:
        """Store that a certificate is revoked: it must not be shown if a backup brings it back.

        Raises :class:`HostFailure` if the disk refuses: the authority is asked again.
        """
        now = dataclasses.replace(issued, revoke=REVOKED, failed=(), why="", hint="")
        self._table.update([now])
        self._put(now)

    def forget(self, issued: Issued) -> None:
        """Forget a certificate that has ended. Raises :class:`HostFailure`."""
        self._table.remove(issued.fingerprint)
        self._all.pop(issued.fingerprint, None)
        self.version += 1

    def clock_was_set(self) -> None:
        """Forget times that have not come."""
        now = self._clock.time()
        self._put(*(revocations.after_the_clock_was_set(each, now) for each in self.all()))

    def _put(self, *found: Issued) -> None:
        self._all |= {each.fingerprint: each for each in found}
        self.version += 1
