"""Runs the commands of the network's units; one that fails prints one line to stderr and exits with status 1."""

from __future__ import annotations

import sys

from flyted.net.netlink import Failed

_WORK = ("egress", "router", "calls", "veth")


def main(argv: list[str]) -> int:
    """Run the command that the first argument names, and return the exit status: 1 if it failed, 2 if there is none.

    ``veth`` has a second one: the name of the app's replica.
    """
    if not argv or argv[0] not in _WORK or len(argv) != (2 if argv[0] == "veth" else 1):
        sys.stderr.write(f"usage: flyted-net {'|'.join(_WORK)} REPLICA\n")
        return 2
    try:
        _do(argv)
    except (Failed, OSError) as failure:
        sys.stderr.write(f"flyted-net: {failure}\n")
        return 1
    return 0


def _do(argv: list[str]) -> None:
    """Import what this command needs and no more, and run it: the first start of every app waits for its veth pair."""
    work = argv[0]
    if work == "veth":
        from flyted.net import veth

        veth.run(argv[1])
    elif work == "calls":
        from flyted.net import veth

        veth.run_calls()
    elif work == "router":
        from flyted.net import router

        router.run()
    else:
        from flyted.net import egress

        egress.run()
