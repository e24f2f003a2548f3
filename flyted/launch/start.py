"""Reads the credential with the app's variables and the rest of launch's command line, which flyted hands over.

Neither is for other users of the machine, who can read every unit and every process's arguments.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import MutableMapping

from . import host
from .refused import Refused
from .words import ENVIRONMENT, START, WORDS

_AGAIN = "FLYTED_STARTED_AGAIN"
_READ_AT_START = re.compile(r"LD_.*|MALLOC_.*|GLIBC_TUNABLES|LC_.*|LANG|LANGUAGE|TZ")
"""Variables that the C library or Python read before launch's first line runs."""


def words(argv: list[str], environ: MutableMapping[str, str]) -> list[str]:
    """Set the app's variables, and return the whole command line.

    Without ``--start`` the command line is ``argv``, and no variable is set. If a variable would be set too late to
    take effect, restart this process by execve(2), unless the app will be another process anyway. Raise ``Refused``
    if the credential is missing or damaged.
    """
    if START not in argv[:-1]:
        return argv
    place = argv.index(START)
    environment, rest = _read(environ.get("CREDENTIALS_DIRECTORY", ""), argv[place + 1])
    late = any(environ.get(name) != value for name, value in environment.items() if _READ_AT_START.fullmatch(name))
    environ.update(environment)
    if environ.pop(_AGAIN, "") != _AGAIN and late and not host.runs_us():
        environ[_AGAIN] = _AGAIN  # only once: Python itself changes some of them, such as LC_CTYPE=C (PEP 538)
        os.execv(sys.orig_argv[0], sys.orig_argv)  # noqa: S606
    return [*argv[:place], *argv[place + 2 :], *rest]


def _read(directory: str, credential: str) -> tuple[dict[str, str], list[str]]:
    try:
        with open(os.path.join(directory, credential), "rb") as file:
            content = json.loads(file.read())
        environment = {str(name): str(value) for name, value in content[ENVIRONMENT].items()}
        return environment, [str(word) for word in content[WORDS]]
    except OSError as error:
        raise Refused(f"credential {credential} (variables and arguments) did not arrive ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refused(f"credential {credential} (variables and arguments) is damaged") from None
