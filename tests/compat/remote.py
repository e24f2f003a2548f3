"""Every class of ``flyte.remote``, and every method of those that flyted has: what becomes of each.

``tried``: a line of Python in a machine (test_flyte_commands.py), where ``remote`` is the module and the app
``command-app`` is served. For a refusal, the line raises an error with the text ``said``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from flyted.contract.errors import NOT_HERE

WORKS, REFUSED = "works", "refused"


@dataclass(frozen=True)
class Method:
    """``words``: for the page."""

    verdict: str
    tried: str
    words: str = ""
    said: str = NOT_HERE


_APP = "remote.App.get('command-app')"
_RUN = "the build of an image is a run; others do not exist"

METHODS: dict[str, Method] = {
    "App.get": Method(WORKS, _APP),
    "App.listall": Method(WORKS, "assert 'command-app' in [a.name for a in remote.App.listall(limit=50)]",
                          "in_status=, created_by=, limit="),
    "App.create": Method(WORKS, f"remote.App.create({_APP}.pb2)", "of what get returned"),
    "App.replace": Method(WORKS, f"remote.App.replace('command-app', {_APP}.pb2.spec, 'x')"),
    "App.update": Method(WORKS, f"remote.App.update({_APP}.pb2, reason='x')"),
    "App.activate": Method(WORKS, f"assert {_APP}.activate(wait=True).is_active()"),
    "App.deactivate": Method(WORKS, f"assert {_APP}.deactivate(wait=True).is_deactivated()"),
    "App.ephemeral_ctx": Method(
        WORKS, f"async def use():\n    async with {_APP}.ephemeral_ctx(): pass\nasyncio.run(use())"
    ),
    "App.ephemeral_ctx_sync": Method(WORKS, f"with {_APP}.ephemeral_ctx_sync(): pass"),
    "App.watch": Method(WORKS, f"{_APP}.activate(); {_APP}.watch(wait_for='activated')"),
    "App.show_logs": Method(WORKS, "", "follows the app's output"),
    "App.is_active": Method(WORKS, f"{_APP}.is_active()"),
    "App.is_deactivated": Method(WORKS, f"{_APP}.is_deactivated()"),
    "App.to_dict": Method(WORKS, f"{_APP}.to_dict()"),
    "App.to_json": Method(WORKS, f"{_APP}.to_json()"),
    "App.delete": Method(WORKS, "remote.App.delete('command-app')", "the app's data is kept"),
    "Project.get": Method(WORKS, "remote.Project.get('default')"),
    "Project.listall": Method(WORKS, "assert list(remote.Project.listall())"),
    "Project.create": Method(
        REFUSED, "remote.Project.create('p9', 'P')", "a project comes with its first app or secret",
        "need not be created",
    ),
    "Project.update": Method(REFUSED, "remote.Project.update('default', name='x')", "a project is only a name",
                             "nothing to change or archive"),
    "Project.archive": Method(REFUSED, "remote.Project.get('default').archive()", "a project is only a name",
                              "nothing to change or archive"),
    "Project.unarchive": Method(REFUSED, "remote.Project.get('default').unarchive()", "a project is only a name",
                                "nothing to change or archive"),
    "Project.to_dict": Method(WORKS, "remote.Project.get('default').to_dict()"),
    "Project.to_json": Method(WORKS, "remote.Project.get('default').to_json()"),
    "Secret.create": Method(WORKS, "remote.Secret.create('REMOTE_KEY', 'v')"),
    "Secret.get": Method(WORKS, "remote.Secret.get('REMOTE_KEY')", "without the value"),
    "Secret.listall": Method(WORKS, "assert 'REMOTE_KEY' in [s.name for s in remote.Secret.listall()]"),
    "Secret.delete": Method(WORKS, "remote.Secret.delete('REMOTE_KEY')"),
    "Secret.to_dict": Method(WORKS, "[s.to_dict() for s in remote.Secret.listall()]"),
    "Secret.to_json": Method(WORKS, "[s.to_json() for s in remote.Secret.listall()]"),
    "User.get": Method(WORKS, "assert remote.User.get().subject() == 'alice'"),
    "User.subject": Method(WORKS, "assert remote.User.get().subject() == 'alice'"),
    "User.name": Method(WORKS, "remote.User.get().name()"),
    "User.to_dict": Method(WORKS, "remote.User.get().to_dict()"),
    "User.to_json": Method(WORKS, "remote.User.get().to_json()"),
    "Run": Method(REFUSED, "list(remote.Run.listall())", _RUN),
    "RunDetails": Method(REFUSED, "remote.RunDetails.get('r1')", _RUN, "no run 'r1'"),
    "Action": Method(REFUSED, "list(remote.Action.listall(for_run_name='r1'))", _RUN),
    "ActionDetails": Method(REFUSED, "remote.ActionDetails.get(run_name='r1', name='a0')", _RUN, "no run 'r1'"),
    "ActionInputs": Method(REFUSED, "", _RUN),
    "ActionOutputs": Method(REFUSED, "", _RUN),
    "Artifact": Method(REFUSED, "remote.Artifact.get('a', version='latest')"),
    "Condition": Method(REFUSED, "list(remote.Condition.listall(run_name='r1'))"),
    "PartitionSchema": Method(REFUSED, "", "of artifacts"),
    "Settings": Method(REFUSED, "remote.Settings.get_settings_for_edit()"),
    "Task": Method(
        WORKS, "assert [t.name for t in remote.Task.listall()] == ['build-image']", "the one that builds images"
    ),
    "TaskDetails": Method(
        REFUSED, "remote.Task.get('work.add', version='1').fetch()", "but for the task that builds images"
    ),
    "TimeFilter": Method(REFUSED, "", "of runs"),
    "Trigger": Method(REFUSED, "list(remote.Trigger.listall())"),
    "TriggerDetails": Method(REFUSED, "remote.TriggerDetails.get(name='t', task_name='work.add')"),
}  # fmt: skip
IN_FULL = ("App", "Project", "Secret", "User")
"""Classes with a row for each method; a property has none."""


def known() -> set[str]:
    """Return the classes of the installed SDK's ``flyte.remote``, and the methods of those in ``IN_FULL``."""
    from flyte import remote

    classes = {name: kind for name, kind in inspect.getmembers(remote, inspect.isclass) if not name.startswith("_")}
    found = {name for name in classes if name not in IN_FULL}
    for name in IN_FULL:
        found |= {f"{name}.{each}" for each in dir(classes[name]) if not each.startswith("_")
                  and not isinstance(inspect.getattr_static(classes[name], each), property)}  # fmt: skip
    return found
