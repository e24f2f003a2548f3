"""Which apps an app may call, and by which address the ingress knows it."""

from __future__ import annotations

import pytest

from flyted.contract.errors import HostFailure
from flyted.contract.names import AppKey, Replica
from flyted.host.signatures import properties
from flyted.plan import calls
from flyted.plan.reconcile import reconcile
from flyted.plan.units import app_units
from tests.values import DOMAIN, app, facts, spec, told
from tests.values import pair as units_of


def test_numbers_are_each_ones_own() -> None:
    """The lowest that is free, of two ranges; none is given twice, and the end is said."""
    assert calls.free_number([], egress=True) == calls.FIRST
    assert calls.free_number([], egress=False) == calls.FIRST_CLOSED
    assert calls.free_number([calls.FIRST, calls.FIRST + 2], egress=True) == calls.FIRST + 1
    with pytest.raises(HostFailure, match="1024 apps that call others"):
        calls.free_number(range(calls.FIRST, calls.FIRST_CLOSED), egress=True)


def test_a_name_means_the_app_of_the_same_project_and_domain() -> None:
    """As in Flyte: neither depends_on nor AppEndpoint has another."""
    made = spec(key=AppKey("shop", "prod", "ui"), calls=("llm",))
    callers, called = calls.entries(made, 1025, DOMAIN)
    assert callers == {"198.18.4.1": "shop/prod/ui"}
    assert called == {"198.18.4.1/llm": f"{AppKey('shop', 'prod', 'llm').id}.{DOMAIN}"}
    assert calls.entries(spec("ui", calls=("llm",)), 1024, DOMAIN) == (
        {"198.18.4.0": "ui"}, {"198.18.4.0/llm": f"llm.{DOMAIN}"}
    )  # fmt: skip


def test_an_app_that_kept_an_older_id_is_found() -> None:
    """By the name that follows from its key."""
    key = AppKey("shop", "prod", "llm")
    assert calls.alias(key, f"{key.id}.{DOMAIN}") == {}
    assert calls.alias(key.known_as("llm-shop-prod-12345678"), "old.host") == {f"{key.id}.apps.internal": "old.host"}


def test_what_is_not_served_yet_is_said() -> None:
    """And nothing of what is."""
    made = spec("ui", calls=("a", "b", "c"))
    assert list(calls.notes(made, {"a", "b", "c"})) == []
    assert list(calls.notes(made, {"b", "c"})) == ["it may call a, which is not served yet"]
    assert list(calls.notes(made, {"b"})) == ["it may call a, c, which are not served yet"]


NUMBERS = {Replica("ui", 1): 1024, Replica("ui", 2): 1030, Replica("llm", 1): 1025, Replica("gone", 1): 1026}


def planned(wanted: str = "started", **more: object) -> tuple[dict[str, str], dict[str, str]]:
    """The tables of callers and calls for an app ui with two revisions, the second of which serves."""
    made = (app("ui", calls=("llm",), serving=2, revisions=2, wanted=wanted), app("llm"))
    state = reconcile(facts(*made, numbers=NUMBERS, **more), {}, DOMAIN, 100.0).ingress
    return dict(state.callers), dict(state.calls)


def test_the_ingress_knows_the_replicas_that_may_call() -> None:
    """The serving one, awake or asleep; not one that names no apps, is gone, or has no number yet."""
    wanted = ({"198.18.4.6": "ui"}, {"198.18.4.6/llm": f"llm.{DOMAIN}"})
    assert planned() == wanted
    for state in ("active", "inactive"):
        assert planned(units=units_of(Replica("ui", 2), state) | units_of(Replica("llm", 1))) == wanted
    assert planned("stopped") == ({}, {})


def test_a_revision_that_starts_or_drains_may_call_too() -> None:
    """Each by its own address: what one may call, the other may not be allowed any more."""
    starting = planned(candidates=frozenset({Replica("ui", 1)}))
    assert starting[0] == {"198.18.4.6": "ui", "198.18.4.0": "ui"}
    draining = planned(units=units_of(Replica("ui", 1), "active") | units_of(Replica("ui", 2), "active"))
    assert draining == starting
    assert planned("stopped", units=units_of(Replica("ui", 2), "active"))[0] == {"198.18.4.6": "ui"}


@pytest.mark.parametrize("egress", [True, False])
def test_an_app_that_calls_others_knows_their_names(egress: bool) -> None:
    """By its /etc/hosts and by the SDK's pattern; without egress its network reaches nothing else."""
    made = spec("demo", calls=("embeddings", "llm"), egress=egress)
    replica = Replica("demo", 3)
    pair = app_units(made, replica, image_path="/i", hosts="127.0.0.1 localhost", nameservers=["127.0.0.53"])
    assert (f"/run/flyted/calls/{replica.server}.hosts", "/etc/hosts", False, 0) in pair.service["BindReadOnlyPaths"]
    assert pair.hosts == (
        "127.0.0.1 localhost\n198.18.255.1 embeddings.apps.internal\n198.18.255.1 llm.apps.internal\n"
    )
    variables, options = told(pair)
    assert variables["INTERNAL_APP_ENDPOINT_PATTERN"] == "http://{app_fqdn}.apps.internal"
    assert options.calls == ["embeddings", "llm"]
    assert (options.egress, options.only_calls) == ((True, "") if egress else (False, "198.18.255.1"))
    assert pair.service["JoinsNamespaceOf"] == ["flyted-net@demo-r3-0.service"]
    assert pair.socket["Upholds"] == ["flyted-net@demo-r3-0.service", "flyted-net.service"]
    assert ("/etc/resolv.conf" in str(pair.service["BindReadOnlyPaths"])) is egress
    assert properties(pair.service)
    other = app_units(made, replica, image_path="/i", hosts="10.0.0.1 db", nameservers=["127.0.0.53"])
    assert other.start != pair.start, "units with an older /etc/hosts are made anew"


def test_an_app_that_calls_none_has_the_machines_hosts() -> None:
    """Nothing of its own, and no pattern."""
    pair = app_units(spec("demo"), Replica("demo", 3), image_path="/i", hosts="127.0.0.1 localhost")
    assert pair.hosts == ""
    assert "/etc/hosts" not in str(pair.service["BindReadOnlyPaths"])
    assert "INTERNAL_APP_ENDPOINT_PATTERN" not in told(pair)[0]
    assert told(pair)[1].calls == []


def test_who_may_call_an_app_is_known() -> None:
    """Apps of its project and domain that name it, whether they run or not; not those that named it once."""
    ui, batch = app("ui", calls=("llm", "db")), app("batch", calls=("llm",), wanted="stopped")
    never = app("never", serving=None, calls=("llm",))
    apart = app("apart", key=AppKey("other", "development", "apart"), calls=("llm",))
    apps = [ui, batch, never, apart, app("llm")]
    assert calls.callers(AppKey("default", "development", "llm"), apps) == ("batch", "ui")
    assert calls.callers(AppKey("default", "development", "db"), apps) == ("ui",)
    assert calls.callers(ui.key, apps) == ()
