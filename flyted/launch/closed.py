"""Says once in the app's log why something was refused that works outside: when the app's own words show it.

An app's loopback is its own, and some addresses are closed to apps (flyted/net/plan.py). The kernel refuses at once,
and whoever reads "connection refused" looks for a fault in the database. In a container a program may write
anywhere; here the system's folders are read-only. Nothing is watched for this: the line that the app prints about its
failure is what brings the hint on.
"""

from __future__ import annotations

_LOOPBACK = (b"127.0.0.1", b"localhost", b"::1")
_REFUSED = (b"refused", b"ECONNREFUSED", b"onnect to server")  # the last: curl and libcurl
_METADATA = (b"169.254.", b"metadata.google", b"fd00:ec2:", b"168.63.129.16", b"100.100.100.200")
_DENIED = (b"ermission denied", b"EACCES", b"unreachable", b"onnect to server")
LOOPBACK = (
    b"flyted: localhost is the app's own here; a service of this machine has to listen on an outer address of it "
    b"(flytectl(1), THE NETWORK OF AN APP)\n"
)
METADATA = (
    b"flyted: link-local addresses and metadata services are closed to apps (flytectl(1), THE NETWORK OF AN APP)\n"
)
READ_ONLY = (
    b"flyted: an app can write in its working folder, in $HOME and in /tmp; only the first two outlive a deploy "
    b"(flytectl(1), DATA)\n"
)
_LONGEST = 4096
_RULES = (
    (LOOPBACK, _LOOPBACK, _REFUSED),
    (METADATA, _METADATA, _DENIED),
    (READ_ONLY, (b"/",), (b"ead-only file system", b"EROFS")),
)


class Closed:
    """What is still to be said."""

    def __init__(self) -> None:
        self._rules = list(_RULES)

    def after(self, text: bytes) -> bytes:
        """Returns what to say after these lines of the app's; nothing after half a line, which it would break up."""
        if not self._rules or not text.endswith(b"\n"):
            return b""
        said = [rule for rule in self._rules if _applies(text, where=rule[1], how=rule[2])]
        self._rules = [rule for rule in self._rules if rule not in said]
        return b"".join(hint for hint, _where, _how in said)


def _applies(text: bytes, *, where: tuple[bytes, ...], how: tuple[bytes, ...]) -> bool:
    """Whether a line has a word of both. Most texts have none of ``how``, and are not taken apart."""
    if not any(word in text for word in how):
        return False
    lines = (line[:_LONGEST] for line in text.splitlines())
    return any(any(word in line for word in how) and any(word in line for word in where) for line in lines)
