"""AppService: creates, changes, describes, lists, deletes and watches apps.

``Create`` is answered "pending" at flyted's event ``accepted``, after which only the machine can fail; until then
every refusal is an error of the call itself. ``Watch`` reports the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.app import app_definition_pb2 as definition
from flyteidl2.app import app_payload_pb2 as pb
from flyteidl2.app.app_service_connect import AppService

from flyted.base import tasks
from flyted.contract.answers.apps import AppList, AppStatus, Described
from flyted.contract.answers.events import Accepted
from flyted.contract.app import to_dict
from flyted.contract.errors import FlytedError, HostFailure, NotFound, SecretNotFound, Unsupported
from flyted.contract.names import AppKey
from flyted.gateway.caller import caller
from flyted.gateway.errors import one_text
from flyted.gateway.idl import filters, status
from flyted.gateway.idl.convert import described, key_of, looked_through
from flyted.gateway.idl.described import app_of
from flyted.gateway.idl.paging import page
from flyted.gateway.parts import Parts
from flyted.gateway.services.jobs import Deploy

LIST_LIMIT = 100
STREAM_S = 600.0
"""Seconds after which a stream ends; a client that still wants to know asks again."""
LOOK_S = 1.0
QUICK_S = 1.5  # a stop or start that ends within this time is reported as done
STOPPED = definition.Spec.DESIRED_STATE_STOPPED


class Apps(AppService):
    """The handlers of AppService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create(self, request: pb.CreateRequest, ctx: RequestContext) -> pb.CreateResponse:
        """Serve an app, new or not, and answer with the state "pending" when flyted has accepted it.

        If flyted finds nothing to change, answer with the app as it is. Raise :class:`Unsupported` for an app that is
        to be created stopped, for a missing secret, and for a description that :meth:`get` gave and that is not whole;
        and what :func:`~flyted.gateway.idl.convert.described` and
        :meth:`~flyted.gateway.services.jobs.Jobs.deploy` raise.
        """
        if request.app.spec.desired_state == STOPPED:
            raise Unsupported(
                "an app is always created as active", hint="create it, then `flyte update app NAME --deactivate`"
            )
        if request.app.metadata.revision:  # the SDK sends none for a file: this is what `get` gave
            key = key_of(request.app.metadata.id)
            self._check_whole(key, await self._get(key))
        return pb.CreateResponse(app=await self._serve(request.app))

    async def update(self, request: pb.UpdateRequest, ctx: RequestContext) -> pb.UpdateResponse:
        """Stop or start an app, or serve its new description. The status that the client sends is ignored.

        Raise :class:`NotFound` for an app that does not exist, what :meth:`create` raises, and :class:`Unsupported`
        for a new description of an app whose own one did not come from a client of Flyte's API.
        """
        key = key_of(request.app.metadata.id)
        found = await self._get(key)
        self._parts.jobs.forget(key)
        if request.app.spec.desired_state == STOPPED:
            await self._switch("app.stop", key)
        elif _same(request.app.spec, self._known(key, found.app.spec_digest, found.spec).spec):
            await self._switch("app.start", key)
        else:
            self._check_whole(key, found)
            return pb.UpdateResponse(app=await self._serve(request.app))
        answer = await self._view(key)
        if request.app.spec.desired_state:
            answer.spec.desired_state = request.app.spec.desired_state
        return pb.UpdateResponse(app=answer)

    async def get(self, request: pb.GetRequest, ctx: RequestContext) -> pb.GetResponse:
        """Describe one app as it is: after a deploy that failed, the revision that still serves.

        Raise :class:`NotFound` for an app that does not exist.
        """
        return pb.GetResponse(app=await self._view(key_of(request.app_id)))

    async def list(self, request: pb.ListRequest, ctx: RequestContext) -> pb.ListResponse:
        """List the apps of a project and domain, or all apps, page by page.

        They can be filtered by state, creator and name. Raise :class:`~flyted.contract.errors.InvalidInput` for
        another filter and for a bad page token.
        """
        args = {"project": request.project.name, "domain": request.project.domain}
        found = (await self._parts.daemon.call(AppList, "app.list", args, token=caller().token)).apps
        apps = filters.sort([self._listed(app) for app in found], request.request.sort_by)
        wanted = [app for app in apps if filters.matches(app, request.request.filters)]
        shown, token = page(wanted, request.request.limit, request.request.token, LIST_LIMIT)
        return pb.ListResponse(apps=shown, token=token, total_count=len(wanted))

    async def delete(self, request: pb.DeleteRequest, ctx: RequestContext) -> pb.DeleteResponse:
        """Stop an app and forget it. A client that leaves before the last requests have ended cancels the deletion.

        The app's data is kept, since Flyte's command asks no question: ``flytectl app delete`` removes it. Raise
        :class:`NotFound` for an app that does not exist, and :class:`Busy` if the client leaves.
        """
        key = key_of(request.app_id)
        args = {**_args(key), "keep_data": True}
        await caller().until_left(self._parts.daemon.call(AppStatus, "app.delete", args, token=caller().token))
        self._parts.jobs.drop(key)
        self._parts.specs.forget(key)
        return pb.DeleteResponse()

    async def watch(self, request: pb.WatchRequest, ctx: RequestContext) -> AsyncIterator[pb.WatchResponse]:
        """Yield one app as it is now, then at each change, for ``STREAM_S`` seconds or until the client leaves.

        Raise :class:`Unsupported` for a request that names no app.
        """
        if not request.app_id.name:
            raise Unsupported("watch one app: app_id is missing")
        key, until, last = key_of(request.app_id), time.monotonic() + STREAM_S, None
        while time.monotonic() < until and not caller().gone.is_set():
            deploy = self._parts.jobs.deploy_of(key)
            app = await self._watched(key, deploy)
            if app != last:
                last = app
                yield pb.WatchResponse(update_event=pb.UpdateEvent(updated_app=app))
            await _pause(deploy)

    async def _serve(self, app: definition.App) -> definition.App:
        key = key_of(app.metadata.id)
        spec, bundles = described(app, self._parts.recipes, self._parts.blobs)
        if spec.bundle:
            async with self._parts.reading.slot(caller().uid):
                spec = await tasks.whole(asyncio.to_thread(looked_through, spec, bundles[spec.bundle]))
        kept = definition.App(metadata=app.metadata, spec=app.spec)
        kept.spec.ingress.SetInParent()
        kept.spec.creator.user.id.subject = caller().user
        self._parts.specs.keep(key, spec.digest(), kept.SerializeToString())
        try:
            deploy = await self._parts.jobs.deploy(key, to_dict(spec), bundles, caller().token)
        except SecretNotFound as error:
            raise Unsupported(error.message, hint=error.hint) from error  # the app is wrong, not the request's address
        self._keep_as_stored(key, deploy, spec.digest(), kept)
        if deploy.answer is not None:
            return self._of_app(deploy.answer.app, kept)
        return self._deploying(kept, deploy, None)

    def _keep_as_stored(self, key: AppKey, deploy: Deploy, sent: str, kept: definition.App) -> None:
        """Keep a description under the digest that flyted gave the app too, if that is not the one that was sent.

        flyted adds the folders of the models that the app's command names.
        """
        answered = deploy.answer.app.spec_digest if deploy.answer else ""
        digest = deploy.accepted.spec_digest if deploy.accepted else answered
        if digest and digest != sent:
            with contextlib.suppress(HostFailure):  # the deploy continues: the app is described from flyted's own then
                self._parts.specs.keep(key, digest, kept.SerializeToString())

    async def _watched(self, key: AppKey, deploy: Deploy | None) -> definition.App:
        if deploy is None or deploy.accepted is None:
            return await self._view(key)
        known = self._known(key, deploy.accepted.spec_digest)
        if deploy.running:
            return self._deploying(known, deploy, None)
        if deploy.error is not None:
            answer = definition.App(metadata=known.metadata, spec=known.spec)
            answer.metadata.revision = deploy.accepted.revision
            answer.status.CopyFrom(status.of_failure(deploy.accepted, one_text(deploy.error), deploy.begun))
            return answer
        return await self._view(key)

    async def _view(self, key: AppKey) -> definition.App:
        deploy = self._parts.jobs.deploy_of(key)
        pending = deploy is not None and deploy.running and deploy.accepted is not None
        try:
            found = await self._get(key)
        except NotFound:
            if not pending or deploy is None or deploy.accepted is None:
                raise
            return self._deploying(self._known(key, deploy.accepted.spec_digest), deploy, None)
        known = self._known(key, found.app.spec_digest, found.spec)
        if pending and deploy is not None:
            return self._deploying(known, deploy, found.app)
        return self._of_app(found.app, known)

    def _deploying(self, known: definition.App, deploy: Deploy, app: AppStatus | None) -> definition.App:
        accepted = deploy.accepted or Accepted("")
        answer = definition.App(metadata=known.metadata, spec=known.spec)
        answer.metadata.revision = accepted.revision
        answer.status.CopyFrom(status.of_deploy(app, accepted, deploy.text, deploy.begun))
        return answer

    def _of_app(self, app: AppStatus, known: definition.App) -> definition.App:
        answer = definition.App(metadata=known.metadata, spec=known.spec)
        answer.metadata.revision = app.revision
        answer.spec.desired_state = (
            STOPPED if app.wanted == "stopped" else (known.spec.desired_state or definition.Spec.DESIRED_STATE_ACTIVE)
        )
        answer.spec.creator.user.id.subject = app.deployed_by
        answer.status.CopyFrom(status.of_app(app))
        return answer

    def _listed(self, app: AppStatus) -> definition.App:
        key = AppKey(app.project, app.domain, app.name)
        return self._of_app(app, self._known(key, app.spec_digest))

    def _known(self, key: AppKey, digest: str, spec: dict[str, Any] | None = None) -> definition.App:
        """Return an app as its client described it, else from flyted's ``spec``, else its names alone."""
        return self._kept(key, digest) or app_of(key, spec or {})

    def _check_whole(self, key: AppKey, found: Described) -> None:
        """Raise :class:`Unsupported` if all that a client can know of an app is flyted's description of it.

        Flyte's IDL has no place for its bundle, packages and flytectl's options: served from that, it would lose them.
        """
        if self._kept(key, found.app.spec_digest) is None:
            raise Unsupported(
                f"app '{key}' was not served with the flyte command or SDK, which therefore know only part of it: "
                "an update by them would remove its code, packages and options",
                hint="edit its file and serve it again: flytectl serve FILE, or flyte deploy FILE ENV",
            )

    def _kept(self, key: AppKey, digest: str) -> definition.App | None:
        data = self._parts.specs.find(key, digest)
        return definition.App.FromString(data) if data is not None else None

    async def _get(self, key: AppKey) -> Described:
        return await self._parts.daemon.call(Described, "app.get", _args(key), token=caller().token)

    async def _switch(self, verb: str, key: AppKey) -> None:
        """Start or stop an app, and wait ``QUICK_S`` seconds at most. Then it continues, and the client watches it."""
        call = self._parts.daemon.call(AppStatus, verb, _args(key), token=caller().token)
        task = tasks.begin(call, known=(FlytedError,))  # who still watches sees the state
        done, _ = await asyncio.wait([task], timeout=QUICK_S)
        if done:
            task.result()


def _args(key: AppKey) -> dict[str, str]:
    return {"project": key.project, "domain": key.domain, "name": key.name}


def _same(one: definition.Spec, other: definition.Spec) -> bool:
    """Report whether two descriptions are equal but for the desired state and the creator."""
    pair = []
    for spec in (one, other):
        copy = definition.Spec()
        copy.CopyFrom(spec)
        copy.desired_state = definition.Spec.DESIRED_STATE_UNSPECIFIED
        copy.ClearField("creator")
        copy.ingress.SetInParent()
        pair.append(copy)
    return bool(pair[0] == pair[1])


async def _pause(deploy: Deploy | None) -> None:
    """Wait for news of a running deploy, 5 s at most, else for ``LOOK_S`` seconds, or until the client leaves."""
    await caller().while_there(deploy.news.wait(5.0) if deploy and deploy.running else asyncio.sleep(LOOK_S))
