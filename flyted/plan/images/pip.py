"""Checks the requirements and options of pip layers, by tables and one small grammar. Pure.

The build runs on the machine itself, with its network and next to other images. So only names, versions and web
addresses are allowed; what would read local files, another environment or the builder's variables is refused by name.
Sources: PEP 508, ``uv pip install --help`` (0.13), pip's requirements file format.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable
from flyted.plan.images.build_secrets import spelled

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_WEB = r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[!#%&'()*+,./0-9:;=?@A-Z_a-z~\[\]-]*)?"
_WORD = re.compile(r"[A-Za-z0-9:][A-Za-z0-9_.,:+=@ -]{0,127}")
_URL = re.compile(_WEB)
_HEAD = re.compile(rf"(?P<name>{_NAME})[ ]?(?:\[[A-Za-z0-9._, -]*\])?[ ]?(?P<rest>.*)")
_VERSION = re.compile(r"(?:===|==|~=|!=|<=|>=|<|>)[ ]?[A-Za-z0-9.*+!_-]+")
_MARKER = re.compile(r"[A-Za-z0-9_.\"'<>=!~() ,*+-]+")
_ADDRESS = re.compile(rf"(?:git\+)?{_WEB}")
_ARCHIVE = re.compile(r".*\.(?:whl|zip|tar|gz|bz2|xz|tgz|txt|toml|in|py)", re.IGNORECASE)
_HASH = re.compile(r" --hash[= ]")
_DIGEST = re.compile(r"sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})")
_CONTROL = re.compile(r"[^\x20-\x7e]")

# Options allowed in extra_args and requirements files → uv's spelling. None reads a local file or leaves the image.
_FLAGS = {
    "--pre": ("--prerelease", "allow"), "--no-deps": ("--no-deps",), "--no-build": ("--no-build",),
    "--no-index": ("--no-index",), "--upgrade": ("--upgrade",), "-U": ("--upgrade",), "--reinstall": ("--reinstall",),
    "--force-reinstall": ("--reinstall",), "--refresh": ("--refresh",), "--no-cache": ("--no-cache",),
    "--no-cache-dir": ("--no-cache",), "--require-hashes": ("--require-hashes",), "--strict": ("--strict",),
    "--no-build-isolation": ("--no-build-isolation",), "--no-sources": ("--no-sources",),
}  # fmt: skip
_WORDS = {
    "--prerelease": "--prerelease", "--resolution": "--resolution", "--index-strategy": "--index-strategy",
    "--fork-strategy": "--fork-strategy", "--exclude-newer": "--exclude-newer", "--torch-backend": "--torch-backend",
    "--only-binary": "--only-binary", "--no-binary": "--no-binary", "--upgrade-package": "--upgrade-package",
    "-P": "--upgrade-package", "--reinstall-package": "--reinstall-package", "--config-setting": "--config-setting",
    "-C": "--config-setting", "--no-build-isolation-package": "--no-build-isolation-package",
}  # fmt: skip
_URLS = {
    "--index-url": "--default-index", "-i": "--default-index", "--default-index": "--default-index",
    "--extra-index-url": "--index", "--index": "--index", "--find-links": "--find-links", "-f": "--find-links",
}  # fmt: skip


def requirement(text: object, where: str, secrets: Collection[str] = ()) -> str:
    """Return one requirement as uv is to read it. ``secrets``: the variables that an address in it may name.

    Raises :class:`InvalidInput` for a text that is not a requirement, :class:`Unsupported` for an option, a local file
    or a login in clear. The message shows the requirement without its login.
    """
    if not isinstance(text, str) or _CONTROL.search(text) or not text.strip() or len(text) > 4096:
        raise InvalidInput(
            f"{where}: {printable(text)} is not a requirement", hint="use a package name, such as 'fastapi'"
        )
    written, line = spelled(" ".join(text.split()), secrets, where)
    if line.startswith("-"):
        raise Unsupported(
            f"{where}: {printable(line)} is an option, not a package", hint="use extra_args= for options"
        )
    if _ADDRESS.fullmatch(line):
        return written
    if (_ARCHIVE.fullmatch(line) and "@" not in line) or not _is_pep508(line):
        raise _no_requirement(line, where)
    return written


def url(text: object, where: str, secrets: Collection[str] = ()) -> str:
    """Return the address of an index as uv is to read it. ``secrets``: the variables that it may name.

    Raises :class:`InvalidInput` for a text that is not an address, :class:`Unsupported` for a password in it.
    """
    if not isinstance(text, str) or len(text) > 2048:
        raise InvalidInput(f"{where}: the address of an index must be a string", hint="use https://…")
    written, plain = spelled(text, secrets, where)
    if _URL.fullmatch(plain) is None:
        raise InvalidInput(f"{where}: {printable(plain)} is not an address", hint="use https://…")
    return written


def options(words: Iterable[str], where: str, secrets: Collection[str] = ()) -> tuple[str, ...]:
    """Return options of pip or uv in uv's spelling.

    Raises :class:`Unsupported` for an option that is not in the tables above, :class:`InvalidInput` for a value that
    an option cannot have, either one for an address (see :func:`url`).
    """
    given: list[str] = []
    queue = iter(words)
    for word in queue:
        name, joined, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in _FLAGS and not joined:
            given.extend(_FLAGS[name])
        elif name in _WORDS:
            given.extend((_WORDS[name], _value(name, value if joined else next(queue, ""), where)))
        elif name in _URLS:
            given.extend((_URLS[name], url(value if joined else next(queue, ""), f"{where}, {name}", secrets)))
        else:
            allowed = ", ".join(sorted(n for n in {**_FLAGS, **_WORDS, **_URLS} if n.startswith("--")))
            raise Unsupported(f"{where}: option {_shown(name, where)} is not supported", hint=f"supported: {allowed}")
    return tuple(given)


def split_options(text: object, where: str) -> list[str]:
    """Return the words of ``extra_args``, as a shell would split them. Raises :class:`InvalidInput`."""
    if not isinstance(text, str) or _CONTROL.search(text):
        raise InvalidInput(f"{where}: extra_args must be one line of text")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"{where}: extra_args {_shown(text, where)}: {error}") from error


def requirements_file(text: str, where: str, secrets: Collection[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a requirements file as (requirements, options), without comments.

    Raises :class:`Unsupported` for an option that takes another file, and for a local path; else as
    :func:`requirement` and :func:`options` do.
    """
    lines: list[str] = []
    given: list[str] = []
    for line in _logical_lines(text):
        if line.startswith("-"):
            given.extend(options(_file_option(line, where), where, secrets))
            continue
        written, *digests = _HASH.split(line)
        hashes = "".join(f" --hash={_digest(each, where)}" for each in digests)
        lines.append(requirement(written, where, secrets) + hashes)
    return tuple(lines), tuple(given)


def _is_pep508(line: str) -> bool:
    """Report whether a line is a requirement by PEP 508, strictly and in linear time, since lines come from strangers.

    The line is split at the grammar's separators; no pattern has a nested repetition.
    """
    head = _HEAD.fullmatch(line)
    if head is None:
        return False
    rest, semicolon, marker = head["rest"].partition(" ;" if head["rest"].startswith("@") else ";")
    if semicolon and _MARKER.fullmatch(marker) is None:
        return False
    if rest.startswith("@"):  # PEP 508: a space must end the address before a marker
        return _ADDRESS.fullmatch(rest[1:].strip()) is not None
    versions = rest.strip()
    if versions.startswith("(") and versions.endswith(")"):
        versions = versions[1:-1]
    return not versions or all(_VERSION.fullmatch(part.strip()) for part in versions.split(","))


def _logical_lines(text: str) -> Iterator[str]:
    joined = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\\\n", " ").replace("\t", " ")
    for raw in joined.split("\n"):
        line = re.sub(r"(?:^|[ ])#.*", "", raw).strip()
        if line:
            yield " ".join(line.split())


def _digest(text: str, where: str) -> str:
    if _DIGEST.fullmatch(text) is None:
        raise InvalidInput(f"{where}: {_shown(text, where)} is not a hash", hint="use sha256:…, as pip hash prints it")
    return text


def _file_option(line: str, where: str) -> list[str]:
    words = line.split(" ")
    name = words[0].partition("=")[0]
    if found := re.match(r"-[rce]|--(?:requirement|constraint|editable)", name):
        raise Unsupported(
            f"{where}: '{found[0]}' takes another file, which the build does not have",
            hint="write all requirements into this one file",
        )
    return words


def _value(name: str, value: str, where: str) -> str:
    if _WORD.fullmatch(value) is None:
        raise InvalidInput(f"{where}: option {name} cannot have the value {_shown(value, where)}")
    return value


def _shown(text: str, where: str) -> str:
    """Return a text for a message: it may be anything, so also an address. Raises as :func:`spelled` does."""
    return printable(spelled(text, (), where)[1])


def _no_requirement(line: str, where: str) -> InvalidInput | Unsupported:
    local = line.startswith((".", "/", "~", "file:")) or "file:" in line or _ARCHIVE.fullmatch(line)
    if local:
        return Unsupported(
            f"{where}: {printable(line)} is a local file, which the build does not have",
            hint="publish it to an index, or bundle the code with include=",
        )
    return InvalidInput(
        f"{where}: {printable(line)} is not a requirement", hint="use PEP 508, for example 'fastapi>=0.115'"
    )
