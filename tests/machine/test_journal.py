"""The journal of real units: who said it is journald's word, not the writer's."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from flyted.contract.errors import HostFailure
from flyted.contract.names import Replica
from flyted.host.journal import Entry, follow, read
from tests.machine.kit.units import connected, do, planned, run, serving, sh, spec

pytestmark = pytest.mark.usefixtures("stub_app")


async def last(unit: str, lines: int = 100, *, newest_run: bool = False) -> list[Entry]:
    return await read([unit], lines=lines, newest_run=newest_run)


async def never() -> None:
    """No unit comes or goes."""
    await asyncio.Event().wait()


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
            lines = follow(lambda: [replica.service], never, lines=1)
            await anext(lines)
            for number in range(3):
                await do(replica, f"print('line {number}', flush=True)")
                assert (await anext(lines)).text == f"line {number}"
            children = sh("pgrep", "-P", str(os.getpid()), "journalctl")
            assert children
            await lines.aclose()
            assert sh("pgrep", "-P", str(os.getpid()), "journalctl") == ""

    run(work())


def test_following_says_that_journalctl_has_ended() -> None:
    """As it does by itself where root has no inotify instance left: that is not the end of an app."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("cut")) as replica:
            lines = follow(lambda: [replica.service], never, lines=1)
            await anext(lines)
            await do(replica, "print('a line', flush=True)")
            assert (await anext(lines)).text == "a line"
            os.kill(int(sh("pgrep", "-P", str(os.getpid()), "journalctl")), signal.SIGKILL)
            with pytest.raises(HostFailure, match="journalctl ended"):
                await anext(lines)

    run(work())


def test_following_goes_on_with_the_units_that_come() -> None:
    """Each line once and in order, of units that were there and of those that came; all of it when none is left."""

    async def work() -> None:
        made, units_now, news = spec("moves"), list[str](), asyncio.Condition()

        async def changed() -> None:
            async with news:
                await news.wait()

        async def now(*names: str) -> None:
            units_now[:] = names
            async with news:
                news.notify_all()

        async with connected() as units, serving(units, made) as first:
            await now(first.service)
            await say(first, 0)
            await say(first, 1)
            lines = follow(lambda: list(units_now), changed, lines=1)
            assert (await anext(lines)).text == "line 1"
            seen = asyncio.create_task(_of_apps(lines))
            await say(first, 2)
            async with serving(units, made, 2) as second:
                await say(second, 3)  # before it is known
                await now(first.service, second.service)
                await now(first.service, second.service)  # nothing new: nothing happens
                for number, replica in enumerate((first, second, first, second), 4):
                    await say(replica, number)
                await now()
                assert await seen == [f"line {number}" for number in range(2, 8)]

    run(work())


async def say(replica: Replica, number: int) -> None:
    """A line of an app's in the journal."""
    await do(replica, f"print('line {number}', flush=True)")
    sh("journalctl", "--sync")


async def _of_apps(lines: AsyncIterator[Entry]) -> list[str]:
    return [entry.text async for entry in lines if entry.source == "app" and entry.text.startswith("line ")]


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
            assert max(map(len, found)) == len("x" * 8192 + f"… ({47000 - 8192} more characters)")

    run(work())


def test_nothing_is_asked_for_no_unit() -> None:
    """No unit is no line, not every line of the machine."""

    async def work() -> None:
        assert await read([], lines=10) == []
        assert [e async for e in follow(list, never, lines=10)] == []
        with pytest.raises(ValueError):
            await read(["a.service + _UID=0"], lines=1)

    run(work())
