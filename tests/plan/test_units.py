"""The properties of an app's units: what they say, what they must not say, and that each of them can be sent."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.app import MAX_SECRETS, SecretUse
from flyted.contract.errors import InvalidInput
from flyted.contract.names import AppKey, Replica
from flyted.host.signatures import properties
from flyted.launch.expand import expand
from flyted.launch.options import parse
from flyted.launch.words import quote
from flyted.plan.app_folders import erase_unit, measure_unit
from flyted.plan.layout import Layout
from flyted.plan.units import SLICE, SOCKET_SLICES, UnitPair, app_units, bundle_path, socket_path
from tests.values import spec, told

BUNDLE = "a" * 64
IMAGE = "/var/lib/flyted/images/0123"
API_KEY = SecretUse("API_KEY", env="API_KEY")
TOKEN = SecretUse("TOKEN", file="team_token")
LONGEST = "x" * 63


def units(**changes: Any) -> UnitPair:
    return app_units(spec("authenticated-api", **changes), Replica("authenticated-api", 7), image_path=IMAGE)


def argv(pair: UnitPair) -> list[str]:
    ((path, words, flags),) = pair.service["ExecStartEx"]
    assert (path, flags) == (words[0], ["no-env-expand"])
    return list(words)


@pytest.mark.parametrize(
    "other", [{"start_s": 7}, {"nameservers": ("127.0.0.53",)}, {"readable": ("/var/lib/flyted/images/x",)}]
)
def test_what_is_written_beside_units_says_whether_they_are_those_of_now(other: dict[str, Any]) -> None:
    """Whatever differs in a property shows in the start's document; nothing else does."""
    made = spec("authenticated-api")
    now, again, then = (app_units(made, Replica("a", 7), image_path=IMAGE, **each) for each in ({}, {}, other))
    assert now.start == again.start
    assert then.service != now.service
    assert then.start != now.start
    assert units(memory_bytes=1 << 30).start != units(memory_bytes=1 << 31).start


def test_the_pair_listens_where_the_ingress_looks() -> None:
    """The socket is the ingress's alone to open, holds requests while the app starts, and goes with its unit."""
    socket = units().socket
    assert socket["Listen"] == [("Stream", "/run/flyted/apps/authenticated-api-r7-0.sock")]
    assert socket["Listen"][0][1] == socket_path(Replica("authenticated-api", 7))
    assert (socket["SocketMode"], socket["SocketGroup"]) == (0o660, "haproxy")
    assert socket["Backlog"] == 4096
    assert socket["RemoveOnStop"] is True


def test_sockets_of_many_apps_share_slices_evenly() -> None:
    """A start or stop of a unit takes the longer the more units its slice has; services share the CPU in theirs."""
    pairs = [app_units(spec(f"a{number}"), Replica(f"a{number}", 1), image_path="/i") for number in range(320)]
    sockets = Counter(pair.socket["Slice"] for pair in pairs)
    assert len(sockets) == SOCKET_SLICES
    assert max(sockets.values()) < 3 * 320 / SOCKET_SLICES
    assert {pair.service["Slice"] for pair in pairs} == {SLICE}


def test_launch_gets_what_it_understands() -> None:
    """The command line is the one that launch parses: nothing is lost or added on the way."""
    command = ("fserve", "--resolver-args", "app:env", "--", "x$NAME", "100%", '"say \\"hi\\"; "', "'a\nb'")
    pair = units(command=command, bundle=BUNDLE, secrets=(API_KEY, TOKEN))
    assert argv(pair)[:3] == [f"{IMAGE}/bin/python", "-I", "/usr/lib/flyted/flyted/launch"]
    _, options = told(pair)
    assert options.app == "authenticated-api"
    assert options.bundle == bundle_path(BUNDLE) == f"/var/lib/flyted/bundles/{BUNDLE}.tar.gz"
    assert [(s.credential, s.kind, s.name) for s in options.secrets] == [
        ("s0", "env", "API_KEY"), ("s1", "file", "team_token"),
    ]  # fmt: skip
    assert options.sums == "sums"
    assert options.command == list(command[:4])
    assert expand(options.args, {"NAME": "y"}, ()) == ["xy", "100%", 'say "hi"; ', "a\nb"]


def test_a_line_for_a_shell_reaches_launch_as_it_stands() -> None:
    """With its variables, whose values no unit shows."""
    _, options = told(units(command=("fserve", "--", "mkdir", "-p", "$D", "&&", "python -m http.server 8080")))
    assert options.shell == "mkdir -p $D && python -m http.server 8080"
    assert (options.command, options.args) == (["fserve", "--"], [])


def test_a_value_of_several_lines_reaches_the_app() -> None:
    """A certificate, say."""
    environment, _ = told(units(env=(("CA", "a\n%b\t"), ("B", "c"))))
    assert (environment["CA"], environment["B"]) == ("a\n%b\t", "c")


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=40))
def test_any_argument_reaches_the_app_as_it_was(word: str) -> None:
    """Also what looks like one of launch's marks."""
    assert parse(["--app", "a", "--quoted", quote(word)]).command == [word]
    assert expand([quote(word)], {}, ()) == [word]


def test_variables_and_arguments_are_in_no_property() -> None:
    """Every user of the machine can read a unit, and ps(1): they learn who runs, and not with what."""
    pair = units(command=("serve", "--dsn=CANARY-1", "$KEY"), env=(("DB_URL", "CANARY-2"),), bundle=BUNDLE, port=8080)
    for properties_ in (pair.socket, pair.service):
        assert "CANARY" not in str(properties_)
        assert "DB_URL" not in str(properties_)
    assert argv(pair)[3:] == ["--app", "authenticated-api", "--start", "start"]
    assert pair.service["Environment"] == ["LANG=C.UTF-8"]
    environment, options = told(pair)
    assert environment["DB_URL"] == "CANARY-2"
    assert options.command == ["serve", "--dsn=CANARY-1", "$KEY"]
    assert pair.service["LoadCredential"] == [
        ("start", "/run/flyted/starts/flyted-app-authenticated-api-r7-0.service")
    ]


def test_what_an_app_is_told_has_a_limit() -> None:
    """Systemd would start nothing whose credentials are too large in total."""
    with pytest.raises(InvalidInput, match="the limit is 96 KiB"):
        units(env=tuple((f"A{n}", "x" * 8000) for n in range(13)))


def test_no_value_of_a_secret_is_in_a_property() -> None:
    """Only ids and names: the values come by the credential socket."""
    pair = units(secrets=(API_KEY, TOKEN))
    assert pair.service["LoadCredential"][1:] == [(i, "/run/flyted/credentials.sock") for i in ("s0", "s1", "sums")]
    assert pair.credentials == {"s0": API_KEY, "s1": TOKEN, "sums": "sums"}
    assert not {"SetCredential", "EnvironmentFiles", "PassEnvironment"} & set(pair.service)


def test_an_app_without_secrets_asks_for_none() -> None:
    """No credential, no checksums, and swap is allowed."""
    pair = units()
    assert pair.credentials == {}
    assert [name for name, _ in pair.service["LoadCredential"]] == ["start"]
    assert "MemorySwapMax" not in pair.service
    assert told(pair)[1].sums is None


def test_secrets_never_reach_the_disk() -> None:
    """No swap and no core for whoever holds one."""
    service = units(secrets=(API_KEY,)).service
    assert (service["MemorySwapMax"], service["LimitCORE"], service["LimitCORESoft"]) == (0, 0, 0)


def test_a_secret_file_is_the_credential_itself() -> None:
    """``/etc/flyte/secrets`` holds the asked files and nothing else: a mount of the credential, not a copy."""
    service = units(secrets=(API_KEY, TOKEN)).service
    assert (
        "/run/credentials/flyted-app-authenticated-api-r7-0.service/s1", "/etc/flyte/secrets/team_token", False, 0,
    ) in service["BindReadOnlyPaths"]  # fmt: skip
    assert ("/etc/flyte/secrets", "ro") in service["TemporaryFileSystem"]


def test_an_app_sees_its_own_image_and_bundle_only() -> None:
    """The state folder is empty but for these two, and /run but for what every program may use."""
    service = units(bundle=BUNDLE).service
    assert ("/var/lib/flyted", "ro") in service["TemporaryFileSystem"]
    assert ("/run", "ro,mode=755,size=1m") in service["TemporaryFileSystem"]
    own = "/var/cache/private/flyted-app-authenticated-api/revision"
    assert {path for path, _ in service["TemporaryFileSystem"]} == {"/run", "/var/lib/flyted", "/dev/shm", own}
    shown = [b[0] for b in service["BindReadOnlyPaths"]]
    assert [path for path in shown if not path.startswith("/run/")] == [IMAGE, bundle_path(BUNDLE)]
    assert not [path for path in shown if "flyted" in path and path.startswith("/run/")]


def test_folders_below_run_are_shown_where_they_are_asked_for() -> None:
    """A model on a disk that the desktop mounted: /run is hidden, so it needs a mount of its own."""
    disk = "/run/media/alice/models/qwen"
    service = app_units(spec("demo"), Replica("demo", 3), image_path=IMAGE, readable=[disk, "/srv/models"]).service
    shown = [b[0] for b in service["BindReadOnlyPaths"]]
    assert disk in shown
    assert "/srv/models" not in shown


def test_an_environment_elsewhere_needs_no_mount() -> None:
    """A path of the user's is in no property but the command: a colon in it would mean something there."""
    pair = app_units(spec(), Replica("a", 1), image_path="/opt/my:venv")
    assert [b for b in pair.service["BindReadOnlyPaths"] if not b[0].startswith("/run/")] == []


def test_the_start_may_take_as_long_as_the_settings_say() -> None:
    """Seconds in flyted.toml(5), microseconds in the unit; 300 s when nothing is set."""
    assert units().service["TimeoutStartUSec"] == 300_000_000
    patient = app_units(spec(), Replica("a", 1), image_path=IMAGE, start_s=1200)
    assert patient.service["TimeoutStartUSec"] == 1_200_000_000


def test_limits_are_the_specs() -> None:
    """Memory in bytes, CPU in microseconds a second; no quota when none was asked for."""
    service = units(memory_bytes=256 << 20, cpu_cores=0.5).service
    assert (service["MemoryMax"], service["CPUQuotaPerSecUSec"]) == (256 << 20, 500_000)
    assert "CPUQuotaPerSecUSec" not in units(cpu_cores=0.0).service
    assert units().service["TasksMax"] > 0


def test_shared_memory_is_the_apps_own() -> None:
    """A tmpfs of the size asked for, writable as /dev/shm is; as large as the memory when none was asked for."""
    service = units(shm_bytes=64 << 20).service
    assert ("/dev/shm", "mode=1777,size=67108864") in service["TemporaryFileSystem"]
    assert dict(units(memory_bytes=32 << 20).service["TemporaryFileSystem"])["/dev/shm"] == "mode=1777,size=33554432"


def test_only_an_app_with_a_minimum_restarts_by_itself() -> None:
    """Without a minimum the next request is what starts an app again; launch's refusal is final in both."""
    assert units().service["Restart"] == "no"
    service = units(min_replicas=1).service
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == ([78], [])


def test_the_apps_variables_win() -> None:
    """First ours, then the image's, then the app's; a home and a cache of its own."""
    pair = app_units(
        spec(env=(("A", "app"), ("LANG", "de_DE.UTF-8")), sys_path="./src"), Replica("a", 1),
        image_path=IMAGE, image_env=(("A", "image"), ("B", "image"), ("HOME", "/nowhere")),
    )  # fmt: skip
    found, _ = told(pair)
    assert (found["A"], found["B"], found["LANG"]) == ("app", "image", "de_DE.UTF-8")
    assert found["HOME"] == "/var/lib/flyted-app-a"
    assert found["XDG_CACHE_HOME"] == "/var/cache/flyted-app-a"
    assert found["PATH"].startswith(f"{IMAGE}/bin:")
    assert found["_F_SYS_PATH"] == "./src"
    path = (("PATH", "/usr/local/cuda-13.0/bin:/i/bin:/usr/bin"),)
    with_path, _ = told(app_units(spec(), Replica("a", 1), image_path="/i", image_env=path))
    assert with_path["PATH"] == "/usr/local/cuda-13.0/bin:/i/bin:/usr/bin"
    assert found["FLYTE_INTERNAL_EXECUTION_PROJECT"] == "default"


def test_revisions_share_user_and_folders() -> None:
    """Two revisions side by side must own the same files; another app must not."""
    first, second = (app_units(spec(), Replica("a", n), image_path=IMAGE).service for n in (1, 2))
    other = app_units(spec("b"), Replica("b", 1), image_path=IMAGE).service
    for name in ("User", "StateDirectory", "CacheDirectory"):
        assert first[name] == second[name] != other[name]


def test_removal_owns_the_same_folders() -> None:
    """What deletes an app's state runs as its user, on its folders."""
    app, erase = units().service, erase_unit("authenticated-api")
    for name in ("User", "DynamicUser", "StateDirectory"):
        assert app[name] == erase[name]
    assert app["CacheDirectory"] == [*erase["CacheDirectory"], f"{erase['CacheDirectory'][0]}/revision"]


def test_the_journal_knows_app_and_revision() -> None:
    """``journalctl -t NAME`` and ``FLYTE_APP=NAME`` find an app's lines across revisions."""
    service = units().service
    assert service["SyslogIdentifier"] == "authenticated-api"
    assert "FLYTE_APP=authenticated-api" in service["LogExtraFields"]
    assert "FLYTE_REVISION=7" in service["LogExtraFields"]


@pytest.mark.parametrize("egress", [True, False])
def test_every_property_can_be_sent(egress: bool) -> None:
    """Each has a type in the table, and a value of that type."""
    pair = units(egress=egress, secrets=(API_KEY, TOKEN), bundle=BUNDLE, cpu_cores=1.5, min_replicas=1)
    assert properties(pair.socket)
    assert properties(pair.service)
    assert properties(erase_unit("authenticated-api"))
    assert properties(measure_unit("authenticated-api", 7))


@pytest.mark.parametrize("name", ["a", LONGEST, f"{LONGEST[:54]}-12345678"])
def test_unit_and_credential_fit_into_the_address(name: str) -> None:
    """Unit name and id are at most 84 bytes together: above that systemd says ``Protocol error``."""
    key = AppKey("p" * 63, "d" * 63, name)
    many = tuple(SecretUse(f"K{n}", env=f"K{n}") for n in range(MAX_SECRETS))
    replica = Replica(key.id, 999_999_999, 9999)
    pair = app_units(spec(key=key, secrets=many), replica, image_path=IMAGE)
    assert max(len(replica.service) + len(i) for i in pair.credentials) <= 84


def test_the_layout_is_one_place() -> None:
    """With another layout no path of the default one is left."""
    layout = Layout(state="/s", run="/r", launch="/l", ingress_group="web")
    pair = app_units(
        dataclasses.replace(spec(), bundle=BUNDLE, secrets=(TOKEN,)), Replica("a", 1), image_path="/s/i", layout=layout
    )
    text = repr((pair.socket, pair.service))
    assert not re.search(r"/run/flyted|/var/lib/flyted/|/usr/lib/flyted|haproxy", text)


def test_a_gpu_is_asked_for_at_each_start() -> None:
    """The credential is the lease: one more that systemd fetches, time to wait for it, and launch that reads it."""
    made = spec("a", gpu_count=1, secrets=(API_KEY,))
    pair = app_units(made, Replica("a", 1), image_path=IMAGE, start_s=300, gpu_wait_s=120)
    assert [name for name, _ in pair.service["LoadCredential"]] == ["start", "s0", "sums", "gpu"]
    assert pair.service["TimeoutStartUSec"] == 420_000_000
    options = told(pair)[1]
    assert (options.gpu, options.sums) == ("gpu", "sums")
    plain = app_units(spec("a"), Replica("a", 1), image_path=IMAGE, start_s=300, gpu_wait_s=120)
    assert plain.service["TimeoutStartUSec"] == 300_000_000
    assert [name for name, _ in plain.service["LoadCredential"]] == ["start"]
    properties(pair.service)


def test_no_device_is_open_before_the_lease() -> None:
    """The nodes are in sight, since nobody knows yet which it will be; the cgroup closes all of them."""
    service = units(gpu_count=1).service
    assert (service["PrivateDevices"], service["DevicePolicy"]) == (False, "closed")
    assert "DeviceAllow" not in service
    assert units().service["PrivateDevices"] is True


@pytest.mark.parametrize("port", [0, 8080])
def test_every_app_joins_a_network_that_systemd_made(port: int) -> None:
    """It neither waits for it nor ends with it; asleep it keeps it. The resolver is put in its place if need be."""
    made = spec("demo", port=port)
    pair = app_units(made, Replica("demo", 3), image_path=IMAGE, nameservers=["127.0.0.53"])
    network = ["flyted-net@demo-r3-0.service"]
    assert pair.service["JoinsNamespaceOf"] == network
    assert pair.service["Wants"] == [*network, "flyted-net.service"]
    assert not {"After", "BindsTo", "Requires", "PartOf"} & set(pair.service)
    assert pair.socket["Upholds"] == [*network, "flyted-net.service"]
    assert pair.service["PrivateNetwork"] is True
    assert ("/usr/lib/flyted/resolv.conf", "/etc/resolv.conf", False, 0) in pair.service["BindReadOnlyPaths"]
    # /etc/resolv.conf may be a link to it: of two mounts at one place only one would be made
    assert "/run/systemd/resolve" not in str(pair.service["BindReadOnlyPaths"])
    assert (told(pair)[1].port, told(pair)[1].egress) == (port, True)
    assert properties(pair.service)
    assert properties(pair.socket)
    plain = app_units(made, Replica("demo", 3), image_path=IMAGE, nameservers=["192.168.1.1"])
    assert "/etc/resolv.conf" not in str(plain.service["BindReadOnlyPaths"])


@pytest.mark.parametrize("port", [0, 8080])
def test_an_app_without_egress_has_an_empty_network(port: int) -> None:
    """No unit beside its own."""
    pair = units(port=port, egress=False)
    assert pair.service["PrivateNetwork"] is True
    assert not {"JoinsNamespaceOf", "Wants"} & set(pair.service)
    assert "Upholds" not in pair.socket
    assert not told(pair)[1].egress


def test_an_app_that_is_given_its_socket_has_no_port() -> None:
    """Nor an option for launch."""
    assert told(units())[1].port == 0
    assert told(units(port=8080, secret_in_argv=True))[1].secret_in_argv is True
