"""Adds a hint to the app's log, once, when the app prints that a connection or a file was refused by its sandbox.

An app's loopback is its own, and some addresses are closed to apps (flyted/net/plan.py). The kernel refuses them,
and a reader of "connection refused" would look for a fault in the database. In a container a program may write
anywhere; here the system's folders are read-only. No call is watched for this: the line that the app prints about its
failure triggers the hint.
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
    b"flyted: an app can write in its working folder, in $HOME, in /tmp, and in VOLUMEs of its image; only the first "
    b"two outlive a deploy (flytectl(1), DATA)\n"
)
NOT_OWNED = (
    b"flyted: an app owns only what it makes itself, no VOLUME of its image: a program that changes the mode or owner "
    b"of its folder needs one below it or in $HOME, as PostgreSQL with PGDATA=/var/lib/postgresql/data/own "
    b"(flytectl(1), DATA)\n"
)
_LONGEST = 4096
_OWNER = (b"hange perm", b"hanging perm", b"hange owner", b"hanging owner", b"chmod", b"chown")
_NOT_PERMITTED = (b"peration not permitted", b"EPERM")
_RULES = (
    (LOOPBACK, _LOOPBACK, _REFUSED),
    (METADATA, _METADATA, _DENIED),
    (NOT_OWNED, _OWNER, _NOT_PERMITTED),
    (READ_ONLY, (b"/",), (b"ead-only file system", b"EROFS")),
)


class Closed:
    """The hints that were not given yet."""

    def __init__(self) -> None:
        self._rules = list(_RULES)

    def after(self, text: bytes) -> bytes:
        """Return the hints to print after these lines of the app.

        Return nothing if ``text`` ends within a line: a hint would split that line.
        """
        if not self._rules or not text.endswith(b"\n"):
            return b""
        said = [rule for rule in self._rules if _applies(text, where=rule[1], how=rule[2])]
        self._rules = [rule for rule in self._rules if rule not in said]
        return b"".join(hint for hint, _where, _how in said)


def _applies(text: bytes, *, where: tuple[bytes, ...], how: tuple[bytes, ...]) -> bool:
    """Report whether a line contains a word of ``where`` and one of ``how``.

    Most texts contain no word of ``how``, and are not split into lines.
    """
    if not any(word in text for word in how):
        return False
    lines = (line[:_LONGEST] for line in text.splitlines())
    return any(any(word in line for word in how) and any(word in line for word in where) for line in lines)
