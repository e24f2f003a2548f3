"""Who asks, and what a client is told that wants to log in in another way."""

from __future__ import annotations

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.auth import auth_service_pb2 as auth
from flyteidl2.auth import identity_pb2 as identity
from flyteidl2.cluster import payload_pb2 as cluster
from flyteidl2.common import identifier_pb2 as identifier
from flyteidl2.project import project_service_pb2 as project

from flyted.contract.answers.secrets import SecretStatus
from tests.answers import app_status, whole
from tests.gateway.clients import ask, service
from tests.gateway.harness import Running

pytestmark = pytest.mark.slow


def test_whoami_is_the_owner_of_the_token(gateway: Running) -> None:
    """As flyted says, not as anybody claims."""
    found = ask(service(gateway, "auth.identity_connect", "IdentityService").user_info, identity.UserInfoRequest())
    assert (found.subject, found.name) == ("alice", "alice")


def test_a_client_that_would_open_a_browser_is_told_what_to_set(gateway: Running) -> None:
    """Without a token, since it has none; with an error, since an address would lead it nowhere."""
    client = service(gateway, "auth.auth_service_connect", "AuthMetadataService")
    for call, request in (
        (client.get_o_auth2_metadata, auth.GetOAuth2MetadataRequest()),
        (client.get_public_client_config, auth.GetPublicClientConfigRequest()),
    ):
        with pytest.raises(ConnectError) as raised:
            ask(call, request, headers={})
        assert raised.value.code is Code.FAILED_PRECONDITION
        assert "ExternalCommand" in raised.value.message
    assert gateway.flyted.calls == []


def test_projects_are_those_that_hold_something(gateway: Running) -> None:
    """An app or a secret, and the default one."""
    gateway.flyted.answers("app.list", {"result": {"apps": [app_status(project="p7", domain="lab")]}})
    secrets = [whole(SecretStatus, project="p8", domain="production"), whole(SecretStatus)]
    gateway.flyted.answers("secret.list", {"result": {"secrets": secrets}})
    client = service(gateway, "project.project_service_connect", "ProjectService")
    found = ask(client.list_projects, project.ListProjectsRequest()).projects.projects
    assert [each.id for each in found] == ["default", "p7", "p8"]
    assert "lab" in [domain.id for domain in found[1].domains]
    assert ask(client.get_project, project.GetProjectRequest(id="p7")).project.id == "p7"
    with pytest.raises(ConnectError):
        ask(client.get_project, project.GetProjectRequest(id="No Name"))
    with pytest.raises(ConnectError, match="with its first app or secret") as raised:
        ask(client.get_project, project.GetProjectRequest(id="p9"))
    assert raised.value.code is Code.NOT_FOUND


def test_an_empty_project_is_not_said_to_be_created(gateway: Running) -> None:
    """It would be in no list afterwards."""
    client = service(gateway, "project.project_service_connect", "ProjectService")
    with pytest.raises(ConnectError, match="with its first app or secret"):
        ask(client.create_project, project.CreateProjectRequest(project=project.Project(id="p9", name="Nine")))


@pytest.mark.parametrize(("pool", "taken"), [("gpu", False), ("default", True), ("", True)])
def test_a_cluster_pool_is_not_taken_for_the_machine(gateway: Running, pool: str, taken: bool) -> None:
    """`flyte create secret --cluster-pool gpu` asks this first, and then sends the secret without the pool."""
    client = service(gateway, "cluster.service_connect", "ClusterService")
    request = cluster.SelectClusterRequest(cluster_pool_id=identifier.ClusterPoolIdentifier(name=pool))
    if taken:
        ask(client.select_cluster, request)
        return
    with pytest.raises(ConnectError, match="no cluster pool 'gpu'"):
        ask(client.select_cluster, request)
