"""Deploys an app: checks everything, builds, starts the revision beside the old one, and switches; or changes nothing.

The loop runs meanwhile, and the old revision serves. If flyted is killed anywhere on the way, a pending revision
is left, which flyted's next start marks as failed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from flyted.contract.answers.events import NOTE, STEP, Accepted, Progress
from flyted.contract.app import AppSpec
from flyted.contract.errors import HostFailure, InvalidInput, NotFound
from flyted.contract.names import AppKey, Replica
from flyted.contract.status import AppState
from flyted.daemon.api.verbs import Emit, WhileThere, to_its_end
from flyted.daemon.apps.bring_up import BringUp
from flyted.daemon.apps.bundles import Bundles
from flyted.daemon.apps.locks import DeployLocks
from flyted.daemon.apps.status import url_of
from flyted.daemon.apps.used_secrets import used_secrets
from flyted.daemon.config import Config
from flyted.daemon.execute import Execute
from flyted.daemon.explain import Explain
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.images.images import Images
from flyted.daemon.ingress.records import Records
from flyted.daemon.look import Look
from flyted.daemon.loop import Loop
from flyted.daemon.models import ModelVerbs
from flyted.daemon.volumes import VolumeVerbs
from flyted.host.disk import free_bytes
from flyted.host.memory import capacity
from flyted.host.store import Store
from flyted.host.vault import Vault
from flyted.plan import arguments, calls, parameter_mounts, replica_room
from flyted.plan.disk import APP_FOLDERS, check_room
from flyted.plan.engines.check import check as check_engine
from flyted.plan.facts import ImageFact, StoredApp
from flyted.plan.images.entrypoint import with_entrypoint
from flyted.plan.ingress import names
from flyted.plan.notes import notes, replaces
from flyted.plan.pool_use import unused as unused_pools
from flyted.plan.reasons import failure
from flyted.plan.states import state_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deploy:
    """The deploys and starts of apps: one at a time per app."""

    loop: Loop
    look: Look
    execute: Execute
    explain: Explain
    config: Config
    store: Store
    vault: Vault
    images: Images
    bundles: Bundles
    gpus: GpuInventory
    models: ModelVerbs
    volumes: VolumeVerbs
    locks: DeployLocks
    records: Records

    @property
    def _bring_up(self) -> BringUp:
        return BringUp(self.loop, self.look, self.execute, self.explain, self.store, self.locks)

    async def serve(
        self, spec: AppSpec, sent: Mapping[str, int], emit: Emit, by: str, building: WhileThere = to_its_end
    ) -> tuple[StoredApp, bool]:
        """Deploy ``spec`` for the user ``by``, with the bundles that were ``sent``; return the app, and if it changed.

        ``building``: waits for the image; what it raises instead calls the deploy off before anything is changed.
        Raises :class:`InvalidInput`, :class:`Unsupported`, :class:`SecretNotFound`, :class:`Busy` and, for a name that
        conflicts with another app's, :class:`AlreadyExists`, all before anything is changed. Raises
        :class:`BuildFailed` for the image, and :class:`DeployFailed` when the new revision did not start (the old
        one then keeps serving) or a stop or deletion cancelled the deploy.
        """
        async with self.locks.hold(spec.key):
            spec = await self._with_folders(spec)
            return await self._serve(
                dataclasses.replace(spec, key=self.store.known(spec.key)), sent, emit, by, building=building
            )

    async def check(self, spec: AppSpec) -> None:
        """Raise what :meth:`serve` would raise before it changes anything: for files with several apps."""
        spec = await self._with_folders(spec)
        spec = dataclasses.replace(spec, key=self.store.known(spec.key))
        if self._unchanged(spec, self._fingerprint(spec)) is None:
            await self._check(spec)
            await self._leads(spec)

    async def _with_folders(self, spec: AppSpec) -> AppSpec:
        return await self.volumes.with_folders(await self.models.with_folders(spec))

    async def again(self, app: AppKey, emit: Emit, by: str) -> None:
        """Deploy the revision that serves as a new one, so that it takes its secrets as they are today.

        Its image stays: no registry is asked which one a tag is today. Does nothing for an app that is stopped or has
        never come up. Raises as :meth:`serve`.
        """
        async with self.locks.hold(app):
            found = self.store.find(app)
            if found is not None and found.wanted == "started" and found.current is not None:
                image = found.current.image
                kept = image if image.root is not None and self.images.present(image) else None
                await self._serve(found.current.spec, {}, emit, by, kept)

    async def onto_rebuilt(self, app: AppKey, emit: Emit, by: str) -> bool:
        """Deploy the revision that serves as a new one if its image was rebuilt; report whether it was deployed.

        An app that is stopped is left as it is. Raises as :meth:`serve`.
        """
        async with self.locks.hold(app):
            found = self.store.find(app)
            current = found.current if found is not None and found.wanted == "started" else None
            if current is not None and self.images.superseded(current.image):
                return (await self._serve(current.spec, {}, emit, by))[1]
            return False

    async def start(self, app: AppKey, emit: Emit) -> None:
        """Set the wanted state to started and wait until the app answers.

        Raises :class:`NotFound`, :class:`InvalidInput` for an app that has never come up, :class:`Busy`, and
        :class:`DeployFailed` when the app does not start or the start is cancelled.
        """
        async with self.locks.hold(app):
            found = self.store.find(app)
            if found is None:
                raise NotFound(f"there is no app '{app}'", hint="flytectl app ls")
            if found.current is None:
                raise InvalidInput(
                    f"app '{app}' has never been ready", hint="serve its file again: flytectl serve FILE"
                )
            await self._start_again(found, emit)

    async def _serve(
        self, spec: AppSpec, sent: Mapping[str, int], emit: Emit, by: str, kept: ImageFact | None = None,
        building: WhileThere = to_its_end,
    ) -> tuple[StoredApp, bool]:  # fmt: skip
        fingerprint = self._fingerprint(spec)
        unchanged = self._unchanged(spec, fingerprint)
        if unchanged is not None:
            return await self._start_again(unchanged, emit), False
        await self._check(spec)
        elsewhere = await self._leads(spec)
        async with self.bundles.held(spec.bundles, sent):
            await self._accepted(spec, emit)
            gpus = await self.gpus.suitable(spec.gpu) if spec.max_replicas > 1 else 0
            served = {name for name in spec.calls if self.store.find(dataclasses.replace(spec.key, name=name))}
            said = (*notes(spec, capacity(), self.config.sites(), gpus), *calls.notes(spec, served))
            for text in (*replaces(self.store.find(spec.key), by), *said, *elsewhere):
                await emit(Progress(NOTE, text))
            image = kept if kept is not None else await building(self.images.ensure(spec, emit))
            if image.root is not None:
                run = with_entrypoint(spec, image.root)
                arguments.check(run)
                with self.images.hold(image):
                    await asyncio.to_thread(self.images.check_root, run, image, image.root)  # it reads layers
            self._check_names(spec)  # again: another app may have taken one while the image was built
            unused = self._unused_pools(spec)
            number = self.store.add_revision(spec, image, fingerprint, time.time(), by, unused)
        await self._bring_up.bring_up(spec.key, number, emit)
        await self.loop.settle()
        return self.store.app(spec.key.id), True

    async def _check(self, spec: AppSpec) -> None:
        self._check_names(spec)
        arguments.check(spec)
        check_engine(spec)
        gpus = await self.gpus.suitable(spec.gpu) if spec.min_replicas > 1 else 0
        replica_room.check(spec, capacity(), gpus)
        await self.gpus.check(spec.key, spec.gpu)  # before the checks of what only a machine with a GPU needs
        rooted = self.images.check(spec)
        parameter_mounts.check(spec, rooted=rooted)
        await self.gpus.check_driver(spec.key, needed=rooted and bool(spec.gpu_count))
        self._check_room(spec)
        self.store.check_pool(spec, self._unused_pools(spec))

    def _unused_pools(self, spec: AppSpec) -> tuple[str, ...]:
        return unused_pools(self.store.apps(), self.look.units()) if spec.max_replicas > 1 else ()

    def _fingerprint(self, spec: AppSpec) -> str:
        """Return a digest of the spec and of its secrets' generations: if it is the same, nothing has changed.

        Raises as :func:`used_secrets`.
        """
        found = zip(spec.secrets, used_secrets(spec, self.vault), strict=True)
        secrets = [(scope.project, scope.domain, use.key, entry.generation) for use, (scope, entry) in found]
        return hashlib.sha256(json.dumps([spec.digest(), secrets]).encode()).hexdigest()

    def _check_names(self, spec: AppSpec) -> None:
        names.check(spec, self.store.apps(), self.config.base_domain, self.config.sites())

    async def _leads(self, spec: AppSpec) -> list[str]:
        """Return as :meth:`Records.check`; what is deployed again as it is, by flyted itself, is not asked about."""
        app = self.store.find(spec.key)
        if app is not None and app.current is not None and app.current.spec == spec:
            return []
        return await self.records.check(spec)

    def _check_room(self, spec: AppSpec) -> None:
        app = self.store.find(spec.key)
        before = app.current.spec.disk_bytes if app is not None and app.current is not None else 0
        if spec.disk_bytes > before:
            check_room(spec.key, spec.disk_bytes, before, free_bytes(APP_FOLDERS))

    def _unchanged(self, spec: AppSpec, fingerprint: str) -> StoredApp | None:
        app = self.store.find(spec.key)
        if app is None or app.current is None or app.current.fingerprint != fingerprint:
            return None
        image = app.current.image
        return app if self.images.present(image) and not self.images.superseded(image) else None

    async def _start_again(self, app: StoredApp, emit: Emit) -> StoredApp:
        replicas = app.replicas_of(app.serving or 0)
        found, _why = state_of(app, await self.loop.facts())
        for replica in replicas:
            self.loop.forgive(replica)
        self.store.want(app.key.id, "started", time.time())
        for replica in replicas:
            await self.loop.at_rest(replica)  # an earlier stop may still act on it
        await self.loop.settle()
        if app.wanted == "stopped" or found is AppState.FAILED:
            await emit(Progress(STEP, f"starting {app.key}"))
            for replica in replicas:
                await self._start_by_hand(app, replica)
        return self.store.app(app.key.id)

    async def _start_by_hand(self, app: StoredApp, replica: Replica) -> None:
        try:
            result = await self.loop.exclusively(replica, lambda: self.execute.start_service(replica))
        except HostFailure:
            if replica.socket in (await self.loop.facts()).units:
                raise
            result = "gone"  # it came up, died, and systemd gave it up before it was its turn
        if result != "done":
            raise failure(f"app '{app.key}' did not start", await self.explain.why_failed(replica), app.key.name)

    async def _accepted(self, spec: AppSpec, emit: Emit) -> None:
        """Notify the client that its request is accepted: from here on only the machine may fail."""
        app = self.store.find(spec.key)
        number = max((r.number for r in app.revisions), default=0) + 1 if app else 1
        host = names.shown(spec.key.id, spec, self.config.url_domain, self.config.sites())
        url = url_of(host, self.config.https_port)
        await emit(Accepted(f"checked {spec.key}", number, url, spec.digest()))
