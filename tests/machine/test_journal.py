"""The journal of real units: who said it is journald's word, not the writer's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from flyted.host.journal import Entry, read
from tests.machine.pairs import connected, do, place_hands, planned, run, serving, sh, spec, without_daemon


@pytest.fixture(scope="module", autouse=True)
def _hands() -> Iterator[None]:
    place_hands()
    with without_daemon():
        yield


async def last(unit: str, lines: int = 100, *, newest_run: bool = False) -> list[Entry]:
    return [e async for e in read([unit], lines=lines, follow=False, newest_run=newest_run)]


def test_app_and_systemd_are_told_apart() -> None:
    """What the app writes, and what PID 1 says about it, in order, as the unit's."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("says")) as replica:
            assert await do(replica, "print('hello from the app', flush=True)") == "None"
            sh("journalctl", "--sync")
            found = await last(replica.service)
            assert {e.unit for e in found} == {replica.service}
            texts = {e.source: [f.text for f in found if f.source == e.source] for e in found}
            assert "hello from the app" in texts["app"]
            assert any(text.startswith("Started ") for text in texts["systemd"])
            assert [e.time_us for e in found] == sorted(e.time_us for e in found)
            assert len(await last(replica.service, 2)) == 2

    run(work())


def test_one_app_cannot_write_into_anothers_log() -> None:
    """With journald's native protocol any field can be sent, UNIT= and the identifier of another app among them."""
    forged = (
        "MESSAGE=forged line\\nUNIT={0}\\nOBJECT_SYSTEMD_UNIT={0}\\nSYSLOG_IDENTIFIER=victim\\nFLYTE_APP=victim\\n"
    )
    send = "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto({!r}.encode(), '/run/systemd/journal/socket')"

    async def work() -> None:
        async with (
            connected() as units,
            serving(units, spec("victim")) as victim,
            serving(units, spec("mallet")) as app,
        ):
            text = forged.format(victim.service)
            assert await do(app, send.format(text.replace("\\n", "\n"))) == str(len(text.replace("\\n", "\n")))
            sh("journalctl", "--sync")
            assert "forged line" in [e.text for e in await last(app.service)]
            assert "forged line" not in [e.text for e in await last(victim.service)]

    run(work())


def test_the_newest_run_is_told_apart() -> None:
    """Why the last start failed is in its own lines, not in those of the one before."""

    async def work() -> None:
        async with connected() as units:
            for command in ("crash", "refuse"):
                replica, pair = planned(spec("runs", command=(command,)))
                await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
                assert await units.start(replica.service) == "failed"
                await units.stop(replica.socket)
                await units.stop(replica.service)
            sh("journalctl", "--sync")
            every, newest = await last(replica.service), await last(replica.service, newest_run=True)
            assert sum("this app dies at once" in e.text for e in every) >= 2
            assert sum("this app dies at once" in e.text for e in newest) == 1
            assert any("status=78" in e.text for e in newest)
            assert not any("status=3" in e.text for e in newest)

    run(work())


def test_following_sees_new_lines_and_ends_with_the_reader() -> None:
    """Each line as it comes; a reader that leaves takes journalctl along."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("tail")) as replica:
            lines = read([replica.service], lines=1, follow=True)
            await anext(lines)
            for number in range(3):
                await do(replica, f"print('line {number}', flush=True)")
                assert (await anext(lines)).text == f"line {number}"
            children = sh("pgrep", "-P", str(os.getpid()), "journalctl")
            assert children
            await lines.aclose()
            assert sh("pgrep", "-P", str(os.getpid()), "journalctl") == ""

    run(work())


def test_long_and_strange_lines_end_nothing() -> None:
    """48 KiB, bytes that are no text, an escape: bounded, and the next line comes."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("odd")) as replica:
            for what in (
                "'x' * 47000",
                "b'\\xff\\xfe bytes\\n'.decode('latin-1')",
                "'\\x1b]0;title\\x07'",
                "'the end'",
            ):
                await do(replica, f"print({what}, flush=True)")
            sh("journalctl", "--sync")
            found = [e.text for e in await last(replica.service) if e.source == "app"]
            assert found[-1] == "the end"
            assert max(map(len, found)) == 8192

    run(work())


def test_nothing_is_asked_for_no_unit() -> None:
    """No unit is no line, not every line of the machine."""

    async def work() -> None:
        assert [e async for e in read([], lines=10, follow=False)] == []
        with pytest.raises(ValueError):
            await anext(read(["a.service + _UID=0"], lines=1, follow=False))

    run(work())
