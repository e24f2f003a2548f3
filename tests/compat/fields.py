"""Every field of an app's dataclasses, every kind of layer, and what a serve can be told: what becomes of each.

The name is ``Class.field``. The words say what is not plain from the name; the reason of a refusal is shown when the
app is served.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

HONOURED, REPORTED, REFUSED, WITHOUT = "honoured", "reported", "refused", "no effect"
"""``REPORTED``: it has no effect, the app runs as well, and the user is told when it is served. ``WITHOUT``: it cannot
have one, since the SDK does not send it for an app, or since it means nothing on one machine."""

_NOT_SENT = "the SDK does not send it for an app"
_OF_LOCAL = "for flyte serve --local only"

FIELDS: dict[str, tuple[str, str]] = {
    "AppEnvironment.name": (HONOURED, "63 characters at most"),
    "AppEnvironment.depends_on": (
        HONOURED,
        "apps are served first and may be called; tasks are reported; circles, at which the SDK fails, are refused",
    ),
    "AppEnvironment.pod_template": (REFUSED, "flyted uses no Kubernetes"),
    "AppEnvironment.description": (HONOURED, ""),
    "AppEnvironment.secrets": (HONOURED, "a missing one is refused with the command that creates it"),
    "AppEnvironment.env_vars": (HONOURED, "but for those that change what runs, such as PATH and LD_PRELOAD"),
    "AppEnvironment.resources": (HONOURED, "as limits; more than the machine has is reported"),
    "AppEnvironment.interruptible": (WITHOUT, _NOT_SENT),
    "AppEnvironment.service_account": (REFUSED, "it exists only in Kubernetes"),
    "AppEnvironment.image": (HONOURED, "see CONSTRUCTORS and LAYERS"),
    "AppEnvironment.include": (HONOURED, ""),
    "AppEnvironment.type": (HONOURED, "shown"),
    "AppEnvironment.port": (HONOURED, "in the app's own network, so that all apps may use 8080"),
    "AppEnvironment.args": (HONOURED, "read as by the shell of a cluster"),
    "AppEnvironment.command": (HONOURED, "[] is the image's own program"),
    "AppEnvironment.requires_auth": (HONOURED, ""),
    "AppEnvironment.scaling": (HONOURED, ""),
    "AppEnvironment.domain": (HONOURED, ""),
    "AppEnvironment.links": (HONOURED, ""),
    "AppEnvironment.parameters": (HONOURED, ""),
    "AppEnvironment.cluster_pool": (REPORTED, "there is one machine"),
    "AppEnvironment.cluster": (REPORTED, "there is one machine"),
    "AppEnvironment.timeouts": (HONOURED, ""),
    "FastAPIAppEnvironment.app": (HONOURED, ""),
    "FastAPIAppEnvironment.uvicorn_config": (HONOURED, "the socket is systemd's"),
    "Scaling.replicas": (
        HONOURED,
        "up to 64; a higher maximum and 0 are reported, a higher minimum is refused",
    ),
    "Scaling.metric": (HONOURED, "looked at once a second; without one, CPU time"),
    "Scaling.scaledown_after": (HONOURED, "1 s to 30 days"),
    "Port.port": (HONOURED, ""),
    "Port.name": (HONOURED, "http1, or h2c for HTTP/2 and gRPC; others are refused"),
    "Domain.subdomain": (HONOURED, "at each base domain, besides the app's own name"),
    "Domain.custom_domain": (
        HONOURED,
        "once certificates are ordered, reported until then; refused without a DNS record",
    ),
    "Link.path": (HONOURED, ""),
    "Link.title": (HONOURED, ""),
    "Link.is_relative": (HONOURED, ""),
    "Timeouts.request": (HONOURED, "counted from when the app has the request; 1 ms to 1 h"),
    "Parameter.name": (HONOURED, ""),
    "Parameter.value": (
        HONOURED,
        "a string, File, Dir or AppEndpoint; RunOutput, ArtifactValue and public=True are refused",
    ),
    "Parameter.type": (HONOURED, ""),
    "Parameter.env_var": (HONOURED, "but for variables that change what runs"),
    "Parameter.download": (HONOURED, "a path of this machine is used where it is"),
    "Parameter.mount": (HONOURED, "as links; folders of the machine are refused"),
    "Parameter.ignore_patterns": (WITHOUT, "the SDK does not use it"),
    "Resources.cpu": (HONOURED, "the limit, else the request"),
    "Resources.memory": (HONOURED, "the limit, else the request; a quantity of Kubernetes: 512Mi, 4Gi"),
    "Resources.gpu": (HONOURED, "of NVIDIA; others are refused"),
    "Resources.disk": (HONOURED, "looked for when the app is served, and not limited"),
    "Resources.shm": (HONOURED, ""),
    "Secret.key": (HONOURED, ""),
    "Secret.group": (HONOURED, "a part of the secret's name: GROUP/KEY"),
    "Secret.mount": (HONOURED, ""),
    "Secret.as_env_var": (HONOURED, "but for variables that change what runs"),
    "Image.base_image": (HONOURED, ""),
    "Image.dockerfile": (HONOURED, "by flytectl: the SDK sends none"),
    "Image.registry": (WITHOUT, "images stay on the machine; refused if the SDK sends it"),
    "Image.name": (HONOURED, ""),
    "Image.platform": (HONOURED, "another than the machine's is refused"),
    "Image.python_version": (HONOURED, "one that cannot be had is replaced, and reported"),
    "Image.extendable": (WITHOUT, _NOT_SENT),
    "Image.AptPackages": (HONOURED, ""),
    "Image.CodeBundleLayer": (HONOURED, ""),
    "Image.Commands": (HONOURED, ""),
    "Image.CopyConfig": (HONOURED, ""),
    "Image.DockerIgnore": (HONOURED, ""),
    "Image.Env": (HONOURED, ""),
    "Image.PipPackages": (HONOURED, ""),
    "Image.PixiProject": (HONOURED, ""),
    "Image.PixiScript": (HONOURED, ""),
    "Image.PoetryProject": (HONOURED, ""),
    "Image.PythonWheels": (HONOURED, ""),
    "Image.Requirements": (HONOURED, ""),
    "Image.UVProject": (HONOURED, ""),
    "Image.UVScript": (HONOURED, ""),
    "Image.WorkDir": (HONOURED, ""),
    "Image._DockerLines": (REFUSED, "but for labels: the SDK's own class"),
    "with_servecontext.mode": (WITHOUT, "remote is flyted, local is the SDK's own"),
    "with_servecontext.version": (WITHOUT, "flyted numbers revisions"),
    "with_servecontext.copy_style": (HONOURED, ""),
    "with_servecontext.dry_run": (REFUSED, "the SDK sends the app all the same: flyte.deploy(env, dry_run=True)"),
    "with_servecontext.project": (HONOURED, ""),
    "with_servecontext.domain": (HONOURED, ""),
    "with_servecontext.env_vars": (HONOURED, "with the companion: the SDK alone does not send them"),
    "with_servecontext.parameter_values": (HONOURED, "by flytectl: --parameter"),
    "with_servecontext.cluster_pool": (REPORTED, "with the companion; there is one machine"),
    "with_servecontext.cluster": (REPORTED, "with the companion; there is one machine"),
    "with_servecontext.log_level": (HONOURED, "with the companion"),
    "with_servecontext.log_format": (HONOURED, "with the companion"),
    "with_servecontext.user_log_level": (HONOURED, "with the companion"),
    "with_servecontext.interactive_mode": (HONOURED, "the image needs the Python that pickles the app"),
    "with_servecontext.copy_bundle_to": (WITHOUT, "of dry runs only"),
    "with_servecontext.deactivate_timeout": (WITHOUT, _OF_LOCAL),
    "with_servecontext.activate_timeout": (WITHOUT, _OF_LOCAL),
    "with_servecontext.health_check_timeout": (WITHOUT, _OF_LOCAL),
    "with_servecontext.health_check_interval": (WITHOUT, _OF_LOCAL),
    "with_servecontext.health_check_path": (WITHOUT, f"{_OF_LOCAL}; here: flytectl serve --ready-path"),
    "with_servecontext.raw_data_path": (WITHOUT, f"{_OF_LOCAL}; here it is a folder of the app's data"),
}


def known() -> set[str]:
    """Return all that the installed SDK has."""
    import flyte
    from flyte import _image, app
    from flyte.app.extras import FastAPIAppEnvironment

    kinds = (app.AppEnvironment, app.Scaling, app.Port, app.Domain, app.Link, app.Timeouts, app.Parameter,
             flyte.Resources, flyte.Secret, flyte.Image)  # fmt: skip
    found = set().union(*(_fields(kind) for kind in kinds))
    own = _names(FastAPIAppEnvironment) - _names(app.AppEnvironment)
    found |= {f"FastAPIAppEnvironment.{name}" for name in own}
    layers = [kind for _, kind in inspect.getmembers(_image, inspect.isclass) if issubclass(kind, _image.Layer)]
    found |= {f"Image.{kind.__name__}" for kind in layers if kind is not _image.Layer}
    return found | {f"with_servecontext.{name}" for name in inspect.signature(flyte.with_servecontext).parameters}


def _fields(kind: Any) -> set[str]:
    return {f"{kind.__name__}.{name}" for name in _names(kind)}


def _names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind) if not field.name.startswith("_")}
