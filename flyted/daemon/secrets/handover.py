"""Answers a starting unit: asks ``plan.secrets`` whether it may have a credential, and the vault for the bytes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping

from flyted.contract.app import SecretUse
from flyted.contract.errors import FlytedError
from flyted.contract.names import AppKey
from flyted.daemon.gpus.leases import GpuLeases
from flyted.daemon.ingress.tls import Tls
from flyted.host.store import Store
from flyted.host.vault import Vault
from flyted.plan.secrets import (
    AcmeJob,
    BuildGrant,
    BuildSecret,
    Checksums,
    GpuLease,
    IngressCertificate,
    OneSecret,
    grant,
    sums,
)

log = logging.getLogger(__name__)


class Handover:
    """The answers of the credential socket.

    ``refused`` is filled here: why a unit, by name, got less than it asked for at its last start, since systemd starts
    it all the same.
    """

    def __init__(
        self, store: Store, vault: Vault, tls: Tls, gpus: GpuLeases, builds: Mapping[str, BuildGrant],
        orders: Mapping[str, bytes], refused: dict[str, str],
    ) -> None:  # fmt: skip
        self._store = store
        self._vault = vault
        self._tls = tls
        self._gpus = gpus
        self._builds = builds
        self._orders = orders
        self._refused = refused

    def answer(self, unit: str, credential: str) -> bytes | Awaitable[bytes]:
        """Return the content of a unit's credential, immediately or, for a GPU, when there is one.

        Raises :class:`PermissionRefused` for a credential that was not planned, and as the vault for a secret. systemd
        then starts the unit with an empty credential, which launch refuses.
        """
        match grant(unit, credential, self._store.apps(), self._builds, self._orders):
            case IngressCertificate():
                return self._tls.site_pem()
            case Checksums(app, uses):
                return self._sums(unit, app, uses)
            case GpuLease(_, replica, ask):
                return self._gpus.lease(replica, ask)
            case AcmeJob():
                return self._orders[unit]
            case OneSecret(app, use):
                log.info("%s reads secret '%s' as %s", unit, use.key, use.env or f"file {use.file}")
                return self._value(app.project, app.domain, use)
            case BuildSecret(project, domain, use):
                log.info("%s reads secret '%s' as %s", unit, use.key, use.env)
                return self._value(project, domain, use)

    def _sums(self, unit: str, app: AppKey, uses: tuple[SecretUse, ...]) -> bytes:
        """Return the checksums of an app's secrets.

        If they cannot be made, remember why: launch only sees that they are missing.
        """
        self._refused.pop(unit, None)
        try:
            scopes = [self._vault.resolve(use.key, app.project, app.domain) for use in uses]
            return sums([self._vault.digest(scope, use.key) for scope, use in zip(scopes, uses, strict=True)])
        except FlytedError as error:
            self._refused[unit] = f"{error.message}: {error.hint}" if error.hint else error.message
            raise

    def _value(self, project: str, domain: str, use: SecretUse) -> bytes:
        scope = self._vault.resolve(use.key, project, domain)
        return self._vault.get(scope, use.key)
