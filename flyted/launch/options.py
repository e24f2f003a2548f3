"""Parses launch's own command line, which flyted writes."""

from __future__ import annotations

import re
from collections.abc import Callable

from . import words
from .refused import Refused

_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ENV_DENIED = re.compile(
    r"LD_.*|DYLD_.*|PYTHON.*|BASH_.*|LISTEN_.*|GCONV_PATH|PATH|HOME|IFS|ENV|SHELL|USER|LOGNAME|"
    r"CREDENTIALS_DIRECTORY|NOTIFY_SOCKET|WATCHDOG_.*|MAINPID|INVOCATION_ID|JOURNAL_STREAM|"
    r"(?:STATE|CACHE|RUNTIME|LOGS|CONFIGURATION)_DIRECTORY|_U_.*|_F_.*|FLYTED_.*"
)
"""flyted's own rule (contract/names.py) once more, as a second line of defence: flyted refuses these at a deploy."""
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Secret:
    """A credential, and the form in which the app gets it: as a variable (``kind`` "env") or a file ("file")."""

    __slots__ = ("credential", "kind", "name")

    def __init__(self, credential: str, kind: str, name: str) -> None:
        self.credential, self.kind, self.name = credential, kind, name


class Options:
    """The parsed command line.

    ``command``: the container's command as Flyte's SDK wrote it; of an fserve command, the words up to ``--``.
    ``args``: the words after ``--``, as templates with variables to be expanded (expand.py). ``shell``: a line for
    ``sh``, instead of words.
    """

    def __init__(self) -> None:
        self.app = ""
        self.bundle: str | None = None
        self.secrets: list[Secret] = []
        self.sums: str | None = None
        self.gpu: str | None = None
        self.port = 0
        self.server_port = 0
        self.h2c = False
        self.health = self.ready = ""
        self.sleep = 0
        self.secret_in_argv = self.egress = False
        self.calls: list[str] = []
        self.only_calls = ""
        self.secret_files = words.SECRET_FILES
        self.workdir = ""
        self.volumes: list[str] = []
        self.mounted: list[str] = []
        self.shell = ""
        self.command: list[str] = []
        self.args: list[str] = []


def parse(argv: list[str]) -> Options:
    """Parse the command line.

    Raise ``Refused`` for an unknown option, a missing or invalid value, a missing command, or a secret that may not
    have its name.
    """
    options = Options()
    rest = iter(argv)
    for word in rest:
        if word == words.QUOTED:
            given = list(rest)
            at = given.index("--") + 1 if given[:1] == ["fserve"] and "--" in given else len(given)
            options.command, options.args = [words.unquote(each) for each in given[:at]], given[at:]
            break
        value = next(rest, None)
        if value is None:
            raise Refused(f"launch: option {word} has no value")
        _set(options, word, value)
    if not options.app:
        raise Refused(f"launch: {words.APP} is missing")
    if not options.command:
        raise Refused(f"launch: no command after {words.QUOTED}")
    return options


def _set(options: Options, word: str, value: str) -> None:
    if word == words.SECRET:
        options.secrets.append(_secret(value, options.secrets))
    elif word == words.VOLUME:
        options.volumes.append(words.unquote(value))
    elif word == words.MOUNTED:
        options.mounted.append(words.unquote(value))
    elif word in _ROWS:
        name, take = _ROWS[word]
        setattr(options, name, take(value))
    else:
        raise Refused(f"launch: unknown option {word!a}")


def _port(value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 0 < int(value) < 65536:
        raise Refused(f"launch: {value!a} is not a TCP port")
    return int(value)


def _level(value: str) -> int:
    if value not in ("1", "2"):
        raise Refused(f"launch: {value!a} is not a sleep level of vLLM")
    return int(value)


def _credential(value: str) -> str:
    if _CREDENTIAL.fullmatch(value) is None:
        raise Refused(f"launch: {value!a} is not the name of a credential")
    return value


def _yes(value: str) -> bool:
    return value == words.YES


_ROWS: dict[str, tuple[str, Callable[[str], object]]] = {
    words.APP: ("app", str),
    words.BUNDLE: ("bundle", str),
    words.SUMS: ("sums", _credential),
    words.GPU: ("gpu", _credential),
    "--secret-files": ("secret_files", str),  # elsewhere in tests only
    words.PORT: ("port", _port),
    words.HEALTH: ("health", str),
    words.READY: ("ready", words.unquote),
    words.SERVER_PORT: ("server_port", _port),
    words.H2C: ("h2c", _yes),
    words.SLEEP: ("sleep", _level),
    words.SECRET_IN_ARGV: ("secret_in_argv", _yes),
    words.EGRESS: ("egress", _yes),
    words.CALLS: ("calls", lambda value: value.split(",")),
    words.ONLY_CALLS: ("only_calls", str),
    words.WORKDIR: ("workdir", words.unquote),
    words.SHELL: ("shell", words.unquote),
}


def _secret(value: str, known: list[Secret]) -> Secret:
    credential, _, target = value.partition("=")
    kind, _, name = target.partition(":")
    _credential(credential)
    if kind == words.ENV:
        check_variable(name, "a secret")
    elif kind == words.FILE:
        if _FILE.fullmatch(name) is None or ".." in name:
            raise Refused(f"a secret may not be a file named {name!a}")
    else:
        raise Refused(f"launch: --secret {value!a} is neither env: nor file:")
    if any((other.kind, other.name) == (kind, name) for other in known):
        raise Refused(f"two secrets set the same {kind} {name}")
    return Secret(credential, kind, name)


def check_variable(name: str, owner: str) -> str:
    """Return ``name``, the name of a variable that ``owner`` may set for the app.

    Raise ``Refused`` if it is no valid name, or if the variable would change what runs.
    """
    if _ENV.fullmatch(name) is None or _ENV_DENIED.fullmatch(name):
        raise Refused(f"{owner} may not set the variable {name!a}")
    return name
