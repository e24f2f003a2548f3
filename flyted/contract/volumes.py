"""Defines what an app asks of a volume: a folder of the machine's operator, by its name, and where the app sees it."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable

MOST = 16
RO, RW = "ro", "rw"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?")
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._@+-]{1,64}){1,8}")
_FORM = "give NAME:/path or NAME:/path:ro, with the name of a volume that 'flytectl volume ls' shows"


@dataclass(frozen=True)
class VolumeUse:
    """A volume of an app. ``folder`` is the operator's, ``group`` the one by which apps may write; "": none is needed.

    Only flyted sets these two, when the app is served.
    """

    name: str
    path: str
    mode: str = RW
    folder: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` for a bad name, path or mode."""
        volume_name(self.name)
        if not isinstance(self.path, str) or _PATH.fullmatch(self.path) is None:
            raise InvalidInput(f"volume '{self.name}' cannot be at {printable(self.path)}", hint=_FORM)
        if self.mode not in (RO, RW):
            raise InvalidInput(f"volume '{self.name}': {printable(self.mode)} is neither ro nor rw", hint=_FORM)
        for text in (self.folder, self.group):
            if not isinstance(text, str) or not text.isprintable() or len(text) > 1024:
                raise InvalidInput(f"volume '{self.name}' has a folder that cannot be used: {printable(text)}")

    @property
    def text(self) -> str:
        """The volume as it is given on the command line."""
        return f"{self.name}:{self.path}" + (f":{RO}" if self.mode == RO else "")


def of_flag(text: str) -> VolumeUse:
    """Read ``NAME:/path[:ro]``. Raise :class:`InvalidInput` for any other text."""
    name, _, rest = text.partition(":")
    path, _, mode = rest.partition(":")
    return VolumeUse(name, path.rstrip("/") if path != "/" else path, mode or RW)


def volume_name(text: object) -> str:
    """Return ``text`` if it is the name of a volume. Raise :class:`InvalidInput` otherwise.

    It is short, since a group is called by it, and useradd(8) limits these names to 32 characters.
    """
    if not isinstance(text, str) or _NAME.fullmatch(text) is None:
        raise InvalidInput(
            f"{printable(text)} is not the name of a volume",
            hint="use 1-20 of a-z, 0-9 and '-', not at the beginning or end",
        )
    return text


def group_of(name: str) -> str:
    """Return the group whose members may write to a volume: the apps that have it, and whom the operator adds."""
    return f"flyted-vol-{name}"


def check(uses: tuple[VolumeUse, ...], app: str) -> None:
    """Raise :class:`InvalidInput` for too many volumes, and for two of which one would be inside of the other."""
    if len(uses) > MOST:
        raise InvalidInput(f"app '{app}' has more than {MOST} volumes")
    paths = sorted(f"{use.path}/" for use in uses)
    for one, other in itertools.pairwise(paths):
        if other.startswith(one):
            raise InvalidInput(
                f"app '{app}': the volume at {other[:-1]} would be inside of the one at {one[:-1]}",
                hint="give each volume a path of its own",
            )
