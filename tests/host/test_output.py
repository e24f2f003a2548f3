"""What a unit prints, line by line."""

from __future__ import annotations

import asyncio
import os

from flyted.host.output import lines_to


def heard(*printed: bytes) -> list[str]:
    """The lines that are heard of what is printed."""
    lines: list[str] = []

    async def hear(line: str) -> None:
        lines.append(line)

    async def story() -> None:
        async with lines_to(hear) as output:
            for each in printed:
                os.write(output, each)
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(story(), 10))
    return lines


def test_each_line_is_heard_the_last_one_too() -> None:
    """However they are written; bytes that are no text do not matter."""
    assert heard(b"one\ntw", b"o\r\n", b"\xff\n", b"the end") == ["one", "two", "\ufffd", "the end"]


def test_of_a_line_that_is_written_over_the_end_is_heard() -> None:
    """dpkg reads its database, and says how far it is."""
    assert heard(b"(Reading ... 5%\r(Reading ... 100%\r(Reading ... 11541 files.)\n") == ["(Reading ... 11541 files.)"]


def test_a_line_without_end_takes_no_memory() -> None:
    """It becomes three dots, and what follows is heard."""
    assert heard(b"x" * 9000 + b"\n", b"after\n")[-1] == "after"
    assert "..." in heard(b"x" * 9000 + b"\n", b"after\n")
