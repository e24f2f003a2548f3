"""An app as Flyte's IDL describes it."""

from __future__ import annotations

import copy
from typing import Any

RESOLVER = "flyte._internal.resolvers.app_env.AppEnvResolver"
IDL: dict[str, Any] = {
    "metadata": {"id": {"project": "default", "domain": "development", "name": "authenticated-api"}},
    "spec": {
        "container": {
            "image": "flyte:bfe21dcdeb25033a562e7ccf0044e646",
            "command": [
                "fserve", "--version", "aaea", "--project", "default", "--domain", "development", "--org", "",
                "--tgz", "aaea.tar.gz", "--dest", ".", "--raw-data-path", "{{.rawOutputDataPrefix}}",
                "--resolver", RESOLVER, "--resolver-args", "basic_auth:env", "--",
            ],
            "resources": {"requests": [{"name": "CPU", "value": "1"}, {"name": "MEMORY", "value": "512Mi"}]},
            "env": [{"key": "_F_SYS_PATH", "value": "./."}, {"key": "MODE", "value": "a $HOME b"}],
            "ports": [{"containerPort": 8080}],
        },
        "autoscaling": {"replicas": {"max": 1}},
        "ingress": {},
        "clusterPool": "default",
        "securityContext": {
            "runAs": {},
            "secrets": [{"key": "API_KEY", "mountRequirement": "ENV_VAR", "envVar": "API_KEY"}],
            "allowAnonymous": True,
        },
        "links": [{"path": "/docs", "title": "Docs", "isRelative": True}],
    },
}  # fmt: skip


def changed(path: str, value: object) -> dict[str, Any]:
    """The IDL with one field of its spec set."""
    idl = copy.deepcopy(IDL)
    *way, last = path.split(".")
    part = idl["spec"]
    for name in way:
        part = part.setdefault(name, {})
    part[last] = value
    return idl
