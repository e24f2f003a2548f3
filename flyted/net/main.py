"""Runs the commands of the network's units; one that fails prints one line to stderr and exits with status 1."""

from __future__ import annotations

import sys

from flyted.net.netlink import Failed

_WORK = ("egress", "router", "veth")


def main(argv: list[str]) -> int:
    """Run the command that the only argument names, and return the exit status: 1 if it failed, 2 if there is none."""
    if len(argv) != 1 or argv[0] not in _WORK:
        sys.stderr.write(f"usage: flyted-net {'|'.join(_WORK)}\n")
        return 2
    try:
        _do(argv[0])
    except (Failed, OSError) as failure:
        sys.stderr.write(f"flyted-net: {failure}\n")
        return 1
    return 0


def _do(work: str) -> None:
    """Import what this command needs and no more, and run it: the first start of every app waits for its veth pair."""
    if work == "veth":
        from flyted.net import veth

        veth.run()
    elif work == "router":
        from flyted.net import router

        router.run()
    else:
        from flyted.net import egress

        egress.run()
