"""ProjectService and ClusterService: there is one machine, and a project is part of the names of apps and secrets."""

from __future__ import annotations

from connectrpc.request import RequestContext
from flyteidl2.cluster import payload_pb2 as cluster
from flyteidl2.cluster.service_connect import ClusterService
from flyteidl2.project import project_service_pb2 as pb
from flyteidl2.project.project_service_connect import ProjectService

from flyted.contract.answers.apps import AppList
from flyted.contract.answers.secrets import SecretList
from flyted.contract.errors import NotFound, Unsupported
from flyted.contract.names import DEFAULT_DOMAIN, DEFAULT_PROJECT, label, printable
from flyted.gateway.caller import caller
from flyted.gateway.idl.paging import page
from flyted.gateway.parts import Parts

MADE = "flyted creates a project with its first app or secret"
DOMAINS = ("development", "staging", "production")
LIST_LIMIT = 100


class Projects(ProjectService):
    """The handlers of ProjectService. The projects are those that hold an app or a secret, and the default one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def list_projects(self, request: pb.ListProjectsRequest, ctx: RequestContext) -> pb.ListProjectsResponse:
        """List the projects by name, page by page. Raise ``InvalidInput`` for a bad page token."""
        found = sorted((await self._domains()).items())
        listed, token = page(found, request.limit, request.token, LIST_LIMIT)
        return pb.ListProjectsResponse(
            projects=pb.Projects(projects=[_message(*each) for each in listed], token=token)
        )

    async def get_project(self, request: pb.GetProjectRequest, ctx: RequestContext) -> pb.GetProjectResponse:
        """Return one project. Raise :class:`NotFound` if it holds no app or secret and is not the default one."""
        name, found = label(request.id, "project"), await self._domains()
        if name not in found:
            raise NotFound(f"there is no project {name} yet: {MADE}")
        return pb.GetProjectResponse(project=_message(name, found[name]))

    async def create_project(self, request: pb.CreateProjectRequest, ctx: RequestContext) -> pb.CreateProjectResponse:
        """Raise :class:`Unsupported`: an empty project cannot be kept, and none has to be created."""
        raise Unsupported(f"project {label(request.project.id, 'project')} need not be created: {MADE}")

    async def update_project(self, request: pb.UpdateProjectRequest, ctx: RequestContext) -> pb.UpdateProjectResponse:
        """Raise :class:`Unsupported`: a project is only a name here."""
        raise Unsupported("a project is only a name: there is nothing to change or archive")

    async def _domains(self) -> dict[str, set[str]]:
        token, daemon = caller().token, self._parts.daemon
        found: dict[str, set[str]] = {DEFAULT_PROJECT: {DEFAULT_DOMAIN}}
        apps = await daemon.call(AppList, "app.list", {"project": "", "domain": ""}, token=token)
        secrets = await daemon.call(SecretList, "secret.list", {"project": "", "domain": "", "all": True}, token=token)
        scopes = [(app.project, app.domain) for app in apps.apps]
        scopes += [(secret.project, secret.domain) for secret in secrets.secrets]
        for project, domain in scopes:
            if project:
                found.setdefault(project, set()).add(domain)
        return found


class Cluster(ClusterService):
    """The handler of ClusterService: this machine is the only cluster."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def select_cluster(
        self, request: cluster.SelectClusterRequest, ctx: RequestContext
    ) -> cluster.SelectClusterResponse:
        """Return an empty answer, so that the client keeps using the gateway.

        Raise :class:`Unsupported` for a cluster pool: its secrets would be those of the whole machine.
        """
        pool = request.cluster_pool_id.name if request.WhichOneof("resource") == "cluster_pool_id" else ""
        if pool not in ("", "default"):
            raise Unsupported(
                f"there is no cluster pool {printable(pool)}: flyted runs on one machine", hint="drop --cluster-pool"
            )
        return cluster.SelectClusterResponse()


def _message(name: str, domains: set[str]) -> pb.Project:
    listed = [pb.Domain(id=d, name=d) for d in (*DOMAINS, *sorted(domains - set(DOMAINS)))]
    return pb.Project(id=name, name=name, domains=listed, state=pb.PROJECT_STATE_ACTIVE)
