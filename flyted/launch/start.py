"""What flyted hands over at a start: the app's variables and the rest of launch's command line, in one credential.

Neither is for other users of the machine, who can read every unit and every process's arguments.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import MutableMapping

from .refused import Refused

OPTION = "--start"
_AGAIN = "FLYTED_STARTED_AGAIN"
_READ_AT_START = re.compile(r"LD_.*|MALLOC_.*|GLIBC_TUNABLES|LC_.*|LANG|LANGUAGE|TZ")
"""Variables that the C library or Python have looked at before our first line."""


def words(argv: list[str], environ: MutableMapping[str, str]) -> list[str]:
    """The whole command line; sets the app's variables. Without ``--start`` it is ``argv``, and none is set.

    Starts this process anew where a variable would come too late. Raises ``Refused`` for a document that is missing or
    damaged.
    """
    if OPTION not in argv[:-1]:
        return argv
    place = argv.index(OPTION)
    environment, rest = _read(environ.get("CREDENTIALS_DIRECTORY", ""), argv[place + 1])
    late = any(environ.get(name) != value for name, value in environment.items() if _READ_AT_START.fullmatch(name))
    environ.update(environment)
    if environ.pop(_AGAIN, "") != _AGAIN and late:
        environ[_AGAIN] = _AGAIN  # once: Python itself changes some of them, LC_CTYPE=C for one (PEP 538)
        os.execv(sys.orig_argv[0], sys.orig_argv)  # noqa: S606
    return [*argv[:place], *argv[place + 2 :], *rest]


def _read(directory: str, credential: str) -> tuple[dict[str, str], list[str]]:
    try:
        with open(os.path.join(directory, credential), "rb") as file:
            content = json.loads(file.read())
        environment = {str(name): str(value) for name, value in content["environment"].items()}
        return environment, [str(word) for word in content["words"]]
    except OSError as error:
        raise Refused(f"credential {credential} (variables and arguments) did not arrive ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refused(f"credential {credential} (variables and arguments) is damaged") from None
