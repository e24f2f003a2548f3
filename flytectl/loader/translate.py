"""Translates an environment to Flyte's App IDL: the SDK translates, and here the result is made reproducible."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from .failure import LoadError
from .sdk import find

if TYPE_CHECKING:
    from pathlib import Path

    from .bundle import Bundle
    from .environments import Found

SERDE = "flyte.app._runtime.app_serde"
SYS_PATH = "_F_SYS_PATH"  # flyte._constants.FLYTE_SYS_PATH
RESOLVER = "flyte._internal.resolvers.app_env.AppEnvResolver"
_ONLY = {"RunOutput": "the output of a run (RunOutput)", "ArtifactValue": "an artifact (ArtifactValue)"}


def check(found: Found) -> None:
    """Raise LoadError("unsupported") for a field that needs Kubernetes or Flyte's own servers, with its name."""
    environment = found.environment
    if environment.pod_template is not None:
        raise LoadError(
            "unsupported",
            f"{environment.name}: pod_template describes a Kubernetes pod, and flyted uses no Kubernetes",
            hint="remove it; for resources, env_vars and secrets, use the fields of these names",
        )
    for parameter in environment.parameters:
        word = type(parameter.value).__name__
        if word in _ONLY:
            raise LoadError(
                "unsupported",
                f"{environment.name}: parameter {parameter.name!r} is {_ONLY[word]}, which only a Flyte cluster has",
                hint=f"give what it stands for, a path or an address: --parameter {parameter.name}=/srv/model",
            )
        if parameter.value is None:
            raise LoadError(
                "unsupported",
                f"{environment.name}: the parameter {parameter.name!r} has no value",
                hint=f"give one: --parameter {parameter.name}=VALUE",
            )


def to_idl(found: Found, bundle: Bundle | None, source_root: Path, scope: tuple[str, str]) -> dict[str, Any]:
    """Return the App in protobuf-JSON, with a version and a bundle address made of the bundle's content alone.

    They do not depend on the time. Raise LoadError("environment") with the SDK's own text if it refuses the
    environment, and LoadError("unsupported") for an app that has nothing to run.
    """
    idl = _translated(found, bundle, source_root, scope)
    container = idl.get("spec", {}).get("container", {})
    if found.environment.command is None:
        container["command"] = _with_resolver(container["command"], found)
        if getattr(found.environment, "_server", None) is not None:
            container.pop("args", None)  # fserve ignores them if there is a server function
        elif not container.get("args"):
            raise LoadError(
                "unsupported",
                f"{found.environment.name}: the app has neither a server function nor args: there is nothing to run",
                hint="decorate its server function (@env.server), or give it args=[...]; "
                "command=[] runs the program of its image",
            )
    _keep_useful_paths(container, bundle)
    return idl


def _translated(found: Found, bundle: Bundle | None, root: Path, scope: tuple[str, str]) -> dict[str, Any]:
    serde = find(SERDE, "translate_app_env_to_idl")
    # The SDK would run git five times per app for a link to the source, which changes with every commit.
    module = sys.modules[SERDE]
    if hasattr(module, "_get_source_code"):
        setattr(module, "_get_source_code", lambda: None)  # noqa: B010 -- mypy knows no such attribute
    code = None
    if bundle is not None:
        code = find("flyte.models", "CodeBundle")(
            computed_version=bundle.sha256[:32], tgz=f"{bundle.sha256}.tar.gz", destination="."
        )
    context = find("flyte.models", "SerializationContext")(
        version=bundle.sha256[:32] if bundle else "",
        project=scope[0],
        domain=scope[1],
        org="",
        code_bundle=code,
        root_dir=root,
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the SDK has a stray print("VERSION:", …)
            app = asyncio.run(serde.aio(found.environment, context))
        idl: dict[str, Any] = find("google.protobuf.json_format", "MessageToDict")(app)
    except Exception as error:
        raise LoadError(
            "environment", f"{found.environment.name}: the Flyte SDK refuses this environment: {error}"
        ) from error
    return idl


def _with_resolver(command: list[str], found: Found) -> list[str]:
    """Return the command with the module and variable that were found here.

    The SDK looks into the file where the environment was *made*, and takes the first one there, which is wrong for an
    environment that a helper in another file made.
    """
    kept: list[str] = []
    words = iter(command)
    for word in words:
        if word in {"--resolver", "--resolver-args"}:
            next(words, None)
        elif word != "--":
            kept.append(word)
    if found.variable:
        kept += ["--resolver", RESOLVER, "--resolver-args", f"{found.module}:{found.variable}"]
    return [*kept, "--"]


def _keep_useful_paths(container: dict[str, Any], bundle: Bundle | None) -> None:
    """Keep only folders of the bundle in _F_SYS_PATH; a Python environment below the root is not one."""
    folders = {"."}
    for name in bundle.names if bundle else ():
        parts = name.split("/")[:-1]
        folders |= {"/".join(parts[: depth + 1]) for depth in range(len(parts))}
    for pair in container.get("env", []):
        if pair.get("key") == SYS_PATH:
            entries = [os.path.normpath(entry) for entry in pair.get("value", "").split(":") if entry]
            useful = dict.fromkeys(entry for entry in entries if entry in folders)
            pair["value"] = ":".join("./." if entry == "." else f"./{entry}" for entry in useful)
