"""Says, in ``AppEnvironment.endpoint`` of Flyte's SDK, why this app cannot call that one.

An app knows the names of those that it may call, and no others: the address of another would lead nowhere. The SDK is
changed when the app imports it, so that other apps pay nothing.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from types import ModuleType
from typing import Any

from .control_plane import NAMED_BY
from .imports import after_import
from .words import ENDPOINTS

REMEDY = (
    "name it in depends_on of this app's environment or in an AppEndpoint parameter, "
    "or serve this app with flytectl serve --may-call {name}"
)


def prepare(environ: MutableMapping[str, str], names: Sequence[str]) -> None:
    """Let ``endpoint`` fail with words for an app that is not among ``names``.

    Without names, the user's own pattern counts, and so does a cluster that the environment names.
    """
    if names or not any(environ.get(name) for name in (ENDPOINTS, *NAMED_BY)):
        after_import("flyte.app._app_environment", lambda module: _limit(module, frozenset(names)))


def _limit(module: ModuleType, names: frozenset[str]) -> None:
    kind: Any = module.AppEnvironment
    original = kind.endpoint

    def endpoint(self: Any) -> str:
        if self.name not in names and not _is_local():
            from flyte.errors import InitializationError

            remedy = REMEDY.format(name=self.name)
            raise InitializationError("MayNotCall", "user", f"this app may not call app {self.name!r}: {remedy}")
        address: str = original.fget(self)
        return address

    kind.endpoint = property(endpoint, doc=original.__doc__)


def _is_local() -> bool:
    """Report whether the app runs as ``flyte serve --local`` runs it, as the SDK's own property does."""
    import flyte
    from flyte.app._context import ctx

    context: Any = flyte.ctx() or ctx()
    return bool(context.mode == "local")
