"""The least that `flyte serve` needs from a server: every call answered at once, nothing done. Port as the argument.

What the stock CLI takes against it is the CLI's own time; benchmarks/gateway.py compares. Not a test double: no test
uses it.
"""

# ruff: noqa: ARG002, E402
# mypy: disable-error-code="no-untyped-def,misc,no-untyped-call"
from __future__ import annotations

import asyncio
import sys

sys.path[:0] = [f"/usr/lib/flyted/sdk/cp{sys.version_info[0]}{sys.version_info[1]}", "/usr/lib/flyted/sdk"]

import uvicorn
from flyteidl2.app import app_definition_pb2, app_payload_pb2
from flyteidl2.app.app_service_connect import AppService, AppServiceASGIApplication
from flyteidl2.cluster import payload_pb2 as cluster
from flyteidl2.cluster.service_connect import ClusterService, ClusterServiceASGIApplication
from flyteidl2.dataproxy import dataproxy_service_pb2 as data
from flyteidl2.dataproxy.dataproxy_service_connect import DataProxyService, DataProxyServiceASGIApplication
from flyteidl2.imagebuilder import definition_pb2, payload_pb2
from flyteidl2.imagebuilder.service_connect import ImageService, ImageServiceASGIApplication
from flyteidl2.task import task_definition_pb2
from flyteidl2.task import task_service_pb2 as task
from flyteidl2.task.task_service_connect import TaskService, TaskServiceASGIApplication

PORT = int(sys.argv[1])


class Cluster(ClusterService):
    async def select_cluster(self, request, ctx):
        return cluster.SelectClusterResponse()


class Images(ImageService):
    async def get_image(self, request, ctx):
        return payload_pb2.GetImageResponse(image=definition_pb2.Image(id=request.id, fqin="x/y:z"))


class Tasks(TaskService):
    async def list_tasks(self, request, ctx):
        return task.ListTasksResponse(
            tasks=[task_definition_pb2.Task(task_id={"name": "build-image", "version": "1"})]
        )

    async def get_task_details(self, request, ctx):
        return task.GetTaskDetailsResponse(details=task_definition_pb2.TaskDetails(task_id=request.task_id))


class Data(DataProxyService):
    async def create_upload_location(self, request, ctx):
        return data.CreateUploadLocationResponse(signed_url=f"http://127.0.0.1:{PORT}/put", native_url="/x.tar.gz")


class Apps(AppService):
    async def create(self, request, ctx):
        request.app.status.ingress.public_url = "https://x"
        request.app.status.conditions.add(deployment_status=app_definition_pb2.Status.DEPLOYMENT_STATUS_ACTIVE)
        return app_payload_pb2.CreateResponse(app=request.app)


SERVICES = {
    "flyteidl2.cluster.ClusterService": ClusterServiceASGIApplication(Cluster()),
    "flyteidl2.imagebuilder.ImageService": ImageServiceASGIApplication(Images()),
    "flyteidl2.task.TaskService": TaskServiceASGIApplication(Tasks()),
    "flyteidl2.dataproxy.DataProxyService": DataProxyServiceASGIApplication(Data()),
    "flyteidl2.app.AppService": AppServiceASGIApplication(Apps()),
}


async def app(scope, receive, send):
    service = SERVICES.get(scope["path"].split("/")[1])
    if service is not None:
        await service(scope, receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


asyncio.run(uvicorn.Server(uvicorn.Config(app, port=PORT, log_level="error", lifespan="off")).serve())
