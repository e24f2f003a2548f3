"""The unit that builds an image, and what is read back from it."""

from __future__ import annotations

import json

import pytest

from flyted.contract.errors import BuildFailed, StoreCorrupt
from flyted.plan.images.build_unit import (
    BuildSettings,
    ImageRecord,
    RecordedLayer,
    build_failure,
    build_unit,
    image_dir,
    loopback_nameservers,
    record_of,
    remove_unit,
    repeats,
    unit_name,
)
from flyted.plan.images.recipe import Install, Recipe, recipe_json
from flyted.plan.sandbox import Network, sandbox

HASH = "0123456789abcdef" * 2
RECIPE = Recipe("3.12", (Install("base image", ("flyte==2.12.1",)),))


def test_the_unit_runs_the_builder_as_its_own_user_without_rights() -> None:
    """Isolated system Python, no shell, no environment expansion, no capability, one writable folder."""
    unit = build_unit(HASH, RECIPE)
    (path, argv, flags) = unit["ExecStartEx"][0]
    assert path == argv[0] == "/usr/bin/python3"
    assert argv[1:] == ["-IS", "/usr/lib/flyted/flyted/build", "--uv", "/usr/lib/flyted/bin/uv", "--image", HASH]
    assert flags == ["no-env-expand"]
    assert (unit["User"], unit["Group"]) == ("flyted-build", "flyted-build")
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == 0
    assert unit["NoNewPrivileges"] is True
    assert unit["ProtectSystem"] == "strict"
    assert unit["StateDirectory"] == ["flyted/images"]
    assert "CacheDirectory" not in unit  # a second mount: hard links out of it are impossible
    assert unit["RuntimeMaxUSec"] == 3600 * 10**6
    assert unit["LimitCORE"] == 0
    assert dict(unit["SetCredential"])["recipe"] == recipe_json(RECIPE).encode()


def test_finished_images_are_closed_to_other_builds() -> None:
    """Each other image is read-only for this build; names that are no hash never become a path."""
    others = ["a" * 32, HASH, "../../etc", ".uv", "b" * 32]
    assert build_unit(HASH, RECIPE, others=others)["ReadOnlyPaths"] == [
        f"-/var/lib/flyted/images/{'a' * 32}",
        f"-/var/lib/flyted/images/{'b' * 32}",
    ]


def test_a_build_apart_can_write_its_own_image_only() -> None:
    """Neither other images, finished or not, nor uv's cache, nor the Pythons; all else is as for any build."""
    unit, isolated = build_unit(HASH, RECIPE), build_unit(HASH, RECIPE, others=["a" * 32], isolated=True)
    assert isolated["ExecStartEx"][0][1] == [*unit["ExecStartEx"][0][1], "--isolated"]
    assert isolated["ReadWritePaths"] == [f"/var/lib/flyted/images/{HASH}"]
    assert isolated["StateDirectory"] == []
    assert isolated["ProtectSystem"] == "strict"
    assert isolated["Environment"] == [*unit["Environment"], "STATE_DIRECTORY=/var/lib/flyted/images"]
    differ = {"ExecStartEx", "ReadWritePaths", "ReadOnlyPaths", "StateDirectory", "Environment"}
    assert {k: v for k, v in isolated.items() if k not in differ} == {k: v for k, v in unit.items() if k not in differ}


def test_loopback_and_metadata_are_closed_but_for_named_addresses() -> None:
    """A build reaches the network, not the machine's own services nor the cloud's keys; name servers it does."""
    unit = build_unit(HASH, RECIPE, BuildSettings(addresses=("127.0.0.1", "::1")))
    denied, allowed = unit["IPAddressDeny"], unit["IPAddressAllow"]
    assert (2, [127, 0, 0, 0], 8) in denied
    assert (2, [169, 254, 0, 0], 16) in denied
    assert (10, [0] * 15 + [1], 128) in denied
    assert (2, [127, 0, 0, 53], 32) in allowed
    assert (2, [127, 0, 0, 1], 32) in allowed
    assert (10, [0] * 15 + [1], 128) in allowed
    assert not any(net[:2] == (2, [10, 0, 0, 0]) for net in denied)  # mirrors live on private networks
    assert (
        denied == sandbox(Network.OWN)["IPAddressDeny"]
    )  # one list: what an app may not reach no package's code does


def test_only_name_servers_that_would_be_cut_off_are_opened() -> None:
    """Those on closed networks."""
    servers = ("127.0.0.1", "10.0.0.2", "::1", "fe80::1")
    assert loopback_nameservers(servers) == ("127.0.0.1", "::1", "fe80::1")


def test_output_goes_to_the_clients_pipe_when_there_is_one() -> None:
    """Without a descriptor it goes to the journal; never to both properties, systemd takes the last one set."""
    assert build_unit(HASH, RECIPE)["StandardOutput"] == "journal"
    unit = build_unit(HASH, RECIPE, BuildSettings(output_fd=7))
    assert (unit["StandardOutputFileDescriptor"], unit["StandardErrorFileDescriptor"]) == (7, 7)
    assert "StandardOutput" not in unit


def test_settings_of_the_machine_win_over_ours() -> None:
    """An index, a proxy or another PATH from flyted.toml reach uv."""
    settings = BuildSettings(environment={"UV_DEFAULT_INDEX": "https://mirror/simple", "LANG": "de_DE.UTF-8"})
    assert build_unit(HASH, RECIPE, settings)["Environment"] == [
        "LANG=de_DE.UTF-8",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "UV_DEFAULT_INDEX=https://mirror/simple",
    ]


def test_removal_has_no_network_and_names_each_image() -> None:
    """Images belong to the build user, so a unit of that user removes them."""
    unit = remove_unit([HASH, "a" * 32])
    assert unit["ExecStartEx"][0][1][-4:] == ["--remove", HASH, "--remove", "a" * 32]
    assert unit["PrivateNetwork"] is True
    assert "SetCredential" not in unit
    assert remove_unit([], prune=True)["ExecStartEx"][0][1][-1] == "--prune"


@pytest.mark.parametrize("digest", ["", "x", "../" + "a" * 29, "A" * 32, "a" * 31 + "\n"])
def test_only_a_hash_names_an_image(digest: str) -> None:
    """No other text becomes a path or a unit name."""
    for function in (image_dir, unit_name, lambda d: build_unit(d, RECIPE), lambda d: remove_unit([d])):
        with pytest.raises(ValueError):
            function(digest)


def record(**changes: object) -> str:
    whole = {
        "format": 1, "hash": HASH, "python_asked": "3.12", "python": "3.13.5", "note": "n", "packages": 3,
        "built_at": 1.5,
        "built": ["x==1"], "stamp": "s", "recipe": {},
    }  # fmt: skip
    return json.dumps({**whole, **changes})


def test_a_record_is_read_back() -> None:
    """What the builder wrote about the image, for ``app get``."""
    assert record_of(record()) == ImageRecord(HASH, "3.12", "3.13.5", "n", 3, 1.5, ("x==1",))
    installs = [{"source": "base image", "requirements": ["flyte==2"]}, {"source": "l", "requirements": []}]
    recipe = {"installs": installs}
    read = record_of(record(bytes=5, recipe=recipe, seconds=[0.5]))
    layers = (RecordedLayer("base image", ("flyte==2",), 0.5), RecordedLayer("l", (), 0))
    assert (read.bytes, read.layers) == (5, layers)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "7", record()[:-9], record(note=7), record(note="a\nb"), record(packages="many"),
     record(built=None),
     record(built=[1]), record(note="x" * 2000), record(recipe=[]), record(recipe={"installs": [7]}),
     record(recipe={"installs": [{"source": "a\nb", "requirements": []}]}), record(bytes="many")],
)  # fmt: skip
def test_a_record_that_is_not_one_is_an_incomplete_image(text: str) -> None:
    """The file belongs to the build user: nothing of it is trusted to be well formed."""
    with pytest.raises(StoreCorrupt):
        record_of(text)


@pytest.mark.parametrize(
    ("result", "status", "lines", "message"),
    [
        (
            "exit-code",
            1,
            ["uv: x", "flyted-build: layer 1: y", "flyted-build: layer 1: no such package"],
            "no such package",
        ),
        ("exit-code", 1, ["  cause: No space left on device (os error 28)", "flyted-build: layer 1: x"], "is full"),
        ("exit-code", 74, ["flyted-build: /x: No space left on device"], "is full"),
        ("timeout", 15, ["flyted-build: layer 1"], "after 60 minutes"),
        ("oom-kill", 9, ["flyted-build: layer 1"], "too much memory"),
        ("signal", 9, [], "too much memory"),
        ("exit-code", 203, [], "'exit-code', exit status 203"),
        ("exit-code", 1, ["flyted-build: \x1b]0;x\x07 evil"], "evil"),
    ],
)
def test_a_failure_has_a_reason_in_one_printable_line(
    result: str, status: int, lines: list[str], message: str
) -> None:
    """The builder's last words if it had any, else what systemd saw; a build script's control characters are gone."""
    failure = build_failure(result, status, lines)
    assert isinstance(failure, BuildFailed)
    assert message in failure.message
    assert failure.message.isprintable()


def test_what_uv_has_just_said_is_not_streamed_again() -> None:
    """The builder ends with uv's reason, which the deploy's error tells: between the two it would be a third time."""
    why = "Because no-such-package was not found in the package registry, your requirements are unsatisfiable."
    before = ["Using Python 3.13.5", "error: No solution found when resolving dependencies", f"  cause: {why}"]
    assert repeats(f"flyted-build: layer 1 of the image (pip packages): {why}", before)
    assert not repeats(f"flyted-build: layer 1 of the image (pip packages): {why}", before[:2])
    assert not repeats("flyted-build: layer 2 of the image (pip packages): msgpack", before)
    assert not repeats(why, before)
