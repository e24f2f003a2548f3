"""TaskService: the one task that there is builds images; of others the SDK says why there is none."""

from __future__ import annotations

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import identifier_pb2, list_pb2
from flyteidl2.task import task_definition_pb2 as task_definition
from flyteidl2.task import task_service_pb2 as tasks
from flyteidl2.workflow import run_service_pb2 as runs

from flyted.contract.errors import NOT_HERE
from tests.gateway.clients import ask, service
from tests.gateway.harness import Running

pytestmark = pytest.mark.slow

WHERE = identifier_pb2.ProjectIdentifier(organization="o", name="p1", domain="development")
LOST = task_definition.TaskIdentifier(name="train")


def named(name: str) -> tasks.ListTasksRequest:
    row = list_pb2.Filter(function=list_pb2.Filter.EQUAL, field="name", values=[name])
    return tasks.ListTasksRequest(request=list_pb2.ListRequest(limit=1, filters=[row]), project_id=WHERE)


def test_the_only_task_is_the_builder(gateway: Running) -> None:
    """The SDK finds it by name."""
    client = service(gateway, "task.task_service_connect", "TaskService")
    (builder,) = ask(client.list_tasks, named("build-image")).tasks
    details = ask(client.get_task_details, tasks.GetTaskDetailsRequest(task_id=builder.task_id)).details
    inputs = details.spec.task_template.interface.inputs.variables
    assert [entry.key for entry in inputs] == ["spec", "context", "target_image"]


def test_another_task_is_not_there(gateway: Running) -> None:
    """Of an empty list, and of NOT_FOUND, the SDK shows no text but its own."""
    client = service(gateway, "task.task_service_connect", "TaskService")
    for call, asked in (
        (client.list_tasks, named("train")),
        (client.get_task_details, tasks.GetTaskDetailsRequest(task_id=LOST)),
    ):
        with pytest.raises(ConnectError, match=f"there is no task 'train': {NOT_HERE}") as raised:
            ask(call, asked)
        assert raised.value.code is Code.FAILED_PRECONDITION
    run = service(gateway, "workflow.run_service_connect", "RunService").create_run
    with pytest.raises(ConnectError) as raised:
        ask(run, runs.CreateRunRequest(project_id=WHERE, task_id=LOST))
    assert raised.value.code is Code.NOT_FOUND
