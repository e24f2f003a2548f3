"""Chooses the Python that imports the user's file.

``--python`` > the active virtual or conda environment > a "# /// script" block in the file (PEP 723, through
uv) > the environment in which the app will run (``--python-env``), if it has the SDK > the distribution's Python with
the SDK that came with flytectl.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flytectl import run_as
from flyted.contract.errors import InvalidInput, UserCodeFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flytectl.identity import Identity

INSTALLED = Path(__file__).resolve().parent.parent  # /usr/lib/flyted
UV = INSTALLED / "bin" / "uv"
SYSTEM_PYTHON = Path("/usr/bin/python3")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SDK_VERSION = "2.12.1"
HEADER_ROOM = 64 * 1024  # bytes at the start of a file that are searched for a script block
# The regular expression of PEP 723, for the type "script".
SCRIPT_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(?:^#(?:| .*)$\s)+)^# ///$")


@dataclass(frozen=True)
class Python:
    """A Python to run.

    ``sdk``: the SDK's folder, to be put first on its path. ``origin``: why it was chosen: "option", "environment",
    "script", "app", "bundled" or "own".
    """

    program: str
    origin: str
    sdk: Path | None = None


@dataclass(frozen=True)
class Caller:
    """The user, environment and working directory (None: that of this process) with which programs are run."""

    identity: Identity | None
    environ: Mapping[str, str]
    cwd: str | None = None

    def run(
        self, command: list[str], *, quiet: bool = False, more: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Run a helper as the user; return its exit status and standard output.

        Its errors go to standard error unless ``quiet``. ``more``: variables that the environment overrides. Raise
        OSError if it cannot be started.
        """
        environ = {**(more or {}), **self.environ}
        return run_as.run(command, self.identity, environ, capture=True, quiet=quiet, cwd=self.cwd)


def choose(file: Path, asked: str | None, caller: Caller, runs_in: str = "") -> Python:
    """Return the Python for ``file``. ``asked``: ``--python``. ``runs_in``: the folder of ``--python-env``.

    Raise InvalidInput if uv is needed and missing, UserCodeFailed if uv cannot make the environment.
    """
    if asked is not None:
        return Python(_program(asked, caller.environ), "option")
    active = _active(caller.environ)
    if active is not None:
        return Python(active, "environment")
    if has_script_block(_head(file, caller)):
        return Python(_script_python(file, caller), "script")
    return Python(f"{runs_in}/bin/python", "app") if runs_in else bundled()


def has_script_block(head: bytes) -> bool:
    """Report whether the start of a file contains a PEP 723 ``script`` block."""
    return SCRIPT_BLOCK.search(head.decode("utf-8", "replace").replace("\r\n", "\n")) is not None


def _program(asked: str, environ: Mapping[str, str]) -> str:
    """Return the program that ``--python`` means.

    ``3.12`` and ``python3.12`` are looked up on the path; a folder, ``.venv`` or ``env/``, is an environment.
    """
    path = Path(asked)  # not resolved: an environment's Python is a link, and must stay one
    is_environment = os.path.lexists(path / "bin" / "python")
    if "/" in asked or is_environment:
        return str(path.absolute() / "bin" / "python" if is_environment or path.is_dir() else path.absolute())
    name = f"python{asked}" if asked[:1].isdigit() else asked
    return shutil.which(name, path=environ.get("PATH")) or name


def _active(environ: Mapping[str, str]) -> str | None:
    folder = environ.get("VIRTUAL_ENV")
    # conda activates "base" in every shell, so it was not chosen for this file.
    if not folder and environ.get("CONDA_DEFAULT_ENV") not in {"base", "root"}:
        folder = environ.get("CONDA_PREFIX")
    return str(Path(folder, "bin", "python")) if folder else None


def _head(file: Path, caller: Caller) -> bytes:
    """Return the first bytes, read as the user, since root opens no path that a user names; b"" if unreadable."""
    if caller.identity is None:
        try:
            with file.open("rb") as stream:
                return stream.read(HEADER_ROOM)
        except OSError:
            return b""
    return caller.run(["/usr/bin/head", "-c", str(HEADER_ROOM), "--", str(file)], quiet=True)[1]


def _script_python(file: Path, caller: Caller) -> str:
    """Make or update the script's environment, and return its Python; without the network if nothing is new.

    uv's own answer says where the environment is. ``uv python find --script`` would not do: for
    ``requires-python = "==3.13"`` it ignores the environment that it made (its Python is a 3.13.5), and answers with
    the system's Python. Raise InvalidInput or UserCodeFailed as :func:`choose`.
    """
    uv = _uv(caller.environ)
    more = {"UV_SYSTEM_CERTS": "1"} if CERTIFICATES.exists() else {}  # for a company's own CA, as with images
    sync = [uv, "sync", "--script", str(file), "--output-format", "json"]
    status, out = caller.run([*sync, "--offline"], quiet=True, more=more)
    if status != 0:
        status, out = caller.run(sync, more=more)
    by_hand = shlex.join([uv, *(["--system-certs"] if more else []), "sync", "--script", str(file)])
    if status != 0:
        raise UserCodeFailed(
            f"uv cannot create the environment for the script block of {file.name}",
            hint=f"to reproduce it: {by_hand}",
        )
    program = program_of(out)
    if not program:
        raise UserCodeFailed(
            f"{uv} did not report the environment of {file.name}: it is older than 0.8",
            hint="uv self update",
        )
    return program


def program_of(answer: bytes) -> str:
    """Return the Python of the environment that ``uv sync --script --output-format json`` made; "" if not named."""
    try:
        return str(json.loads(answer)["sync"]["environment"]["python"]["path"])
    except (ValueError, LookupError, TypeError):
        return ""


def _uv(environ: Mapping[str, str]) -> str:
    found = str(UV) if UV.is_file() else shutil.which("uv", path=environ.get("PATH"))
    if found is None:
        raise InvalidInput(
            "the file has a script block, which needs uv, and uv is not installed",
            hint="install uv, or choose a Python with the file's packages: --python PATH",
        )
    return found


def bundled() -> Python:
    """Return the Python and SDK that are used if none was chosen."""
    ours = INSTALLED / "sdk"
    if ours.is_dir():
        return Python(str(SYSTEM_PYTHON) if SYSTEM_PYTHON.exists() else sys.executable, "bundled", ours)
    # From pip: the SDK is an extra of the same environment.
    if importlib.util.find_spec("flyte") is not None:
        return Python(sys.executable, "own")
    return Python(str(SYSTEM_PYTHON), "bundled")
