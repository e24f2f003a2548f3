"""The renderer: types, and above all what it refuses. A line feed that passes here is root code execution."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError
from flyted.host.signatures import SIGNATURES, auxiliary, encode, properties, split, text

CONTROLS = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    "\u2028",
    "\u2029",
    "\ud800",
    "\ufdd0",
    "\uffff",
    "\U0010fffe",
]
COMMAND = [("/bin/true", ["/bin/true", "x"], ["no-env-expand"])]


def value_of(signature: str, word: str) -> Any:
    """A value of a type in which every string is ``word``."""
    if signature == "ay":
        return word
    if signature[0] == "a":
        return [value_of(signature[1:], word)]
    if signature[0] == "(":
        return tuple(value_of(part, word) for part in split(signature[1:-1]))
    return {"s": word, "b": False}.get(signature, 0)


COMMANDS = ("ExecStartEx", "ExecStopEx")
STRINGS = sorted(n for n, s in SIGNATURES.items() if ("s" in s or "ay" in s) and n not in COMMANDS and "y" not in s)


@pytest.mark.parametrize("name", STRINGS)
def test_no_property_takes_a_control_character(name: str) -> None:
    """C0, C1, the Unicode line ends, half a surrogate and noncharacters, in every string of every property."""
    assert properties({name: value_of(SIGNATURES[name], "plain é")})
    for character in CONTROLS:
        with pytest.raises(FlytedError):
            properties({name: value_of(SIGNATURES[name], f"a{character}b")})


@pytest.mark.parametrize("character", CONTROLS)
def test_no_other_string_takes_one_either(character: str) -> None:
    """Commands, fields of the journal, unit names, arguments of calls."""
    bad = f"a{character}"
    for attempt in (
        lambda: properties({"ExecStartEx": [("/bin/true", ["/bin/true", bad], ["no-env-expand"])]}),
        lambda: properties({"ExecStopEx": [("/bin/true", ["/bin/true", bad], ["no-env-expand"])]}),
        lambda: properties({"LogExtraFields": [bad]}),
        lambda: auxiliary([(bad, {})]),
        lambda: text(bad),
        lambda: properties({bad: "x"}),
    ):
        with pytest.raises(FlytedError):
            attempt()


def test_an_unknown_property_is_an_error() -> None:
    """It is never dropped: a sandbox with a hole would start."""
    with pytest.raises(FlytedError, match="ProtectHomes"):
        properties({"ProtectHomes": "yes"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("MemoryMax", -1), ("MemoryMax", 1 << 64), ("MemoryMax", "1G"), ("MemoryMax", True), ("UMask", 1 << 32),
     ("DynamicUser", 1), ("DynamicUser", "yes"), ("User", b"x"), ("User", None), ("Environment", "A=1"),
     ("LoadCredential", [("a",)]), ("LoadCredential", [["a", "b"]]), ("SystemCallErrorNumber", 1 << 31),
     ("SystemCallFilter", (1, ["@x"])), ("IPAddressDeny", [(2, [256], 8)])],
)  # fmt: skip
def test_a_value_of_another_type_is_an_error(name: str, value: Any) -> None:
    """pystemd would send what it makes of it, or cut it."""
    with pytest.raises(FlytedError, match=name):
        properties({name: value})


@pytest.mark.parametrize(
    "command",
    [("true", ["true"], ["no-env-expand"]), ("+/bin/sh", ["+/bin/sh"], ["no-env-expand"]),
     ("/bin/sh", ["sh"], ["no-env-expand"]), ("/bin/sh", [], ["no-env-expand"]), ("/bin/sh", ["/bin/sh"], []),
     ("/bin/sh", ["/bin/sh"], ["no-env-expand", "privileged"]), ("/bin/sh", ["/bin/sh"], ["privileged"]),
     ("/bin/sh", ["/bin/sh", "$HOME"], ["no-env-expand"]), ("/bin/sh", ["/bin/sh", ";"], ["no-env-expand"])],
)  # fmt: skip
def test_a_command_is_a_path_in_the_sandbox(command: Any) -> None:
    """Absolute, under its own name, without a way out of the sandbox, nor what systemd would change in it."""
    with pytest.raises(FlytedError):
        properties({"ExecStartEx": [command]})


def test_the_steps_are_those_of_sd_bus() -> None:
    """Containers with their contents, then the values, then -1 (sd_bus_message_open_container(3))."""
    assert encode("a(ss)", [("a", "b")], "x") == [
        (ord("a"), b"(ss)"), (ord("r"), b"ss"), (ord("s"), b"a"), (ord("s"), b"b"), (-1, None), (-1, None),
    ]  # fmt: skip
    assert encode("aay", ["é"], "x") == [
        (ord("a"), b"ay"), (ord("a"), b"y"), (ord("y"), 0xC3), (ord("y"), 0xA9), (-1, None), (-1, None),
    ]  # fmt: skip


def test_a_command_travels_as_exec_start() -> None:
    """systemd 252 cannot read ``ExecStartEx`` back from its own file."""
    steps = properties({"ExecStartEx": COMMAND})
    assert (ord("s"), b"ExecStart") in steps
    assert (ord("v"), b"a(sasb)") in steps


def test_stages_are_settings_of_their_own() -> None:
    """An allow list and what is taken out of it again: two settings of one property, in that order."""
    steps = properties({"SystemCallFilter": [(True, ["@system-service"]), (False, ["@privileged"])]})
    assert steps.count((ord("s"), b"SystemCallFilter")) == 2
    assert steps.index((ord("s"), b"@system-service")) < steps.index((ord("s"), b"@privileged"))


_basic = st.sampled_from(["s", "b", "y", "i", "u", "t"])
_types = st.recursive(
    _basic, lambda t: t.map(lambda x: f"a{x}") | st.lists(t, min_size=1, max_size=4).map(lambda p: f"({''.join(p)})")
)


@given(st.lists(_types, max_size=5))
def test_signatures_split_into_complete_types(types: list[str]) -> None:
    """Putting types together and taking them apart gives the same types."""
    assert list(split("".join(types))) == types


@given(_types)
def test_every_container_is_closed(signature: str) -> None:
    """As many ends as beginnings, for any type."""
    steps = encode(signature, value_of(signature, "x"), "x")
    assert sum(kind in (ord("a"), ord("r")) for kind, _ in steps) == sum(kind == -1 for kind, _ in steps)
