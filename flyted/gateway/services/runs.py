"""RunService: image builds, each of which Flyte calls a run of the task ``build-image``.

The SDK uploads its ImageSpec and starts a "run" of the task ``build-image``; that becomes the verb ``image.build``,
whose output the run keeps. The image's name, a digest that the SDK makes of the layers, then stands for the recipe,
and flyted's own digest follows it. The SDK asks for both before it builds; if the image is gone, it has it built
again. What the layers copy comes in one archive. The gateway splits it into the same bundles as flytectl, byte for
byte, so that both get the same layers; it keeps them beside the recipe, and sends them with the build and with each
deploy. A run lives as long as its connection to flyted: ``flyte abort run`` makes the gateway close that, and so does
the gateway's own end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.common import identifier_pb2, phase_pb2
from flyteidl2.task import common_pb2, task_definition_pb2
from flyteidl2.workflow import run_definition_pb2 as definition
from flyteidl2.workflow import run_service_pb2 as pb
from flyteidl2.workflow.run_service_connect import RunService

from flyted.base import tasks
from flyted.contract.errors import BuildFailed, InvalidInput, NotFound, Unsupported
from flyted.contract.names import printable
from flyted.contract.version import VERSION
from flyted.gateway.caller import caller, may_operate
from flyted.gateway.files.blobs import place_of
from flyted.gateway.files.context import add_login, image_of, login_note
from flyted.gateway.files.recipes import checked, uri_of
from flyted.gateway.parts import Parts
from flyted.gateway.services.data import inputs_of
from flyted.gateway.services.jobs import Run
from flyted.gateway.services.tasks import BUILD, check, spec_of

STREAM_S = 600.0
PHASES = {
    "running": phase_pb2.ACTION_PHASE_RUNNING,
    "succeeded": phase_pb2.ACTION_PHASE_SUCCEEDED,
    "failed": phase_pb2.ACTION_PHASE_FAILED,
    "aborted": phase_pb2.ACTION_PHASE_ABORTED,
}


class Runs(RunService):
    """The handlers of RunService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create_run(self, request: pb.CreateRunRequest, ctx: RequestContext) -> pb.CreateRunResponse:
        """Begin a build, and answer when flyted has accepted its recipe. Of the same recipe flyted makes one build.

        If the client leaves before that, the build is not begun. If it leaves later, the build goes on.

        Raise :class:`NotFound` for a run of any other task, :class:`PermissionRefused` for a caller who may not build,
        :class:`InvalidInput` or :class:`Unsupported` for inputs that are not a build's, and the error with which
        flyted refuses the recipe.
        """
        may_operate()  # before files are read and stored; flyted checks it again
        if request.WhichOneof("task") == "task_id":
            check(request.task_id.name)
        else:
            check(request.task_spec.short_name or request.task_spec.task_template.id.name)
        inputs = request.inputs
        if request.HasField("offloaded_input_data"):
            inputs = inputs_of(request.offloaded_input_data.uri)
        secrets = request.task_spec.task_template.security_context.secrets
        build = self._build(request.project_id, _texts(inputs), [(each.group, each.key) for each in secrets])
        run = await caller().until_left(build)
        action = definition.Action(id=_action(run), status=_status(run))
        return pb.CreateRunResponse(run=definition.Run(action=action))

    async def _build(
        self, where: identifier_pb2.ProjectIdentifier, given: dict[str, str], secrets: list[tuple[str, str]]
    ) -> Run:
        name = checked(given.get("target_image", ""))
        try:
            image = await self._image(where, given)
        except NotFound as error:
            raise Unsupported(error.message, hint="serve again") from error
        add_login(image, secrets)
        sent = self._parts.recipes.bundles(image)
        return await self._parts.jobs.build(
            where.name, where.domain, name, image, sent, caller().token, lambda built: self._done(name, image, built),
            login_note(image),
        )  # fmt: skip

    async def _image(self, where: identifier_pb2.ProjectIdentifier, given: dict[str, str]) -> dict[str, Any]:
        async with self._parts.reading.slot(caller().uid):  # before the files are looked for: it may take long
            spec = self._file(where, given.get("spec", ""))
            context = self._file(where, given["context"]) if given.get("context") else None
            return await tasks.whole(asyncio.to_thread(image_of, spec, context, self._parts.folders))

    def _done(self, name: str, image: dict[str, object], built: str) -> str:
        self._parts.recipes.keep(name, image, built)
        return uri_of(name, built)

    def _file(self, where: identifier_pb2.ProjectIdentifier, url: str) -> Path:
        place = place_of(url)
        if (place.project, place.domain) != (where.name, where.domain):
            raise InvalidInput("this file was uploaded for another project or domain")
        return self._parts.blobs.find(place).path

    async def abort_run(self, request: pb.AbortRunRequest, ctx: RequestContext) -> pb.AbortRunResponse:
        """Cancel a build: flyted calls it off unless somebody else waits for it. One that has ended stays as it is.

        Raise :class:`NotFound` for an unknown build, :class:`PermissionRefused` for a caller who may not build.
        """
        may_operate()
        self._parts.jobs.abort(request.run_id.name, printable(request.reason).strip("'"))
        return pb.AbortRunResponse()

    async def abort_action(self, request: pb.AbortActionRequest, ctx: RequestContext) -> pb.AbortActionResponse:
        """Cancel a build, whose only action it is. Raise as :meth:`abort_run`."""
        may_operate()
        self._parts.jobs.abort(request.action_id.run.name, printable(request.reason).strip("'"))
        return pb.AbortActionResponse()

    async def watch_action_details(
        self, request: pb.WatchActionDetailsRequest, ctx: RequestContext
    ) -> AsyncIterator[pb.WatchActionDetailsResponse]:
        """Yield a build's state now, and again at its end or after ``STREAM_S`` seconds: the SDK then asks again.

        Raise :class:`BuildFailed` if it has failed, with the reason: of a state "failed" the SDK shows no more than
        that. Raise :class:`NotFound` for an unknown build.
        """
        name, until = request.action_id.run.name, time.monotonic() + STREAM_S
        yield pb.WatchActionDetailsResponse(details=self._watched(name))
        while (news := self._parts.jobs.news_of(name)) is not None and time.monotonic() < until:
            await caller().while_there(news.wait(30.0))
            if caller().gone.is_set():
                return
        yield pb.WatchActionDetailsResponse(details=self._watched(name))

    def _watched(self, name: str) -> definition.ActionDetails:
        run = self._parts.jobs.run(name)
        if run.phase == "failed":
            raise BuildFailed(f"image {run.target}: {run.error}\nall of its output: flyte get logs {name}")
        return self._details(name)

    async def get_run_details(self, request: pb.GetRunDetailsRequest, ctx: RequestContext) -> pb.GetRunDetailsResponse:
        """Return a build. Raise :class:`NotFound` for an unknown one."""
        return pb.GetRunDetailsResponse(details=definition.RunDetails(action=self._details(request.run_id.name)))

    async def get_action_details(
        self, request: pb.GetActionDetailsRequest, ctx: RequestContext
    ) -> pb.GetActionDetailsResponse:
        """Return a build's only action. Raise :class:`NotFound` for an unknown build."""
        return pb.GetActionDetailsResponse(details=self._details(request.action_id.run.name))

    def _details(self, name: str) -> definition.ActionDetails:
        run = self._parts.jobs.run(name)
        details = definition.ActionDetails(id=_action(run), status=_status(run))
        task = task_definition_pb2.TaskIdentifier(project=run.project, domain=run.domain, name=BUILD, version=VERSION)
        details.task.CopyFrom(spec_of(task))
        attempt = details.attempts.add(phase=PHASES[run.phase], attempt=1, logs_available=True)
        attempt.start_time.FromSeconds(int(run.begun))
        if run.phase == "aborted":
            details.abort_info.reason = run.error
        if run.phase == "failed":
            for error in (details.error_info, attempt.error_info):
                error.kind, error.code = definition.ErrorInfo.KIND_USER, "ImageBuildFailed"
                error.message = "\n".join([*(text for _, text in run.output[-20:]), run.error])
        return details


def _action(run: Run) -> identifier_pb2.ActionIdentifier:
    name = identifier_pb2.RunIdentifier(project=run.project, domain=run.domain, name=run.name)
    return identifier_pb2.ActionIdentifier(run=name, name="a0")


def _status(run: Run) -> definition.ActionStatus:
    status = definition.ActionStatus(phase=PHASES[run.phase], attempts=1)
    status.start_time.FromSeconds(int(run.begun))
    if run.ended:
        status.end_time.FromSeconds(int(run.ended))
        status.duration_ms = int((run.ended - run.begun) * 1000)
    return status


def _texts(inputs: common_pb2.Inputs) -> dict[str, str]:
    return {each.name: each.value.scalar.primitive.string_value for each in inputs.literals}
