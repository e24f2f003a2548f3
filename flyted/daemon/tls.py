"""The local CA and the ingress's certificate: kept in the vault, given to HAProxy as a credential, renewed in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import Any

from flyted.contract.errors import FlytedError, IngressDown, NotFound, StoreCorrupt
from flyted.daemon.verbs import Call, Right, Verb
from flyted.host import ca, whole_file
from flyted.host.ingress import Ingress
from flyted.host.vault import Vault

log = logging.getLogger(__name__)

_CERT, _KEY = "ca-certificate", "ca-key"
_RETRY_S = 3600.0
_DAY_S = 86400.0


class Tls:
    """One CA per machine and base domain; one leaf, in memory only, issued when first asked for.

    ``ca_file`` is kept with the CA's certificate, for programs that want the path of one.
    """

    def __init__(self, vault: Vault, ingress: Ingress, base_domain: str, ca_file: Path) -> None:
        self._vault = vault
        self._ca_file = ca_file
        self._ingress = ingress
        self._base_domain = base_domain
        self._ca: ca.Ca | None = None
        self._leaf: ca.Leaf | None = None

    def verbs(self) -> dict[str, Verb]:
        """The rows of the verb table."""
        return {"ca.show": Verb(Right.READ, {}, self.show)}

    def site_pem(self) -> bytes:
        """Certificate and key of the ingress. Raises :class:`StoreCorrupt` when the store is refused."""
        if self._leaf is None:
            self._leaf = ca.issue_leaf(self._authority(), self._base_domain)
        return self._leaf.pem

    async def show(self, _call: Call) -> dict[str, Any]:
        """The CA's certificate, which is public."""
        cert_pem = self._authority().cert_pem
        return {
            "pem": cert_pem.decode(),
            "fingerprint": ca.fingerprint(cert_pem),
            "names": list(ca.leaf_names(self._base_domain)),
        }

    async def keep_fresh(self) -> None:
        """Gives the ingress a certificate at our start and once a day; at two thirds of its life, a new one.

        At our start too: an ingress that went on meanwhile still has the one of the daemon before us.
        """
        while True:
            pause = _DAY_S
            try:
                if self._leaf is not None and self._leaf.renew_at <= time.time():
                    self._leaf = None
                whole_file.write(self._ca_file, self._authority().cert_pem)
                with contextlib.suppress(IngressDown):  # it takes this one when it starts
                    await self._ingress.set_certificate(self.site_pem())
            except FlytedError as error:
                log.error("the ingress's certificate: %s", error.message)  # noqa: TRY400
                pause = _RETRY_S
            await asyncio.sleep(pause)

    def _authority(self) -> ca.Ca:
        if self._ca is None:
            self._ca = self._load_or_make()
        return self._ca

    def _load_or_make(self) -> ca.Ca:
        try:
            found = ca.Ca(self._vault.get_internal(_CERT), self._vault.get_internal(_KEY))
            if ca.usable(found, self._base_domain, time.time()):
                return found
        except NotFound:
            log.info("there is no certificate authority yet")
        except StoreCorrupt as error:
            if self._vault.refusal is not None:
                raise
            log.error("%s; a new authority is made: flytectl ca install", error.message)  # noqa: TRY400
        made = ca.new_ca(self._base_domain)
        self._vault.put_internal(_KEY, made.key_pem)
        self._vault.put_internal(_CERT, made.cert_pem)
        log.info("made a local certificate authority for %s", self._base_domain)
        return made
