"""Handles the secret verbs. No verb returns a value."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from flyted.contract.answers.machine import Done
from flyted.contract.answers.secrets import SecretList, SecretStatus, Stored, StoreKey
from flyted.contract.errors import FlytedError, InvalidInput, SecretNotFound
from flyted.contract.names import SecretScope
from flyted.daemon.api.changes import user_of
from flyted.daemon.api.verbs import SECRET_ARGS, Call, Right, Verb
from flyted.daemon.apps.deploy import Deploy
from flyted.daemon.images.secret_uses import is_needed, settings_with
from flyted.host.manifest import SecretInfo
from flyted.host.store import Store
from flyted.host.vault import Vault
from flyted.plan.facts import StoredApp


class Secrets:
    """The handlers of the secret verbs, over the vault."""

    def __init__(self, vault: Vault, store: Store, deploy: Deploy) -> None:
        self._vault = vault
        self._store = store
        self._deploy = deploy

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        listed: dict[str, type] = {"project": str, "domain": str, "all": bool}
        created: dict[str, type] = {**SECRET_ARGS, "replace": bool, "roll": bool}
        return {
            "secret.create": Verb(Right.SECRETS, created, self.create, bulk=True, changes=True),
            "secret.list": Verb(Right.READ, listed, self.list_),
            "secret.get": Verb(Right.READ, SECRET_ARGS, self.get),
            "secret.delete": Verb(Right.SECRETS, SECRET_ARGS, self.delete, changes=True),
            "secret.accept-rollback": Verb(Right.ADMIN, {}, self.accept_rollback, changes=True),
            "secret.identity": Verb(Right.ADMIN, {}, self.identity),
            "secret.rotate": Verb(Right.ADMIN, {}, self.rotate, changes=True),
        }

    async def create(self, call: Call) -> Stored:
        """Store a value; with ``roll``, redeploy the apps that use it, one after the other.

        Raises :class:`InvalidInput` for an empty value, :class:`AlreadyExists` without ``replace``, and
        :class:`FlytedError` when the value is stored, but not every app took it.
        """
        known = self._tell(call)
        if not call.bulk:
            raise InvalidInput("a secret must not be empty: an app could not tell it from a missing one")
        info = self._vault.put(call.scope, call.key, call.bulk, replace=call.args["replace"])
        call.about.outcome = "replaced" if known else ""
        rolled = await self._roll(call) if call.args["roll"] else []
        return Stored(_status(info), tuple(rolled))

    async def list_(self, call: Call) -> SecretList:
        """Return the secrets of a scope, or of all."""
        found = [i for i in self._vault.list() if call.args["all"] or i.scope == call.scope]
        return SecretList(tuple(map(_status, found)))

    async def get(self, call: Call) -> SecretStatus:
        """Return what is known of a secret (not its value), and who uses it. Raises :class:`SecretNotFound`."""
        info = self._vault.info(call.scope, call.key)
        apps, images = self._users(info)
        settings = settings_with(self._deploy.images, info.key)
        return replace(_status(info), apps=tuple(apps), images=tuple(images), settings=settings)

    async def delete(self, call: Call) -> SecretStatus:
        """Forget a secret. Apps that use it keep the value that they were started with.

        Raises :class:`SecretNotFound`.
        """
        self._tell(call)
        return _status(self._vault.delete(call.scope, call.key))

    async def accept_rollback(self, _call: Call) -> Done:
        """Accept a restored, older store as the right one, since root says so. Raises :class:`StoreCorrupt`."""
        self._vault.accept_rollback()
        return Done()

    async def identity(self, _call: Call) -> StoreKey:
        """Return the public key of this machine's identity."""
        return StoreKey(str(self._vault.recipient))

    async def rotate(self, _call: Call) -> StoreKey:
        """Ask for a new identity at flyted's next start, which the caller has to bring about; return today's.

        Raises :class:`StoreCorrupt` or :class:`HostFailure` when the store cannot be rewritten.
        """
        self._vault.ask_rotation()
        return StoreKey(str(self._vault.recipient))

    def _tell(self, call: Call) -> bool:
        """Name the secret, its scope and its apps in the journal's entry; report whether it exists already.

        An app uses the secrets of its image too.
        """
        call.about.tell(secret=call.key)
        if call.scope != SecretScope():
            call.about.tell(scope=str(call.scope))
        with contextlib.suppress(SecretNotFound):
            apps, images = self._users(self._vault.info(call.scope, call.key))
            call.about.tell(app=dict.fromkeys([*apps, *images]))
            return True
        return False

    def _users(self, info: SecretInfo) -> tuple[list[str], list[str]]:
        """Return the apps that get this secret, and those whose image needs it; not one of another scope."""
        apps, images = [], []
        for app in self._store.apps():
            spec = app.current.spec if app.current else None
            if spec is None or not self._resolves(info, app):
                continue
            if any(use.key == info.key for use in spec.secrets):
                apps.append(str(app.key))
            if is_needed(spec, info.key):
                images.append(str(app.key))
        return apps, images

    def _resolves(self, info: SecretInfo, app: StoredApp) -> bool:
        """Report whether the secret of this key that an app would get is this one."""
        with contextlib.suppress(SecretNotFound):
            return self._vault.resolve(info.key, app.key.project, app.key.domain) == info.scope
        return False

    async def _roll(self, call: Call) -> list[str]:
        rolled, failed = [], []
        for name in [app.key for app in self._store.apps()]:
            app = self._store.find(name)  # as it is now: the apps before it may have taken minutes
            if app is None or not _takes(app, call.key):
                continue
            try:
                await self._deploy.again(name, call.emit, user_of(call.actor))
                rolled.append(str(name))
            except FlytedError as error:
                failed.append(f"{name}: {error.message}")
        if failed:
            raise FlytedError(f"the secret is stored, but not every app was restarted with it: {'; '.join(failed)}")
        return rolled


def _takes(app: StoredApp, key: str) -> bool:
    """Report whether an app is wanted to run, with a secret of this key."""
    current = app.current if app.wanted == "started" else None
    return current is not None and any(use.key == key for use in current.spec.secrets)


def _status(info: SecretInfo) -> SecretStatus:
    return SecretStatus(
        key=info.key, project=info.scope.project, domain=info.scope.domain, generation=info.generation,
        created_at=info.created, updated_at=info.updated, damaged=info.damaged,
    )  # fmt: skip
