"""Every field of Flyte's App IDL that flyted knows. Any other field comes from a newer SDK and is refused by name.

Source: flyteidl2 2.0.51, app/app_definition.proto, core/tasks.proto and core/security.proto, in protobuf-JSON. A known
field either has no meaning on one machine, or ``idl.py`` honours it, refuses it, or reports it to the user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable

SYS_PATH = "_F_SYS_PATH"
KNOWN: Mapping[str, frozenset[str]] = {
    path: frozenset(names.split())
    for path, names in {
        "": "metadata spec status",
        "metadata": "id revision labels codeBundleUri sourceCode",
        "metadata.id": "org project domain name",
        "spec": "container pod autoscaling ingress desiredState clusterPool cluster images securityContext "
        "extendedResources runtimeMetadata profile creator inputs links timeouts",
        "spec.container": "image command args resources env ports",
        "spec.container.resources": "requests limits",
        "spec.container.resources.requests": "name value",
        "spec.container.resources.limits": "name value",
        "spec.container.env": "key value",
        "spec.container.ports": "containerPort name",
        "spec.autoscaling": "replicas scaledownPeriod scalingMetric",
        "spec.autoscaling.replicas": "min max",
        "spec.autoscaling.scalingMetric": "requestRate concurrency",
        "spec.autoscaling.scalingMetric.requestRate": "targetValue",
        "spec.autoscaling.scalingMetric.concurrency": "targetValue",
        "spec.ingress": "private subdomain cname",
        "spec.securityContext": "runAs secrets allowAnonymous",
        "spec.securityContext.secrets": "group groupVersion key mountRequirement envVar",
        "spec.extendedResources": "gpuAccelerator sharedMemory",
        "spec.extendedResources.gpuAccelerator": "device unpartitioned partitionSize deviceClass acceleratorModel",
        "spec.extendedResources.sharedMemory": "mountPath mountName sizeLimit",
        "spec.profile": "type name shortDescription iconUrl",
        "spec.inputs": "items",
        "spec.inputs.items": "name stringValue appId artifactId",
        "spec.links": "path title isRelative",
        "spec.timeouts": "requestTimeout",
    }.items()
}
"""Path of a message → its fields. A message that is not listed is accepted or refused as a whole."""


def unknown(message: object, path: str = "") -> Iterator[str]:
    """Yield the path of every field that is set and not known, such as ``metadata.colour``."""
    if isinstance(message, list):
        for each in message:
            yield from unknown(each, path)
    elif isinstance(message, dict) and path in KNOWN:
        for name, value in message.items():
            below = f"{path}.{name}" if path else str(name)
            if name in KNOWN[path]:
                yield from unknown(value, below)
            else:
                yield printable(below)


def message(value: object) -> dict[str, Any]:
    """Return a field that holds a message; one without fields if it is absent. Raise :class:`InvalidInput` else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"expected a message in the app's description, found {printable(value)}")
    return value


def messages(value: object) -> list[dict[str, Any]]:
    """Return a field that holds a list of messages; none if it is absent. Raise :class:`InvalidInput` for others."""
    return [message(each) for each in _list(value)]


def words_of(container: Mapping[str, Any]) -> list[str]:
    """Return a container's command and its arguments. Raise :class:`InvalidInput` for other than lists of texts."""
    found = [*_list(container.get("command")), *_list(container.get("args"))]
    for word in found:
        if not isinstance(word, str):
            raise InvalidInput(f"expected a text in the app's command, found {printable(word)}")
    return found


def sys_path(value: str) -> str:
    """Return the folders of the bundle that Flyte's runtime puts on sys.path, relative to the bundle.

    Each folder is listed once: a script and ``flyte serve`` of the same file repeat folders differently. Raise
    :class:`InvalidInput` for a folder outside the bundle.
    """
    parts = value.split(":")
    for part in parts:
        if part.startswith("/") or ".." in part.split("/"):
            raise InvalidInput(f"{SYS_PATH} {printable(value)} leaves the code bundle")
    return ":".join(dict.fromkeys(parts))


def integer(value: object) -> int:
    """Return a field that holds an integer; 0 if it is absent. Raise :class:`InvalidInput` for any other value."""
    if value is not None and type(value) is not int:
        raise InvalidInput(f"expected an integer in the app's description, found {printable(value)}")
    return value or 0


def _list(value: object) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise InvalidInput(f"expected a list in the app's description, found {printable(value)}")
    return value or []
