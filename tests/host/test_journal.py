"""journalctl's JSON → entries: any bytes give an entry or nothing, and origin comes from journald's own fields."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import HostFailure
from flyted.host import journal
from flyted.host.journal import MAX_TEXT, Entry, entry_of, follow

pytestmark = pytest.mark.slow


def line(**fields: Any) -> bytes:
    return json.dumps({"__REALTIME_TIMESTAMP": "1700000000000001", **fields}).encode()


def test_an_apps_line() -> None:
    """The unit is the one that journald saw, whatever the writer says in UNIT."""
    found = entry_of(
        line(MESSAGE="hello", _SYSTEMD_UNIT="a.service", UNIT="b.service", _PID="42", _SYSTEMD_INVOCATION_ID="1f")
    )
    assert found == Entry(1700000000000001, "a.service", "app", "hello", "1f")


def test_what_systemd_says_about_a_unit() -> None:
    """PID 1's own word, and only its."""
    fields = {"MESSAGE": "Started.", "_SYSTEMD_UNIT": "init.scope", "UNIT": "a.service", "INVOCATION_ID": "1f"}
    assert entry_of(line(**fields, _PID="1")) == Entry(1700000000000001, "a.service", "systemd", "Started.", "1f")
    forged = entry_of(line(**fields, _PID="99"))
    assert forged is not None
    assert (forged.unit, forged.source) == ("init.scope", "app")


def test_what_journald_says_about_a_unit() -> None:
    """That it has suppressed lines is journald's own word; a program's field of that name is none."""
    fields = {"MESSAGE": "Suppressed 5 messages from a.service", "_SYSTEMD_UNIT": "b.service"}
    about = {"OBJECT_SYSTEMD_UNIT": "a.service", "OBJECT_SYSTEMD_INVOCATION_ID": "1f"}
    told = entry_of(line(**fields, **about, _TRANSPORT="driver"))
    assert told == Entry(1700000000000001, "a.service", "systemd", fields["MESSAGE"], "1f")
    forged = entry_of(line(**fields, **about, _TRANSPORT="journal"))
    assert forged is not None
    assert (forged.unit, forged.source) == ("b.service", "app")


@pytest.mark.parametrize(
    ("message", "text"),
    [([104, 105, 255], "hi\ufffd"), (["a", "b"], "a"), ([[104, 105], "x"], "hi"), (None, ""), ([300], ""), (7, ""),
     ({"a": 1}, ""), ([], ""), ("x" * MAX_TEXT, "x" * MAX_TEXT),
     ("x" * (MAX_TEXT + 1), "x" * MAX_TEXT + "… (1 more characters)")],
)  # fmt: skip
def test_a_message_in_every_form(message: Any, text: str) -> None:
    """Bytes when it is not text, a list when a field occurs twice, null when there is none; bounded."""
    found = entry_of(line(MESSAGE=message))
    assert found is not None
    assert found.text == text


@given(st.binary(max_size=200) | st.from_regex(rb'\{"__REALTIME_TIMESTAMP": ?("[0-9]{1,9}"|[^}]{0,20})\}'))
def test_any_bytes_are_an_entry_or_nothing(data: bytes) -> None:
    """No exception, whatever arrives."""
    found = entry_of(data)
    assert found is None or isinstance(found, Entry)


def followed(lines: int) -> list[str]:
    """The texts that ``follow`` gives first, of a unit that then goes."""
    left = [("a.service",)]

    async def changed() -> None:
        await asyncio.sleep(0.2)
        left.clear()

    async def work() -> list[str]:
        return [each.text async for each in follow(lambda: left[0] if left else (), changed, lines=lines)]

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("lines", "there", "given"), [(0, 3, 0), (1, 3, 1), (3, 3, 3), (5, 3, 3), (10, 9, 9), (10_000, 60, 60), (5, 0, 0)]
)
def test_following_begins_with_the_lines_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int, there: int, given: int
) -> None:
    """All of them where there are fewer than were asked for; the newest where there are more."""
    texts = [f"line {number}" for number in range(there)]
    entries = [line(MESSAGE=each, __CURSOR=f"c{number}") + b"\n" for number, each in enumerate(texts)]
    (tmp_path / "journal").write_bytes(b"".join(entries))
    program = tmp_path / "journalctl"
    program.write_text(
        "#!/bin/sh\n"
        "for word; do case $word in --follow) exec sleep 60;; --after-cursor=*|--no-tail) exit;; --lines=*)"
        f' exec tail -n "${{word#*=}}" {tmp_path}/journal;; esac; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(journal, "_JOURNALCTL", str(program))
    assert followed(lines) == texts[there - given :]


def test_following_raises_when_journalctl_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many turns of the loop its end takes: what waits for a change is cancelled meanwhile."""
    (tmp_path / "journal").write_bytes(line(MESSAGE="first", __CURSOR="c1") + b"\n")
    program = tmp_path / "journalctl"
    program.write_text(
        f"#!/bin/sh\nfor word; do case $word in --follow) exit 1;; esac; done; cat {tmp_path}/journal\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(journal, "_JOURNALCTL", str(program))
    end = journal._end

    async def slow_end(process: asyncio.subprocess.Process) -> None:
        await end(process)
        await asyncio.sleep(0.01)

    async def never() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        monkeypatch.setattr(journal, "_end", slow_end)
        async for _ in follow(lambda: ("a.service",), never, lines=1):
            pass

    with pytest.raises(HostFailure, match="journalctl ended"):
        asyncio.run(asyncio.wait_for(work(), 10))
