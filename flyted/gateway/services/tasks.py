"""TaskService: the only task here, ``build-image``, with which the SDK has its images built."""

from __future__ import annotations

import asyncio

from connectrpc.request import RequestContext
from flyteidl2.core import identifier_pb2, interface_pb2, tasks_pb2, types_pb2
from flyteidl2.task import task_definition_pb2 as definition
from flyteidl2.task import task_service_pb2 as pb
from flyteidl2.task.task_service_connect import TaskService

from flyted.contract.errors import NOT_HERE, FlytedError, NotFound, Unsupported
from flyted.contract.names import printable
from flyted.contract.version import VERSION
from flyted.gateway.parts import Parts

BUILD = "build-image"
BESIDE_S = 2.0
"""Seconds by which a task's refusal is delayed: the SDK deploys a file's tasks and apps at the same time and leaves at
the first error, and the apps are to be asked for before that.
"""


class Tasks(TaskService):
    """The handlers of TaskService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def list_tasks(self, request: pb.ListTasksRequest, ctx: RequestContext) -> pb.ListTasksResponse:
        """List the task ``build-image``. Raise :class:`Unsupported` if the client looks for another name."""
        where = request.project_id
        asked = [value for row in request.request.filters if row.field == "name" for value in row.values]
        if asked and BUILD not in asked:
            check(asked[0], Unsupported)
        name = definition.TaskIdentifier(
            org=where.organization, project=where.name, domain=where.domain, name=BUILD, version=VERSION
        )
        return pb.ListTasksResponse(tasks=[definition.Task(task_id=name)])

    async def get_task_details(
        self, request: pb.GetTaskDetailsRequest, ctx: RequestContext
    ) -> pb.GetTaskDetailsResponse:
        """Describe the task ``build-image``. Raise :class:`Unsupported` for any other."""
        check(request.task_id.name, Unsupported)  # of a NotFound the SDK does not show the text
        details = definition.TaskDetails(task_id=request.task_id, spec=spec_of(request.task_id))
        return pb.GetTaskDetailsResponse(details=details)

    async def deploy_task(self, request: pb.DeployTaskRequest, ctx: RequestContext) -> pb.DeployTaskResponse:
        """Raise :class:`Unsupported`, but not before the apps deployed beside the task have been asked for."""
        await asyncio.sleep(BESIDE_S)
        name = printable(request.task_id.name)
        raise Unsupported(f"task {name} was not deployed: {NOT_HERE}. Apps of the same file are served nevertheless")


def check(name: str, error: type[FlytedError] = NotFound) -> None:
    """Raise ``error`` unless ``name`` is ``build-image``."""
    if name != BUILD:
        raise error(f"there is no task {printable(name)}: {NOT_HERE}")


def spec_of(task: definition.TaskIdentifier) -> definition.TaskSpec:
    """Return the spec of the task: three texts in, one text out (flyte/_internal/imagebuild/remote_builder.py)."""
    name = identifier_pb2.Identifier(
        resource_type=identifier_pb2.TASK, org=task.org, project=task.project, domain=task.domain, name=task.name,
        version=task.version,
    )  # fmt: skip
    interface = interface_pb2.TypedInterface(inputs=_texts("spec", "context", "target_image"), outputs=_texts("o0"))
    template = tasks_pb2.TaskTemplate(
        id=name, type="flyted-image", interface=interface, container=tasks_pb2.Container(image="flyted")
    )
    return definition.TaskSpec(task_template=template, short_name=BUILD)


def _texts(*names: str) -> interface_pb2.VariableMap:
    text = types_pb2.LiteralType(simple=types_pb2.STRING)
    return interface_pb2.VariableMap(
        variables=[interface_pb2.VariableEntry(key=name, value=interface_pb2.Variable(type=text)) for name in names]
    )
