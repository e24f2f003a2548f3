"""Says why an image could not be built: the SDK only names a page, and the companion adds the reason given there.

For a Dockerfile, which the SDK sends to no remote builder, it says what does build it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .aside import around, harmless, step_aside
from .imports import after_import

_PAGE = re.compile(r"/v2/domain/([^/\s]+)/project/([^/\s]+)/runs/([^/\s]+)")

_DOCKERFILE = "flytectl serve FILE builds an image of a Dockerfile, without Docker"


def explain(ours: Callable[[], bool]) -> None:
    """Have the reason added to the error of a failed build, if ``ours()`` is true at that time."""

    @harmless
    def install(module: Any) -> None:
        around(module.RemoteImageBuilder, "build_image", lambda old: _explaining(old, ours))

    after_import("flyte._internal.imagebuild.remote_builder", install)


def _explaining(old: Callable[..., Any], ours: Callable[[], bool]) -> Callable[..., Any]:
    async def build_image(*args: Any, **kwargs: Any) -> Any:
        try:
            return await old(*args, **kwargs)
        except Exception as error:
            found = _PAGE.search(str(error)) if ours() else None
            reason = await _reason(*found.groups()) if found else ""
            if "Custom Dockerfile" in str(error) and ours():
                reason = _DOCKERFILE
            if not reason:
                raise
            raise type(error)(f"{error}\n{reason}") from error

    return build_image


async def _reason(domain: str, project: str, name: str) -> str:
    """Return the last line of a build's error, which is the reason; "" if it cannot be fetched."""
    try:
        from flyte._initialize import get_client  # noqa: PLC0415
        from flyteidl2.common.identifier_pb2 import RunIdentifier  # noqa: PLC0415
        from flyteidl2.workflow.run_service_pb2 import GetRunDetailsRequest  # noqa: PLC0415

        run = RunIdentifier(project=project, domain=domain, name=name)
        details = (await get_client().run_service.get_run_details(GetRunDetailsRequest(run_id=run))).details
    except Exception as error:  # noqa: BLE001  the SDK's own words are still there
        step_aside(error)
        return ""
    return str(details.action.error_info.message).rstrip("\n").rpartition("\n")[2]
