"""Encodes unit properties for D-Bus, typed: the only way from flyted's values to systemd.

On Debian 12 a line feed in a D-Bus string is written raw into the transient unit file, where it becomes a line of its
own: root code execution at the next reload. So no string with a control character passes here, whatever property it
belongs to, and a property without a row in the table is an error, never dropped.

pystemd wants a flat list of (type, value) steps (sd_bus_message_append(3)). This module makes the list: pystemd's own
table lacks half of these rows, and its encoder truncates at NUL and does not look at types.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flyted.contract.errors import FlytedError
from flyted.contract.names import printable

Step = tuple[int, Any]
_CLOSE: Step = (-1, None)
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_CONTROL = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_NONCHARACTERS}]")
"""The characters that are refused. sd-bus itself refuses surrogates and noncharacters, but pystemd does not notice:
the string would just be left out."""
_EXEC_FLAGS = ["no-env-expand"]  # flags such as `privileged` would leave the sandbox
_UNSTABLE = re.compile(r"[$;]")
_STAGED = frozenset({"SystemCallFilter"})
"""Properties whose settings add up: of a list of values, each is sent as a setting of its own."""

SIGNATURES: dict[str, str] = {  # from dbus-{unit,service,socket,mount,execute,cgroup,kill}.c of systemd
    **dict.fromkeys(
        (
            "Description", "CollectMode", "Type", "NotifyAccess", "Restart", "OOMPolicy", "User", "Group", "KillMode",
            "Slice", "SyslogIdentifier", "StandardOutput", "StandardError", "ProtectSystem", "ProtectHome",
            "ProtectProc", "ProcSubset", "KeyringMode", "DevicePolicy", "SocketGroup", "SocketUser",
            "WorkingDirectory", "BindIPv6Only", "RootDirectory", "What", "Options",
        ),
        "s",
    ),
    **dict.fromkeys(
        (
            "DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateMounts", "PrivateDevices", "PrivateUsers",
            "PrivateIPC", "PrivateNetwork", "RemoveIPC", "ProtectKernelTunables", "ProtectKernelModules",
            "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname", "RestrictRealtime",
            "RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute", "RemoveOnStop", "RemainAfterExit",
            "AddRef", "FreeBind", "MountAPIVFS", "StopWhenUnneeded",
        ),
        "b",
    ),
    **dict.fromkeys(
        (
            "TimeoutStartUSec", "TimeoutStopUSec", "RestartUSec", "RuntimeMaxUSec", "StartLimitIntervalUSec",
            "TriggerLimitIntervalUSec",
            "MemoryMax", "MemorySwapMax", "CPUQuotaPerSecUSec", "CPUWeight", "IOWeight", "TasksMax", "LimitCORE",
            "LimitCORESoft", "LimitNOFILE", "LimitNOFILESoft", "CapabilityBoundingSet", "AmbientCapabilities",
            "RestrictNamespaces",
        ),
        "t",
    ),
    **dict.fromkeys(
        ("StartLimitBurst", "UMask", "StateDirectoryMode", "CacheDirectoryMode", "RuntimeDirectoryMode", "SocketMode",
         "DirectoryMode", "Backlog"),
        "u",
    ),
    **dict.fromkeys(("SystemCallErrorNumber", "OOMScoreAdjust", "LogLevelMax"), "i"),
    **dict.fromkeys(
        (
            "Environment", "StateDirectory", "CacheDirectory", "InaccessiblePaths", "ReadOnlyPaths", "ReadWritePaths",
            "SystemCallArchitectures", "Wants", "Upholds", "JoinsNamespaceOf", "Requires", "After",
            "RequiresMountsFor", "RuntimeDirectory", "SupplementaryGroups",
        ),
        "as",
    ),
    **dict.fromkeys(("SystemCallFilter", "RestrictAddressFamilies"), "(bas)"),
    **dict.fromkeys((
            "StandardInputFileDescriptor", "StandardOutputFileDescriptor", "StandardErrorFileDescriptor"
        ), "h"),
    **dict.fromkeys(("IPAddressAllow", "IPAddressDeny"), "a(iayu)"),
    **dict.fromkeys(("Listen", "LoadCredential", "LoadCredentialEncrypted", "TemporaryFileSystem", "DeviceAllow"),
                    "a(ss)"),
    **dict.fromkeys(("BindPaths", "BindReadOnlyPaths"), "a(ssbt)"),
    "SetCredential": "a(say)",
    "AppArmorProfile": "(bs)",
    "LogExtraFields": "aay",
    "LogRateLimitBurst": "u",
    "LogRateLimitIntervalUSec": "t",
    "RestartPreventExitStatus": "(aiai)",
    "ExecStartEx": "a(sasas)",
    "ExecStopEx": "a(sasas)",
}  # fmt: skip


def properties(mapping: Mapping[str, Any]) -> list[Step]:
    """Return the steps of an ``a(sv)`` with these properties.

    Raises :class:`FlytedError` for a property that is not in the table, a value of another type, a string with a
    control character, and a command that is not an absolute path or has other flags than ``no-env-expand``.
    """
    steps: list[Step] = [(ord("a"), b"(sv)")]
    for name, value in mapping.items():
        signature = SIGNATURES.get(name)
        if signature is None:
            raise FlytedError(f"unit property {printable(name)} has no known type")
        if name in ("ExecStartEx", "ExecStopEx"):
            plain = name.removesuffix("Ex")
            steps += _setting(plain, "a(sasb)", _commands(encode(signature, value, name) and value))
            continue
        stages = value if name in _STAGED and isinstance(value, list) else [value]
        for stage in stages:
            steps += _setting(name, signature, stage)
    return [*steps, _CLOSE]


def _setting(name: str, signature: str, value: Any) -> list[Step]:
    head = [(ord("r"), b"sv"), (ord("s"), name.encode()), (ord("v"), signature.encode())]
    return [*head, *encode(signature, value, name), _CLOSE, _CLOSE]


def _commands(commands: Any) -> list[tuple[str, list[str], bool]]:
    """Turn ``ExecStartEx`` without expansion into ``ExecStart`` with nothing to expand: the same to the process.

    ``ExecStopEx`` likewise.

    systemd 252 writes ``ExecStartEx=`` into the unit file and does not know it when it reads the file again: after any
    daemon-reload the unit would not start. And neither 252 nor 257 reads a ``$`` of ``ExecStart=`` back as it was, nor
    252 a ``;`` (measured). So :class:`FlytedError` is raised for a command with either, and for one that is not an
    absolute path or has other flags.
    """
    for path, argv, flags in commands:
        if not path.startswith("/") or not argv or argv[0] != path or flags != _EXEC_FLAGS:
            raise FlytedError(f"a command of a unit must be an absolute path, without a prefix: {printable(path)}")
        for word in argv:
            if _UNSTABLE.search(word):
                raise FlytedError(
                    f"an argument of a unit has a character that systemd would change: {printable(word)}"
                )
    return [(path, argv, False) for path, argv, _flags in commands]


def auxiliary(units: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Step]:
    """Return the steps of the ``a(sa(sv))`` at the end of ``StartTransientUnit``.

    Raises :class:`FlytedError` as :func:`properties`.
    """
    steps: list[Step] = [(ord("a"), b"(sa(sv))")]
    for name, mapping in units:
        steps += [(ord("r"), b"sa(sv)"), text(name), *properties(mapping), _CLOSE]
    return [*steps, _CLOSE]


def text(value: str) -> Step:
    """Return the step of one string argument of a call, or raise :class:`FlytedError` as :func:`encode`."""
    return encode("s", value, "argument")[0]


def texts(values: Iterable[str]) -> list[Step]:
    """Return the steps of one ``as`` argument of a call, or raise :class:`FlytedError` as :func:`encode`."""
    return encode("as", list(values), "argument")


def encode(signature: str, value: Any, what: str) -> list[Step]:
    """Return the steps of one value of a complete type; ``what`` names it in the error.

    Raises :class:`FlytedError` for a value of another type, and for a string with a control character.
    """
    if signature == "ay" and isinstance(value, str):
        value = _string(value, what)
    kind = signature[0]
    if kind == "a":
        if not isinstance(value, list | tuple | bytes):
            raise _wrong(what, signature, value)
        inner = signature[1:]
        steps = [step for item in value for step in encode(inner, item, what)]
        return [(ord("a"), inner.encode()), *steps, _CLOSE]
    if kind == "(":
        parts = list(split(signature[1:-1]))
        if not isinstance(value, tuple) or len(value) != len(parts):
            raise _wrong(what, signature, value)
        steps = [step for part, item in zip(parts, value, strict=True) for step in encode(part, item, what)]
        return [(ord("r"), signature[1:-1].encode()), *steps, _CLOSE]
    return [(ord(kind), _BASIC[kind](value, what))]


def split(signature: str) -> Iterator[str]:
    """Yield the complete types of a signature: ``sasas`` → ``s``, ``as``, ``as``."""
    start = 0
    while start < len(signature):
        end = _end(signature, start)
        yield signature[start:end]
        start = end


def _end(signature: str, start: int) -> int:
    if signature[start] == "a":
        return _end(signature, start + 1)
    if signature[start] != "(":
        return start + 1
    depth = 0
    for index in range(start, len(signature)):
        depth += {"(": 1, ")": -1}.get(signature[index], 0)
        if depth == 0:
            return index + 1
    raise ValueError(signature)


def _string(value: Any, what: str) -> bytes:
    if not isinstance(value, str):
        raise _wrong(what, "s", value)
    if _CONTROL.search(value):
        raise FlytedError(f"{what} of a unit contains a control character: {printable(value)}")
    return value.encode("utf-8")


def _boolean(value: Any, what: str) -> bool:
    if type(value) is not bool:
        raise _wrong(what, "b", value)
    return value


def _integer(code: str, layout: str) -> Callable[[Any, str], int]:
    def check(value: Any, what: str) -> int:
        if type(value) is not int:
            raise _wrong(what, code, value)
        try:
            struct.pack(layout, value)
        except struct.error as error:
            raise _wrong(what, code, value) from error
        return value

    return check


_BASIC: dict[str, Callable[[Any, str], Any]] = {
    "s": _string,
    "b": _boolean,
    "y": _integer("y", "=B"),
    "i": _integer("i", "=i"),
    "u": _integer("u", "=I"),
    "t": _integer("t", "=Q"),
    "h": _integer("h", "=I"),
}


def _wrong(what: str, signature: str, value: Any) -> FlytedError:
    return FlytedError(f"{what} of a unit is not of D-Bus type {signature}: {printable(value)}")
