"""Makes ``flyte.deploy`` and ``flyte.serve`` show progress and wait until the app answers, if they talk to a flyted.

It also gives a deployment the ``url`` that Flyte's documentation reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import context, progress, target
from .aside import around, harmless, step_aside
from .imports import after_import


def give_url() -> None:
    """Give ``Deployment`` the property ``url``: the address of its first app, which is the one that was asked for."""
    after_import("flyte._deploy", _give_url)


@harmless
def _give_url(module: Any) -> None:
    if not hasattr(module.Deployment, "url"):
        module.Deployment.url = property(_url)


def _url(deployment: Any) -> str:
    apps = [env.deployed_app for env in deployment.envs.values() if hasattr(env, "deployed_app")]
    if not apps or not is_ours():
        raise AttributeError(f"'{type(deployment).__name__}' object has no attribute 'url'")
    return str(apps[0].endpoint)


def show_progress() -> None:
    """Show the progress of deployments, even if the SDK's module that deploys apps is imported later."""
    after_import("flyte.app._deploy", _install)


@harmless
def _install(module: Any) -> None:
    def make(old: Callable[..., Any]) -> Callable[..., Any]:
        if getattr(old, "_of_flyted", False):
            return old

        async def deploy_app(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("dryrun") or not is_ours():
                return await old(*args, **kwargs)
            app = args[0] if args else kwargs.get("app")
            progress.deploying(getattr(app, "name", ""))
            with context.with_variables(app):
                deployed = await old(*args, **kwargs)
            return await _served(deployed)

        deploy_app._of_flyted = True  # type: ignore[attr-defined]  # noqa: SLF001
        return deploy_app

    around(module, "_deploy_app", make)


def is_ours() -> bool:
    """Report whether the SDK of this process is connected to a flyted. Never raise an exception."""
    try:
        return target.of_process()
    except Exception as error:  # noqa: BLE001
        step_aside(error)
        return False


async def _served(app: Any) -> Any:
    """Wait until the deployed app (``flyte.remote.App``) answers, and return it as it is then.

    Raise RuntimeError if the deployment fails. Return ``app`` itself if the SDK is not one that the companion knows.
    """
    try:
        from flyte._initialize import get_client  # noqa: PLC0415
        from flyteidl2.app.app_payload_pb2 import WatchRequest  # noqa: PLC0415

        service, request = get_client().app_service, WatchRequest(app_id=app.pb2.metadata.id)
        progress.console(app.url)
        served = type(app)(pb2=await progress.until_served(app.pb2, lambda: service.watch(request=request)))
        progress.endpoint(served.endpoint or app.endpoint)
    except (AttributeError, ImportError, TypeError) as error:
        step_aside(error)
        return app
    return served
