"""How a build ends badly: one line for people, and an exit status (sysexits.h) for the daemon."""

from __future__ import annotations

EX_INSTALL = 1  # uv failed: its own output comes before our line
EX_APART = 3  # only a build that can write nothing but its image may go on; the same as plan/images/build_unit.BUILD_APART
EX_UNAVAILABLE = 69  # no usable Python
EX_IOERR = 74  # a file or folder could not be read or written
EX_TEMPFAIL = 75  # another builder has the image locked
EX_CONFIG = 78  # the unit, the recipe or uv's settings are not as expected


class Failed(Exception):
    """The error that ends a build: ``str()`` is the line to show, ``status`` the exit status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NeedsSource(Failed):
    """The error of a build that would have to run a package's code, but can write files that other images use."""

    def __init__(self, message: str) -> None:
        super().__init__(EX_APART, message)


def say(text: str) -> None:
    """Print one line for whoever watches the build, flushed so that it comes before uv's next output."""
    print(f"flyted-build: {text}", flush=True)  # noqa: T201
