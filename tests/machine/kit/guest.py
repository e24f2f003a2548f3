"""Another machine: a network namespace with a cable to this one, and names that lead here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.machine.kit.units import sh

NAME = "guest"
OURS, VISITOR = "198.51.100.1", "198.51.100.2"  # RFC 5737; a /30, as the machine's name server has an address near it
OURS6, VISITOR6 = "2001:db8:8::1", "2001:db8:8::2"  # RFC 3849
INSIDE = ("ip", "netns", "exec", NAME)
"""The start of a command line that runs there, as root."""
_FILES = Path("/etc/netns", NAME)  # ip-netns(8): mounted over those of /etc


@contextmanager
def connected(*names: str) -> Iterator[None]:
    """Have the other machine there. ``names`` lead to this one from it."""
    sh("ip", "netns", "add", NAME)
    try:
        _FILES.mkdir(parents=True)
        (_FILES / "hosts").write_text(f"127.0.0.1 localhost\n{OURS} {' '.join(names)}\n")
        for words in (
            f"link add ours1 type veth peer name far1 netns {NAME}", f"addr add {OURS}/30 dev ours1",
            f"-6 addr add {OURS6}/64 dev ours1 nodad", "link set ours1 up",
            f"-n {NAME} addr add {VISITOR}/30 dev far1", f"-n {NAME} -6 addr add {VISITOR6}/64 dev far1 nodad",
            f"-n {NAME} link set far1 up", f"-n {NAME} link set lo up",
        ):  # fmt: skip
            sh("ip", *words.split())
        yield
    finally:
        sh("ip", "netns", "del", NAME)
        shutil.rmtree(_FILES)
