"""From every text of an app to a unit file: on Debian 12 a line feed in a D-Bus string is a line of it, as root."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.app import AppSpec, SecretUse
from flyted.contract.errors import FlytedError
from flyted.contract.names import AppKey, Replica
from flyted.host.signatures import auxiliary, properties
from flyted.launch.options import parse
from flyted.plan.units import app_units
from tests.values import spec

PAYLOAD = "ExecStartPre=+/usr/bin/touch /root/PWN"
LINE_ENDS = ["\n", "\r", "\r\n", "\0", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x1b"]
LITERAL = [
    "%n",
    "%%",
    "$FOO",
    "${FOO}",
    "$$",
    "\\",
    "\\n",
    '"',
    "'",
    ";",
    " ; ",
    "`id`",
    "$(id)",
    "#",
    "=",
    "[Service]",
]
in_machine = pytest.mark.skipif(not os.environ.get("FLYTED_IN_MACHINE"), reason="needs the booted machine")

FIELDS: dict[str, Callable[[str], AppSpec]] = {
    "name": lambda s: spec(f"a{s}b"),
    "project": lambda s: spec(key=AppKey(f"a{s}b", "d", "n")),
    "domain": lambda s: spec(key=AppKey("p", f"a{s}b", "n")),
    "command": lambda s: spec(command=("fserve", f"a{s}b")),
    "variable": lambda s: spec(env=(("A", f"a{s}b"),)),
    "variable's name": lambda s: spec(env=((f"A{s}B", "x"),)),
    "secret's key": lambda s: spec(secrets=(SecretUse(f"a{s}b", env="A"),)),
    "secret's variable": lambda s: spec(secrets=(SecretUse("a", env=f"A{s}B"),)),
    "secret's file": lambda s: spec(secrets=(SecretUse("a", file=f"a{s}b"),)),
    "bundle": lambda s: spec(bundle=f"a{s}b"),
    "sys_path": lambda s: spec(sys_path=f"a{s}b"),
    "python_env": lambda s: spec(python_env=f"/a{s}b"),
    "description": lambda s: spec(description=f"a{s}b"),
    "type": lambda s: spec(type=f"a{s}b"),
    "link": lambda s: spec(links=((f"a{s}b", "/x"),)),
}
TOLD = {"command", "variable"}  # what an app is told at its start, by plan/start.py


def steps_of(made: AppSpec) -> list[Any]:
    """What would be sent to systemd."""
    replica = Replica(made.key.id, 1)
    pair = app_units(made, replica, image_path=made.python_env or "/i")
    return [*properties(pair.socket), *auxiliary([(replica.service, pair.service)])]


@pytest.mark.parametrize("field", sorted(TOLD))
@pytest.mark.parametrize("end", [end for end in LINE_ENDS if end != "\0"])
def test_what_a_program_may_have_is_in_no_unit(field: str, end: str) -> None:
    """Arguments and variables may have several lines: they go to launch as a file, and not by way of a unit."""
    made = FIELDS[field](f"{end}[Service]{end}{PAYLOAD}{end}")
    assert not [value for kind, value in steps_of(made) if kind == ord("s") and PAYLOAD.encode() in value]


@pytest.mark.parametrize("field", sorted(TOLD))
@pytest.mark.parametrize("text", ["\0", "\ud800"])
def test_what_no_program_can_be_given_is_refused(field: str, text: str) -> None:
    """execve(2) knows no NUL, and half a character is none."""
    with pytest.raises(FlytedError):
        FIELDS[field](text)


@pytest.mark.parametrize("field", [field for field in FIELDS if field not in TOLD])
@pytest.mark.parametrize("end", LINE_ENDS)
def test_a_line_end_gets_nowhere(field: str, end: str) -> None:
    """Refused where the app is described, before anything is made of it."""
    text = f"{end}[Service]{end}{PAYLOAD}{end}"
    with pytest.raises(FlytedError):
        FIELDS[field](text)


@given(st.sampled_from(sorted(FIELDS)), st.text(max_size=30))
def test_any_text_is_refused_or_harmless(field: str, text: str) -> None:
    """Whatever passes the border, no string that is sent has a control character or ends a line."""
    try:
        steps = steps_of(FIELDS[field](text))
    except FlytedError:
        return
    for kind, value in steps:
        if kind == ord("s"):
            assert not any(unicodedata.category(c) == "Cc" for c in value.decode())
            assert len(value.decode().splitlines()) <= 1


@pytest.mark.parametrize("image", ["/i\n", "/i\r[Service]", "relative", "/i;x", "/i$HOME", "/\x85"])
def test_a_path_that_would_change_is_refused(image: str) -> None:
    """The interpreter's path comes from the store; still it is looked at."""
    with pytest.raises(FlytedError):
        properties(app_units(spec(), Replica("a", 1), image_path=image).service)


@pytest.fixture(scope="module")
def _machine() -> Iterator[None]:
    from tests.machine.kit.units import stub_app

    with stub_app():
        yield


@in_machine
@pytest.mark.parametrize("field", ["command", "variable", "sys_path", "description", "link"])
@pytest.mark.usefixtures("_machine")
def test_what_passes_is_literal(field: str) -> None:
    """In the real unit, after a reload and a start from systemd's own file: the same text, and nothing was run."""
    from tests.machine.kit.units import LAYOUT, connected, do, must, run, serving

    text = "".join(LITERAL) + PAYLOAD + (f"\n{PAYLOAD}\r\n\x1b\u2028" if field in TOLD else "")
    made = FIELDS[field](text)
    canaries = [Path("/root/PWN"), Path(LAYOUT.state, "PWN")]

    async def work() -> None:
        async with connected() as units, serving(units, made) as replica:
            for _ in range(2):
                if field == "command":
                    words = eval(await do(replica, "sys.argv"))
                    told = parse(["--app", "a", *words[words.index("--quoted") :]])
                    assert told.command == list(made.command)
                if field == "variable":
                    assert await do(replica, "os.environ['A']") == repr(dict(made.env)["A"])
                if field == "sys_path":
                    assert await do(replica, "os.environ['_F_SYS_PATH']") == repr(made.sys_path)
                must("systemctl", "daemon-reload")
                await units.stop(replica.service)
            assert not any(canary.exists() for canary in canaries)

    run(work())
