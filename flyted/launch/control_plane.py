"""Initializes the Flyte SDK for an app's own calls: with a project and a domain, but without a control plane.

fserve always initializes the SDK (flyte/_bin/serve.py: ``init_in_cluster``), whose default is a control plane at
host.docker.internal, without TLS. Here the SDK is initialized when the app imports it, so that other apps pay nothing.
"""

from __future__ import annotations

import functools
from collections.abc import MutableMapping
from types import ModuleType
from typing import Any

from .imports import after_import

NAMED_BY = ("EAGER_API_KEY", "_UNION_EAGER_API_KEY", "UCTL_CONFIG", "FLYTECTL_CONFIG", "FLYTE_ADMIN_ENDPOINT")
_ENDPOINT = "_U_EP_OVERRIDE"
NOWHERE = "flyted-has-no-control-plane.invalid"
"""A name that never resolves (RFC 6761, 6.4), so that an SDK in a child process of the app fails too."""
WHY = "flyted serves apps; tasks and runs need a Flyte cluster (an app can use one with the secret EAGER_API_KEY)"

WHY_APPS = f"{WHY}; to call another app, use endpoint of its environment, and name it in depends_on"


def prepare(environ: MutableMapping[str, str], *, now: bool) -> None:
    """Initialize the SDK when the app imports it, without a control plane.

    If the environment names a control plane, initialize the SDK with that instead: now if ``now``, else not at
    all.
    """
    names = ("_U_ORG_NAME", "FLYTE_INTERNAL_EXECUTION_PROJECT", "FLYTE_INTERNAL_EXECUTION_DOMAIN")
    org, project, domain = (environ.get(name) or None for name in names)
    if not any(environ.get(name) for name in NAMED_BY):
        environ[_ENDPOINT] = NOWHERE
        after_import("flyte._initialize", lambda module: _initialize(module, org, project, domain))
        after_import("flyte._run", _refuse_runs)
    elif now:
        import flyte

        flyte.init_in_cluster(org=org, project=project, domain=domain)


def _initialize(module: ModuleType, org: str | None, project: str | None, domain: str | None) -> None:
    import pathlib

    names: Any = module
    client_of = names._initialize_client  # noqa: SLF001 - the only function with which the SDK makes a client

    async def initialize_client(*args: Any, **kwargs: Any) -> Any:
        if str(kwargs.get("endpoint")).endswith(NOWHERE):  # the SDK has put dns:/// before it
            return _NoControlPlane(names.InitializationError)
        return await client_of(*args, **kwargs)

    names._initialize_client = initialize_client  # noqa: SLF001
    names._init_config = names._InitConfig(  # noqa: SLF001 - as init() does, which would start a thread
        root_dir=pathlib.Path.cwd(), org=org, project=project, domain=domain, image_builder="remote",
        client=_NoControlPlane(names.InitializationError),
    )  # fmt: skip


def _refuse_runs(module: ModuleType) -> None:
    """Make a run fail immediately without a control plane; the SDK would first collect the code to send."""
    runner: Any = module._Runner  # noqa: SLF001
    run_remote = runner._run_remote  # noqa: SLF001

    @functools.wraps(run_remote)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        client = module.get_client()
        if isinstance(client, _NoControlPlane):
            raise client.refusal()
        return run_remote(*args, **kwargs)

    runner._run_remote = refuse  # noqa: SLF001


class _NoControlPlane:
    """A replacement for the SDK's client, of which every call fails with the reason."""

    endpoint = NOWHERE  # SDK 2.10 and 2.11 read it to name an image (flyte/_image.py)

    def __init__(self, error: Any) -> None:
        self._error = error

    def refusal(self, why: str = WHY) -> Exception:
        """Return the error to raise: an instance of the SDK's own class, which a program may already handle."""
        error: Exception = self._error("NoControlPlane", "user", why)
        return error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.refusal(WHY_APPS if name.startswith("app_") else WHY)
