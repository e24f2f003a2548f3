"""The units that make and remove layers, and the errors that a step's end becomes."""

from __future__ import annotations

import pytest

from flyted.build import words as build_words
from flyted.host.signatures import properties
from flyted.layers import words
from flyted.plan.images.layer_unit import (
    LAYERS,
    LayerSettings,
    layer_failure,
    layer_unit,
    layer_unit_name,
    located,
    remove_layers_unit,
    split_size,
)
from flyted.plan.sandbox import Network, sandbox

LAYER, FOLDER = "0123456789abcdef" * 2, "a" * 64
JOB = b'{"a": "line\\nanother"}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("flyted-layer: takes 4096 bytes", ("", 4096)),
        ("no end of lineflyted-layer: takes 4096 bytes", ("no end of line", 4096)),
        ("flyted-layer: takes 4096 bytes more", ("flyted-layer: takes 4096 bytes more", None)),
        ("flyted-layer: takes -1 bytes", ("flyted-layer: takes -1 bytes", None)),
        (f"flyted-layer: takes {10**20} bytes", (f"flyted-layer: takes {10**20} bytes", None)),
        ("flyted-layer: removed", ("flyted-layer: removed", None)),
        ("", ("", None)),
    ],
)
def test_the_last_line_says_what_a_layer_takes(line: str, said: tuple[str, int | None]) -> None:
    """Also behind a line of the step's own that it did not end."""
    assert split_size(line) == said


def test_the_unit_runs_the_program_with_two_capabilities_for_its_map_of_users() -> None:
    """setgid and setuid, which it gives up; the user of builds; namespaces, but for network and cgroups."""
    unit = layer_unit(LAYER, JOB, network=True)
    (path, argv, flags) = unit["ExecStartEx"][0]
    assert path == argv[0] == "/usr/bin/python3"
    assert argv[1:5] == ["-IS", "/usr/lib/flyted/flyted/layers", "--layers", LAYERS]
    assert flags == ["no-env-expand"]
    assert (unit["User"], unit["Group"]) == ("flyted-build", "flyted-build")
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == 0b11000000
    assert unit["RestrictNamespaces"] == 0x3C020000
    assert unit["SetCredential"] == [("job", JOB)]
    assert "LoadCredential" not in unit
    assert unit["LogExtraFields"] == [f"FLYTED_LAYER={LAYER}"]
    assert properties(unit)


def test_the_sandbox_is_an_apps_but_for_what_the_program_needs() -> None:
    """What differs is this list, and no more."""
    unit, app = layer_unit(LAYER, JOB, network=True), sandbox(Network.OWN)
    differ = {name for name in app if unit.get(name) != app[name]}
    assert differ == {
        "AmbientCapabilities", "CapabilityBoundingSet", "PrivateUsers", "ProtectHostname", "ProtectKernelLogs",
        "ProtectKernelTunables", "RestrictNamespaces", "RestrictSUIDSGID", "SystemCallFilter",
    }  # fmt: skip


def test_a_step_reaches_what_an_app_reaches_or_nothing() -> None:
    """Egress of its own, which is there first; the stub resolver is replaced as for apps."""
    unit = layer_unit(LAYER, JOB, LayerSettings(nameservers=("127.0.0.53",)), network=True)
    net = f"flyted-net@layer-{LAYER}.service"
    assert (unit["JoinsNamespaceOf"], unit["After"]) == ([net], [net])
    assert unit["Wants"] == [net, "flyted-net.service"]
    assert unit["PrivateNetwork"] is True
    assert (2, [169, 254, 0, 0], 16) in unit["IPAddressDeny"]
    assert ("/usr/lib/flyted/resolv.conf", "/etc/resolv.conf", False, 0) in unit["BindReadOnlyPaths"]
    closed = layer_unit(LAYER, JOB, LayerSettings(nameservers=("127.0.0.53",)), network=False)
    assert closed["PrivateNetwork"] is True
    assert not {"JoinsNamespaceOf", "After", "Wants"} & set(closed)
    assert (2, [0, 0, 0, 0], 0) in closed["IPAddressDeny"]


def test_of_flyteds_state_it_sees_the_layers_and_what_it_reads() -> None:
    """No image, no secret, no other bundle."""
    unit = layer_unit(LAYER, JOB, network=False, bundles=[FOLDER])
    assert ("/var/lib/flyted", "ro,mode=755") in unit["TemporaryFileSystem"]
    assert unit["BindPaths"] == [(LAYERS, LAYERS, False, 0)]
    ours = [bind[0] for bind in unit["BindReadOnlyPaths"] if bind[0].startswith("/var")]
    assert ours == [f"/var/lib/flyted/bundles/{FOLDER}.tar.gz"]


def test_secrets_are_asked_for_and_not_swapped() -> None:
    """Their values are in no property."""
    unit = layer_unit(LAYER, JOB, network=False, secrets=["b0", "b1"])
    assert unit["LoadCredential"] == [(each, "/run/flyted/credentials.sock") for each in ("b0", "b1")]
    assert unit["MemorySwapMax"] == 0


def test_settings_and_limits() -> None:
    """Memory, tasks, time, and what the program watches of the disk."""
    settings = LayerSettings({"UV_DEFAULT_INDEX": "x"}, (), 1, 2, 3, 4, 5, 6, runtime_max_s=7)
    unit = layer_unit(LAYER, JOB, settings, network=False)
    assert (unit["MemoryMax"], unit["TasksMax"], unit["RuntimeMaxUSec"]) == (1, 2, 7 * 10**6)
    assert layer_unit(LAYER, JOB, network=False)["RuntimeMaxUSec"] == 3600 * 10**6
    words_given = unit["ExecStartEx"][0][1]
    assert words_given[-6:] == ["--layer-bytes", "3", "--layer-files", "4", "--keep-free", "5"]
    assert unit["StandardOutputFileDescriptor"] == unit["StandardErrorFileDescriptor"] == 6
    assert "UV_DEFAULT_INDEX=x" in unit["Environment"]


def test_removal_has_the_same_rights_and_no_network() -> None:
    """Only root of the namespace that made a layer may remove all of it."""
    unit = remove_layers_unit([LAYER, "f" * 32])
    assert unit["ExecStartEx"][0][1][-4:] == [LAYERS, "--remove", LAYER, "f" * 32]
    assert "JoinsNamespaceOf" not in unit
    for name in ("CapabilityBoundingSet", "RestrictNamespaces", "User"):
        assert unit[name] == layer_unit(LAYER, JOB, network=False)[name]


@pytest.mark.parametrize("bad", ["", "x", "../" * 8, LAYER.upper(), f"{LAYER}\n"])
def test_no_other_text_becomes_a_path_or_a_name(bad: str) -> None:
    """A fault of flyted's, not of a user's."""
    for make in (
        layer_unit_name,
        lambda each: layer_unit(each, JOB, network=False),
        lambda each: remove_layers_unit([each]),
    ):
        with pytest.raises(ValueError, match=r".*"):
            make(bad)


def test_base_is_the_tmpfiles_owner() -> None:
    """The folder of layers is made by systemd-tmpfiles(8), which knows no constant of ours."""
    from pathlib import Path

    line = next(
        each
        for each in Path(__file__).parents[2].joinpath("packaging/debian/tmpfiles.conf").read_text().splitlines()
        if LAYERS in each
    )
    assert line == f"d {LAYERS} 0750 {words.BASE} root -"
    assert words.OURS != build_words.OURS


FULL = f"apt-get install x: the disk of {LAYERS} is full"
OUTPUT = ["Reading package lists...", "E: \x1b[2JUnable", "flyted-layer: apt-get install x: exited with status 100"]


@pytest.mark.parametrize(
    ("result", "status", "lines", "message", "hint"),
    [
        (
            "exit-code", 1, OUTPUT,
            "apt-get install x: exited with status 100\n  Reading package lists...\n  E:  [2JUnable", "kept",
        ),
        ("exit-code", 78, ["flyted-layer: layer a is not there"], "apt-get install x: layer a is not there", ""),
        ("exit-code", 2, ["flyted-layer: killed: it wrote more"], "apt-get install x: killed: it wrote more", "less"),
        ("exit-code", 71, ["flyted-layer: /x: No space left on device"], FULL, "df -h"),
        (
            "exit-code", 1, ["cp: /dev/shm/x: No space left on device", OUTPUT[2]],
            "apt-get install x: exited with status 100\n  cp: /dev/shm/x: No space left on device", "/dev/shm",
        ),
        ("timeout", 15, [], "apt-get install x: not finished after 60 minutes", "more steps"),
        ("oom-kill", 9, [], "apt-get install x: it used too much memory", "a step may take 8 GiB"),
        ("signal", 9, [], "apt-get install x: it used too much memory", "a step may take 8 GiB"),
        ("success", 15, [], "apt-get install x: 'success', exit status 15", ""),
    ],
)  # fmt: skip
def test_how_a_step_ended_in_words(result: str, status: int, lines: list[str], message: str, hint: str) -> None:
    """The command, why, and its last lines, without a character that moves a cursor."""
    failure = layer_failure("apt-get install x", result, status, lines)
    assert failure.message == message
    assert hint in failure.hint


def test_the_limits_that_were_set_are_those_that_are_named() -> None:
    """The time and the memory of this unit."""
    settings = LayerSettings(runtime_max_s=5, memory_max=200 << 20)
    assert layer_failure("make", "timeout", 15, [], settings).message == "make: not finished after 5 seconds"
    assert "a step may take 200 MiB" in layer_failure("make", "oom-kill", 9, [], settings).hint


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("layer 3 of the image", "layer 3 of the image: make: exited with status 2\n  why"),
        ("Dockerfile:7: RUN", "Dockerfile:7: make: exited with status 2\n  why"),
        ("", "make: exited with status 2\n  why"),
    ],
)
def test_an_error_names_the_place_of_its_layer(where: str, message: str) -> None:
    """In the words of the file that the user wrote; the hint stays."""
    failure = layer_failure("make", "exit-code", 1, ["why", "flyted-layer: make: exited with status 2"])
    found = located(where, failure)
    assert (found.message, found.hint) == (message, failure.hint)


def test_many_lines_are_the_last_ones() -> None:
    """Enough to see the error, not all of a compiler's."""
    lines = [f"line {number}" for number in range(200)]
    shown = layer_failure("make", "exit-code", 1, [*lines, "flyted-layer: make: exited with status 2"]).message
    assert shown.split("\n")[1:] == [f"  line {number}" for number in range(188, 200)]


@pytest.mark.parametrize(
    ("step", "said", "hint"),
    [
        ("uv venv --python=3.11", "/bin/sh: uv: not found", "uv needs glibc"),
        ("uv python install 3.12", "error: Failed to install cpython-3.12", "Debian bookworm has Python 3.11 itself"),
        ("make", "make: *** No rule", "the steps before it are kept"),
    ],
)
def test_a_command_that_nobody_wrote_is_explained(step: str, said: str, hint: str) -> None:
    """The SDK writes some, and so do we for a base."""
    lines = [said, f"flyted-layer: {step}: exited with status 127"]
    assert layer_failure(step, "exit-code", 1, lines).hint.startswith(hint)
