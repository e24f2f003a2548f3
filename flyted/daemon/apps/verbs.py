"""Handles the app verbs: each changes the wanted state, then waits until the loop has reached it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator

from flyted.contract.answers.apps import AppList, AppStatus, Deployed, Described, ReplicaStatus
from flyted.contract.answers.machine import Done
from flyted.contract.app import from_dict, to_dict
from flyted.contract.errors import Busy, IngressDown, InvalidInput, NotFound
from flyted.contract.names import AppKey, Replica
from flyted.contract.status import AppState
from flyted.daemon.access.ingress_tokens import IngressTokens
from flyted.daemon.api.changes import user_of
from flyted.daemon.api.verbs import APP_ARGS, Call, Right, Verb, to_its_end
from flyted.daemon.apps import bundles
from flyted.daemon.apps.data import kept_key
from flyted.daemon.apps.deploy import Deploy
from flyted.daemon.apps.status import app_status
from flyted.daemon.config import Config
from flyted.daemon.execute import Execute
from flyted.daemon.explain import Explain
from flyted.daemon.images.unused import UnusedImages
from flyted.daemon.look import Look
from flyted.daemon.loop import Loop
from flyted.host import people
from flyted.host.disk import is_folder
from flyted.host.store import Store
from flyted.plan.app_folders import folder_of
from flyted.plan.calls import callers
from flyted.plan.crowd import FOLLOWED, STRANGERS, may_have
from flyted.plan.engines.sleep import idle_step
from flyted.plan.facts import StoredApp

MAX_LINES = 10_000
LISTED_AT_ONCE = 50
_AT_REST = (AppState.SLEEPING, AppState.FAILED)


class Apps:
    """The handlers of the app verbs, over the store and the loop."""

    def __init__(
        self, store: Store, loop: Loop, look: Look, execute: Execute, explain: Explain, config: Config,
        deploy: Deploy, unused: UnusedImages, ingress_tokens: IngressTokens,
    ) -> None:  # fmt: skip
        self._store = store
        self._loop = loop
        self._look = look
        self._execute = execute
        self._explain = explain
        self._config = config
        self._deploy = deploy
        self._locks = deploy.locks
        self._unused = unused
        self._ingress_tokens = ingress_tokens
        self._followers: Counter[int] = Counter()
        self.disk_note: Callable[[str], str] = lambda _app_id: ""
        """Says what is to be said of the space that an app takes (disk_watch.py)."""
        self.deleted: Callable[[str], None] = lambda _app_id: None
        """Hears of each app that was deleted: what is known of its data counts no longer (data.py)."""

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        logs: dict[str, type] = {**APP_ARGS, "lines": int, "follow": bool}
        deleted: dict[str, type] = {**APP_ARGS, "keep_data": bool}
        return {
            "app.serve": Verb(Right.OPERATE, {"spec": dict}, self.serve, bundles=True, changes=True),
            "app.check": Verb(Right.OPERATE, {"spec": dict}, self.check),
            "app.list": Verb(Right.READ, {"project": str, "domain": str}, self.list),
            "app.get": Verb(Right.READ, APP_ARGS, self.get),
            "app.start": Verb(Right.OPERATE, APP_ARGS, self.start, changes=True),
            "app.stop": Verb(Right.OPERATE, APP_ARGS, self.stop, until_gone=True, changes=True),
            "app.sleep": Verb(Right.OPERATE, APP_ARGS, self.sleep, changes=True),
            "app.delete": Verb(Right.OPERATE, deleted, self.delete, until_gone=True, changes=True),
            "app.logs": Verb(Right.READ, logs, self.logs, until_gone=True),
        }

    async def serve(self, call: Call) -> Deployed:
        """Deploy an app; its progress streams as events.

        A client that leaves while the image is built calls the deploy off; later it goes on. Raises as
        :meth:`Deploy.serve`, and :class:`InvalidInput` for an invalid spec or bundle.
        """
        spec = from_dict(call.args["spec"])
        bundles.check(call.bundles, spec.bundles, in_memory=call.actor.token is None)
        try:
            self._tell(call, spec.key)
            # who comes through the gateway does not wait on this connection, and has an answer already
            building = call.while_there if call.actor.token is None else to_its_end
            app, changed = await self._deploy.serve(spec, call.bundles, call.emit, user_of(call.actor), building)
            call.about.tell(revision=str(app.serving))
            call.about.outcome = "" if changed else "unchanged"
        finally:
            self._deploy.bundles.sweep()
            self._unused.soon()
        return Deployed(await self._status(app), changed)

    async def check(self, call: Call) -> Done:
        """Refuse what ``app.serve`` would refuse, and change nothing."""
        await self._deploy.check(from_dict(call.args["spec"]))
        return Done()

    async def list(self, call: Call) -> AppList:
        """Return the apps of a project and domain; "" matches all."""
        project, domain = call.args["project"], call.args["domain"]
        facts = await self._loop.facts()
        found = [
            app for app in facts.apps
            if project in ("", app.key.project) and domain in ("", app.key.domain)
        ]  # fmt: skip
        said = []
        for number, app in enumerate(found):
            if number % LISTED_AT_ONCE == 0:
                await asyncio.sleep(0)  # lets a start that asks for a credential go first
            said.append(app_status(app, facts, self._config.url_domain, self._config.https_port))
        return AppList(tuple(said))

    async def get(self, call: Call) -> Described:
        """Return one app, and the specification that it was made of. Raises :class:`NotFound`."""
        app = self._app(call.app)
        shown = app.current or (app.revisions[-1] if app.revisions else None)
        found = await self._status(app)
        found = dataclasses.replace(
            found,
            replicas=tuple(self._with_since(app, each) for each in found.replicas),
            callers=callers(app.key, self._store.apps()),
        )
        if app.serving is not None and found.state in _AT_REST and not found.reason:
            ends = [await self._explain.why_ended(replica) for replica in app.replicas_of(app.serving)]
            found = dataclasses.replace(found, reason=next(filter(None, ends), ""))
        if more := self.disk_note(app.key.id):
            found = dataclasses.replace(found, notes=(*found.notes, more))
        return Described(found, to_dict(shown.spec) if shown else {})

    def _with_since(self, app: StoredApp, status: ReplicaStatus) -> ReplicaStatus:
        replica = Replica(app.key.id, app.serving or 0, status.number)
        return dataclasses.replace(status, since=self._look.since(replica))

    async def start(self, call: Call) -> AppStatus:
        """Set the wanted state to started, and return when the app answers.

        A stop that still waits for the last requests is cancelled. Raises as :meth:`Deploy.start`.
        """
        self._tell(call, call.app)
        await self._deploy.start(call.app, call.emit)
        return await self._status(self._app(call.app))

    async def stop(self, call: Call) -> AppStatus:
        """Set the wanted state to stopped, and return when no unit of the app is left.

        Nothing wakes the app; requests that run are finished. A deploy in progress is cancelled. A client that leaves
        does not wait any more; the app stops all the same. Raises :class:`NotFound`, and :class:`Busy` when the app
        is served or started again meanwhile.
        """
        self._tell(call, call.app)
        async with self._locks.ending(call.app) as turn:
            app = self._app(call.app, begun=turn.interrupts)
            await self._end(app)
            return await self._status(self._app(call.app, begun=turn.interrupts))

    async def sleep(self, call: Call) -> AppStatus:
        """Put an app to sleep now; the next request wakes it.

        Raises :class:`NotFound`, and :class:`InvalidInput` for an app that does not run or never sleeps.
        """
        self._tell(call, call.app)
        app = self._app(call.app)
        if app.wanted != "started" or app.serving is None:
            raise InvalidInput(f"app '{app.key}' is not running", hint=f"flytectl app start {app.key.name}")
        if app.current is not None and app.current.spec.min_replicas > 0:
            raise InvalidInput(
                f"app '{app.key}' has a minimum of {app.current.spec.min_replicas} replicas: it never sleeps",
                hint="use replicas=(0, 1)",
            )

        async def if_it_still_serves(replica: Replica) -> None:
            now = self._app(call.app)
            if replica in now.serving_replicas and now.current is not None:
                await self._execute.do(idle_step(now.current.spec, replica))

        await self._end_extra(app)
        for replica in app.serving_replicas:
            await self._loop.exclusively(replica, functools.partial(if_it_still_serves, replica))
        return await self._status(self._app(call.app))

    async def _end_extra(self, app: StoredApp) -> None:
        """Stop the replicas that an app has because of its load, once the ingress sends no new requests to them."""

        async def unless_needed_again(replica: Replica) -> None:
            scale = (await self._loop.facts(app.key.id)).scales.get(app.key.id)
            if scale is None or (scale.revision, replica.number) not in {(replica.revision, n) for n in scale.extra}:
                await self._execute.clear(replica)

        extra = self._loop.give_up_extra(app.key.id)
        if extra:
            await self._loop.settle()
        for replica in extra:
            await self._loop.exclusively(replica, functools.partial(unless_needed_again, replica))

    async def delete(self, call: Call) -> AppStatus:
        """Stop an app and forget it: its units and revisions and, unless ``keep_data``, its state and cache.

        A deploy in progress is cancelled. Of an app that was deleted with its data kept, the data is deleted.

        While the last requests are waited for, a client that leaves ends the deletion, and so does a user who serves
        or starts the app: then the app is stopped, and nothing of it is erased. Raises :class:`NotFound`,
        :class:`Busy` for a deletion that was ended so, and :class:`HostFailure` when some of the data is left.
        """
        self._tell(call, call.app)
        async with self._locks.ending(call.app) as turn:
            keep = call.args["keep_data"]
            key = kept_key(self._store, call.app)
            left = not keep and key.id not in self._store.ids() and is_folder(folder_of(key.id))
            app = self._app(key, begun=turn.interrupts or left)
            answer = await self._status(app)
            await self._end(app)
            await turn.finish(self._erase(app, keep=keep))
            call.about.outcome = "done, its data is kept" if keep else ""
        return answer

    async def logs(self, call: Call) -> Done:
        """Send an app's lines in the journal, oldest first, across its revisions; then, if asked, each new one.

        A revision that comes later is followed too; when the app is deleted, the log ends. Raises :class:`NotFound`,
        :class:`InvalidInput` for too many lines, and :class:`Busy` when too many logs are followed already.
        """
        lines = call.args["lines"]
        if not 0 <= lines <= MAX_LINES:
            raise InvalidInput(f"at most {MAX_LINES} lines", hint="journalctl shows all of them")
        app = self._app(call.app)
        if call.args["follow"]:
            with self._following(call.actor.uid):
                async with contextlib.aclosing(self._explain.follow(app.key.id, lines, self._loop.changed)) as found:
                    async for line in found:
                        await call.send(line)
        else:
            for line in await self._explain.lines(app.key.id, lines):
                await call.send(line)
        return Done()

    @contextlib.contextmanager
    def _following(self, uid: int) -> Iterator[None]:
        """Hold a place among those who follow a log. Root's are not counted. Raises :class:`Busy` if none is free."""
        uid = uid if people.is_account(uid) else STRANGERS
        if uid != 0 and not may_have(self._followers, uid, FOLLOWED):
            own = self._followers[uid]
            said = f"you follow {own} log{'s' * (own > 1)} already" if own else "too many users follow logs"
            raise Busy(f"{said}, the current limit", hint="end one, or read the log without -f: flytectl logs NAME")
        self._followers[uid] += uid != 0
        try:
            yield
        finally:
            self._followers[uid] -= uid != 0

    def _tell(self, call: Call, key: AppKey) -> None:
        """Name the app that is changed in the journal's entry, by the id that its units have."""
        found = self._store.find(key)
        call.about.tell(app=found.key.id if found else key.id)

    async def _end(self, app: StoredApp) -> None:
        """Stop an app, and wait until no unit of it is left: its last requests end first."""
        self._store.want(app.key.id, "stopped", time.time())
        await self._loop.settle()
        for replica in app.serving_replicas:  # a renewal that has begun makes its units once more
            await self._loop.at_rest(replica)
        while self._look.has_units(app.key.id):
            await self._loop.changed()

    async def _erase(self, app: StoredApp, *, keep: bool) -> None:
        if not keep:
            await self._execute.erase(app)
        self._store.delete(app.key.id, kept_since=time.time() if is_folder(folder_of(app.key.id)) else 0.0)
        self.deleted(app.key.id)
        with contextlib.suppress(IngressDown):  # the ingress reads its files when it is back
            await self._ingress_tokens.apply()
        await self._loop.settle()
        self._deploy.bundles.sweep()
        self._unused.soon()

    async def _status(self, app: StoredApp) -> AppStatus:
        facts = await self._loop.facts(app.key.id)
        return app_status(app, facts, self._config.url_domain, self._config.https_port)

    def _app(self, key: AppKey, *, begun: bool = False) -> StoredApp:
        """Return what is known of an app. Raises :class:`NotFound`.

        ``begun``: there is something of the app (a deploy that was cancelled, or data that was kept), so one that the
        store does not have counts as stopped.
        """
        found = self._store.find(key)
        if found is None and begun:
            return StoredApp(key, "stopped", None, (), time.time(), time.time())
        if found is None:
            left = self._store.kept_data.find(key) is not None
            raise NotFound(
                f"there is no app '{key}'", hint="its data is kept: flytectl data ls" if left else "flytectl app ls"
            )
        return found
