"""The local CA and the ingress's certificate: kept in the vault, given to HAProxy as a credential, renewed in time."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

from flyted.contract.answers.machine import Authority
from flyted.contract.errors import FlytedError, IngressDown, NotFound, StoreCorrupt
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.effects import Clock, Ingress
from flyted.host import ca, whole_file
from flyted.host.vault import Vault
from flyted.plan.upkeep_facts import CertificateFact

log = logging.getLogger(__name__)

_CERT, _KEY = "ca-certificate", "ca-key"
_AGAIN_S = 3600.0  # until the next try after a failure


class Tls:
    """The CA of this machine and base domain, and one leaf certificate, in memory only, issued when first asked for.

    A CA is never deleted or written over: one that is needed in its place is kept beside it, under the next number.

    ``ca_file``: where the CA's certificate is written, for programs that want a path.
    """

    def __init__(self, vault: Vault, ingress: Ingress, base_domain: str, ca_file: Path, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock
        self._ca_file = ca_file
        self._ingress = ingress
        self._base_domain = base_domain
        self._ca: ca.Ca | None = None
        self._leaf: ca.Leaf | None = None
        self._fact = CertificateFact()

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {"ca.show": Verb(Right.READ, {}, self.show)}

    def site_pem(self) -> bytes:
        """Return certificate and key of the ingress as PEM. Raises :class:`StoreCorrupt` when the store is refused."""
        if self._leaf is None:
            self._leaf = ca.issue_leaf(self._authority(), self._base_domain, self._now())
        return self._leaf.pem

    async def show(self, _call: Call) -> Authority:
        """Return the CA's certificate, which is public. Raises :class:`StoreCorrupt` when the store is refused."""
        cert_pem = self._authority().cert_pem
        return Authority(cert_pem.decode(), ca.fingerprint(cert_pem), tuple(ca.leaf_names(self._base_domain)))

    def facts(self) -> CertificateFact:
        """Return the validity of the ingress's certificate. At the daemon's start there is none."""
        return self._fact

    def clock_was_set(self) -> None:
        """Retry what failed immediately: the clock may have been the reason."""
        self._fact = dataclasses.replace(self._fact, again_at=None)

    async def renew(self) -> None:
        """Give the ingress a new certificate. A failure is logged, and it is tried again an hour later.

        Also at the daemon's start: an ingress that kept running has the certificate of the previous daemon.
        """
        self._fact = dataclasses.replace(self._fact, again_at=self._clock.time() + _AGAIN_S)  # if it fails
        try:
            self._fact = await self._give()
        except FlytedError as error:
            log.error("cannot replace the ingress's certificate: %s", error.message)  # noqa: TRY400

    async def _give(self) -> CertificateFact:
        self._leaf = self._ca = None
        whole_file.write(self._ca_file, self._authority().cert_pem)
        pem = self.site_pem()
        with contextlib.suppress(IngressDown):  # HAProxy asks for this one when it starts
            await self._ingress.set_certificate(pem)
        begins, ends = ca.validity(pem)
        since = min(begins.timestamp(), self._clock.time())  # before the authority's begin, no other one can be had
        return CertificateFact(since, ca.renew_at(begins, ends).timestamp())

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.time(), dt.UTC)

    def _authority(self) -> ca.Ca:
        if self._ca is None:
            self._ca = self._load_or_make()
        return self._ca

    def _load_or_make(self) -> ca.Ca:
        kept = list(self._kept())
        chosen = ca.chosen([each for each in kept if each is not None], self._base_domain, self._clock.time())
        if chosen is not None:
            return chosen
        number = len(kept) + 1
        made = ca.new_ca(self._base_domain, self._now())
        self._vault.put_internal(_numbered(_KEY, number), made.key_pem)
        self._vault.put_internal(_numbered(_CERT, number), made.cert_pem)
        if number == 1:
            log.info("created a local certificate authority for %s", self._base_domain)
        else:
            log.warning(
                "created another local certificate authority for %s, since no earlier one can sign any more: "
                "every client has to trust it (flytectl ca install)", self._base_domain,
            )  # fmt: skip
        return made

    def _kept(self) -> Iterator[ca.Ca | None]:
        """Yield the authorities that were made until now, oldest first; ``None`` for one that is damaged.

        Raises :class:`StoreCorrupt` when the whole store is refused.
        """
        for number in itertools.count(1):
            try:
                cert = self._vault.get_internal(_numbered(_CERT, number))
            except NotFound:
                return
            except StoreCorrupt:
                cert = b""
            try:
                found = ca.Ca(cert, self._vault.get_internal(_numbered(_KEY, number)))
                ca.check(found)
            except (NotFound, StoreCorrupt) as error:
                if self._vault.refusal is not None:
                    raise
                log.error("certificate authority %d is not used: %s", number, error.message)  # noqa: TRY400
                yield None
            else:
                yield found


def _numbered(name: str, number: int) -> str:
    """Return the name in the vault: the first CA has the bare name, as in flyted 0.1.0, which never had a second."""
    return name if number == 1 else f"{name}-{number}"
