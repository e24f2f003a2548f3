"""What an app finds of Knative's contract, as on a Flyte cluster."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.app import from_dict, to_dict
from flyted.contract.names import AppKey, Replica
from flyted.plan.knative import variables
from flyted.plan.units import app_units
from tests.values import spec, told

NAMES = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")


def found(image_env: tuple[tuple[str, str], ...] = (), **fields: Any) -> dict[str, str]:
    """Those of an app's third revision."""
    environment, _ = told(app_units(spec(**fields), Replica("a", 3), image_path="/i", image_env=image_env))
    return {name: environment[name] for name in NAMES}


def test_an_app_has_knatives_variables_below_its_own() -> None:
    """Above the image's. On a cluster a file that sets one is refused."""
    service = "a-default-development"
    knatives = {"PORT": "8080", "K_SERVICE": service, "K_CONFIGURATION": service, "K_REVISION": f"{service}-00003"}
    assert found() == knatives
    assert found(image_env=tuple((name, "image") for name in NAMES)) == knatives
    assert found(env=tuple((name, "own") for name in NAMES)) == dict.fromkeys(NAMES, "own")


@pytest.mark.parametrize(
    "fields", [{"port": 9000}, {"server_port": 9000}, {"container_port": 9000}, {"port": 9000, "container_port": 9000}]
)
def test_the_port_is_the_files(fields: dict[str, Any]) -> None:
    """Also where uvicorn is given its socket, and of what was stored before this was."""
    assert found(**fields)["PORT"] == "9000"
    kept = to_dict(spec(**fields))
    del kept["container_port"]
    assert from_dict(kept).container_port == 8080


def test_a_name_that_is_too_long_for_a_cluster_is_cut_as_there() -> None:
    """To a label of DNS; two such apps are told apart."""
    long = "x" * 60
    first, second = (variables(AppKey(project, "development", long), 1, 8080) for project in ("one", "two"))
    assert len(first["K_SERVICE"]) == 63
    assert first["K_SERVICE"].startswith(f"{long}-"[:54] + "-")
    assert first["K_SERVICE"] != second["K_SERVICE"]
    assert first["K_REVISION"] == f"{first['K_SERVICE']}-00001"
