"""How a build ends badly: one line for people, and an exit status (sysexits.h) for the daemon."""

from __future__ import annotations

EX_INSTALL = 1  # uv said no: its own words come before ours
EX_APART = 3  # not so: by a build that reaches nothing but its own image; plan/build_unit.py has the same number
EX_UNAVAILABLE = 69  # no Python that could do
EX_IOERR = 74  # the disk
EX_TEMPFAIL = 75  # somebody else is at it
EX_CONFIG = 78  # the unit or the recipe is not what we expect


class Failed(Exception):
    """The build is over; ``str()`` is the line to show."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NeedsSource(Failed):
    """A package has no wheel: its own code would run in this build, which may write what other images use."""

    def __init__(self, message: str) -> None:
        super().__init__(EX_APART, message)


def say(text: str) -> None:
    """One line to whoever watches the build; flushed, so that it stands before uv's next words."""
    print(f"flyted-build: {text}", flush=True)  # noqa: T201
