"""Which unit may have which credential: only what we planned ourselves."""

from __future__ import annotations

import json

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.errors import PermissionRefused
from flyted.contract.gpu import Ask
from flyted.contract.names import Replica
from flyted.plan.secrets import (
    Checksums,
    GpuLease,
    IngressCertificate,
    OneSecret,
    credential_bytes,
    credential_id,
    grant,
    sums,
)
from flyted.plan.units import credential_ids
from tests.values import app

USES = (SecretUse("API_KEY", env="API_KEY"), SecretUse("TOKEN", file="TOKEN"))
APPS = (app("a", secrets=USES), app("b"))


def test_an_app_gets_its_own_secrets_by_number() -> None:
    """s0, s1 … in the order of the spec, and the sums over all."""
    assert grant("flyted-app-a-r1-0.service", "s1", APPS) == OneSecret(APPS[0].key, USES[1])
    assert grant("flyted-app-a-r1-0.service", "sums", APPS) == Checksums(APPS[0].key, USES)
    assert grant("flyted-ingress.service", "site.pem", APPS) == IngressCertificate()


def test_an_app_that_asks_for_gpus_gets_a_lease() -> None:
    """Of what its own revision asks for; one that asks for none has no such credential."""
    apps = (app("a", gpu_count=2, gpu_name="L40S"), app("b"))
    wanted = GpuLease(apps[0].key, Replica("a", 1), Ask(2, "L40S"))
    assert grant("flyted-app-a-r1-0.service", "gpu", apps) == wanted
    for unit in ("flyted-app-a-r1-0.socket", "flyted-app-a-r2-0.service", "flyted-app-b-r1-0.service", "x.service"):
        with pytest.raises(PermissionRefused):
            grant(unit, "gpu", apps)


@pytest.mark.parametrize(
    ("unit", "credential"),
    [
        ("flyted-app-a-r1-0.service", "s2"),
        ("flyted-app-a-r1-0.service", "s01"),
        ("flyted-app-a-r1-0.service", "API_KEY"),
        ("flyted-app-a-r1-0.service", "site.pem"),
        ("flyted-app-a-r1-0.socket", "s0"),
        ("flyted-app-a-r2-0.service", "s0"),
        ("flyted-app-b-r1-0.service", "s0"),
        ("flyted-app-b-r1-0.service", "sums"),
        ("flyted-app-c-r1-0.service", "s0"),
        ("flyted-ingress.service", "s0"),
        ("ssh.service", "s0"),
        ("", ""),
    ],
)
def test_everything_else_is_refused(unit: str, credential: str) -> None:
    """Another app's, another revision's, a forged unit name."""
    with pytest.raises(PermissionRefused):
        grant(unit, credential, APPS)


def test_units_ask_by_the_same_ids_that_are_granted() -> None:
    """plan/units.py and this file agree on the ids."""
    assert list(credential_ids(USES)) == [credential_id(0), credential_id(1), "sums"]


def test_sums_tell_length_and_digest() -> None:
    """What launch compares with."""
    assert json.loads(sums([(1, "aa"), (2, "bb")])) == {"s0": [1, "aa"], "s1": [2, "bb"]}


def test_a_value_takes_whole_pages() -> None:
    """The limit on an app's secrets counts what systemd's folder for them has room for."""
    assert [credential_bytes(size) for size in (1, 4096, 4097, 512 << 10)] == [4096, 4096, 8192, 512 << 10]
