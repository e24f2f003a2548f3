"""Frames of the control socket: four bytes of length (big-endian), then one msgpack map. Sans-I/O.

A request is ``{"v", "verb", "args"}``, on the api socket with ``"token"``; ``args["bulk"]`` announces that many
raw bytes after the frame (a secret's value is never part of the msgpack); ``args["bundles"]`` names, by SHA-256, the
files whose descriptors come with the frame, in this order; ``args["files"]`` says that one descriptor comes, of a file
to be read or written. An answer is any number of ``{"event": …}``, then one
``{"result": …}`` or ``{"error": {"code", "message", "hint"}}``.

Limits: an empty map is one byte on the wire and about 70 in Python, so 16 MiB of them became 1.1 GiB (measured); a
request of 64 KiB stays below 2 MiB. Answers come from root to a client that trusts it, and may be longer.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from flyted.contract.answers.codec import to_wire
from flyted.contract.bundles import checked
from flyted.contract.errors import FlytedError, InvalidInput, ProtocolMismatch, Unauthenticated, from_wire
from flyted.contract.version import PROTOCOL

REQUEST_LIMIT = 64 * 1024
TOKEN_LIMIT = 128
ANSWER_LIMIT = 16 * 1024 * 1024
BULK_LIMIT = 512 * 1024
HEAD = struct.Struct("!I")
_ITEMS = 4096
_TOO_LONG = (
    "requirements files and the Dockerfile of an image are a part of it: shorten them, or have with_commands() "
    "install from a file that with_source_file() copies"
)
_DEPTH = 32


@dataclass(frozen=True)
class Request:
    """A request whose form is checked. Whether its verb exists, and what its arguments are, is not checked yet."""

    verb: str
    args: dict[str, Any] = field(default_factory=dict)
    token: str = field(default="", repr=False)

    @property
    def bulk(self) -> int:
        """The number of raw bytes that follow the frame. Raises :class:`InvalidInput` if it is out of bounds."""
        size = self.args.get("bulk", 0)
        if type(size) is not int or not 0 <= size <= BULK_LIMIT:
            raise InvalidInput(f"a value is at most {BULK_LIMIT // 1024} KiB long")
        return size

    @property
    def bundles(self) -> tuple[str, ...]:
        """The SHA-256 of each file that comes with the frame. Raises :class:`InvalidInput` unless all are valid."""
        return checked(self.args.get("bundles", []))

    @property
    def files(self) -> int:
        """The number of files that come with the frame besides bundles, 0 or 1. Raises :class:`InvalidInput`."""
        number = self.args.get("files", 0)
        if type(number) is not int or number not in (0, 1):
            raise InvalidInput("a request carries one file, or none")
        return number


def encode(message: dict[str, Any], limit: int = ANSWER_LIMIT) -> bytes:
    """Return one frame; answers in the message become maps of their fields.

    Raise :class:`InvalidInput` if its body would be longer than ``limit`` bytes.
    """
    body: bytes = msgpack.packb(message, default=to_wire)
    if len(body) > limit:
        raise InvalidInput(f"the message is {len(body)} bytes long, the limit is {limit}")
    return HEAD.pack(len(body)) + body


def encode_request(
    verb: str,
    args: dict[str, Any],
    token: str = "",
    *,
    bulk: bytes | None = None,
    bundles: Sequence[str] | None = None,
    files: int = 0,
) -> bytes:
    """Return the frame of a request, which announces ``bulk``, ``files`` and the digests of ``bundles`` if it has any.

    Raise :class:`InvalidInput` for bundles as :func:`checked`, and for a body longer than ``REQUEST_LIMIT``.
    """
    credential = {"token": token} if token else {}
    announced: dict[str, Any] = {} if bulk is None else {"bulk": len(bulk)}
    if bundles is not None:
        announced["bundles"] = checked(list(bundles))
    if files:
        announced["files"] = files
    frame = encode({"v": PROTOCOL, "verb": verb, "args": {**args, **announced}, **credential})
    if len(frame) - HEAD.size > REQUEST_LIMIT:
        raise InvalidInput(
            f"the request is {len(frame) >> 10} KiB long, and flyted takes {REQUEST_LIMIT >> 10} KiB", hint=_TOO_LONG
        )
    return frame


def length(head: bytes, limit: int) -> int:
    """Return the body's length in bytes, as a frame's four bytes ``head`` announce it, before the body is read.

    Raise :class:`ProtocolMismatch` unless it is 1 to ``limit``.
    """
    (size,) = HEAD.unpack(head)
    if not 0 < size <= limit:
        raise ProtocolMismatch(f"a frame of {size} bytes is out of bounds (1 to {limit})")
    return int(size)


def decode(body: bytes, *, trusted: bool = False) -> dict[str, Any]:
    """Return the map in a frame's body. Raise :class:`ProtocolMismatch` for any other bytes, and nothing else.

    Maps and lists may have at most 4096 items each unless the sender is ``trusted``.
    """
    bound = len(body) if trusted else _ITEMS
    try:
        message = msgpack.unpackb(
            body, raw=False, strict_map_key=True, max_ext_len=0, max_array_len=bound, max_map_len=bound,
            max_str_len=len(body), max_bin_len=len(body),
        )  # fmt: skip
    except (ValueError, RecursionError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolMismatch(f"a frame is not valid msgpack: {type(error).__name__}") from error
    if not isinstance(message, dict) or not _plain(message, _DEPTH):
        raise ProtocolMismatch("a frame must hold one map of plain values")
    return message


def _plain(value: object, depth: int) -> bool:
    """Report whether a value has only maps, lists, texts, bytes, finite numbers, booleans and nil, not too deep."""
    if depth < 0:
        return False
    if isinstance(value, dict):
        return all(isinstance(k, str) and _plain(v, depth - 1) for k, v in value.items())
    if isinstance(value, list):
        return all(_plain(v, depth - 1) for v in value)
    if isinstance(value, float):
        return value - value == 0.0
    return value is None or isinstance(value, (str, bytes, int, bool))


def parse_request(message: dict[str, Any]) -> Request:
    """Read a request from a decoded frame.

    Raise :class:`ProtocolMismatch` for a map of another form, and for another version, with a hint on what to install.
    Raise :class:`Unauthenticated` for a text that is too long to be a token: it came from a stranger, through the
    gateway.
    """
    if message.get("v") != PROTOCOL:
        raise ProtocolMismatch(
            f"the daemon speaks protocol {PROTOCOL}, and the client does not",
            hint="install flytectl and flyted of the same version",
        )
    verb, args, token = message.get("verb"), message.get("args"), message.get("token", "")
    if set(message) - {"token"} != {"v", "verb", "args"} or not isinstance(verb, str) or not isinstance(args, dict):
        raise ProtocolMismatch("a request has exactly v, verb and args, and optionally a token")
    if not isinstance(token, str):
        raise ProtocolMismatch("a token must be a string")
    if len(token) > TOKEN_LIMIT:
        raise Unauthenticated("this is not a flyted token")
    return Request(verb, args, token)


def parse_answer(message: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return ``("event" | "result", data)`` of a daemon's frame, or raise the error that the frame reports.

    Raise :class:`ProtocolMismatch` if it is none of these.
    """
    error = message.get("error")
    if isinstance(error, dict):
        raise from_wire(str(error.get("code")), str(error.get("message")), str(error.get("hint", "")))
    for kind in ("event", "result"):
        data = message.get(kind)
        if isinstance(data, dict):
            return kind, data
    raise ProtocolMismatch("the daemon's answer is malformed", hint="install flytectl and flyted of the same version")


def error_frame(error: FlytedError) -> bytes:
    """Return the frame that reports an error."""
    return encode({"error": error.to_wire()})
