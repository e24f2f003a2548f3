"""Makes the variables that Knative gives every container, and so a Flyte cluster every app. Pure.

Sources: Knative's runtime contract, "Environment variables"; Flyte's app service, which names a Knative service
(KServiceName) and lets Knative number its revisions.
"""

from __future__ import annotations

import hashlib

from flyted.contract.names import AppKey

_LABEL = 63  # RFC 1123; a longer name is cut, and a digest makes it unique


def variables(key: AppKey, revision: int, port: int) -> dict[str, str]:
    """Return the variables, by name. ``port``: the port that the app's file names, even if nothing listens there."""
    service = _service(key)
    return {
        "PORT": str(port),
        "K_SERVICE": service,
        "K_CONFIGURATION": service,
        "K_REVISION": f"{service}-{revision:05d}",
    }


def _service(key: AppKey) -> str:
    name = f"{key.name}-{key.project}-{key.domain}".lower()
    if len(name) <= _LABEL:
        return name
    digest = hashlib.sha256(f"{key.project}/{key.domain}/{key.name}".encode()).hexdigest()[:8]
    return f"{name[: _LABEL - 9]}-{digest}"
