"""Which Python imports the user's file.

``--python`` > the active virtual or conda environment > a "# /// script" block in the file (PEP 723, through
uv) > the environment that the app will run in (``--python-env``), if it has the SDK > the distribution's Python with
the SDK that came with flytectl.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flytectl import apart
from flyted.contract.errors import InvalidInput, UserCodeFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flytectl.identity import Identity

INSTALLED = Path(__file__).resolve().parent.parent  # /usr/lib/flyted
SYSTEM_PYTHON = Path("/usr/bin/python3")
SDK_VERSION = "2.12.1"
HEADER_ROOM = 64 * 1024  # bytes at the start of a file in which a script block is looked for
# The regular expression of PEP 723, for the type "script".
SCRIPT_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(?:^#(?:| .*)$\s)+)^# ///$")


@dataclass(frozen=True)
class Python:
    """A program to run; ``sdk`` is the SDK folder to put in front of its path; ``origin`` says why this one."""

    program: str
    origin: str
    sdk: Path | None = None

    def how_to_get_the_sdk(self, file: Path) -> str:
        """What to type when this Python has no Flyte SDK."""
        if self.origin == "script":
            return f'add "flyte=={SDK_VERSION}" to the dependencies in the script block of {file.name}'
        install = f"{self.program} -m pip install flyte=={SDK_VERSION}"
        if self.origin == "environment":
            return f"type: {install}; or leave the environment (deactivate) to use the SDK of flytectl"
        if self.origin == "option":
            return f"type: {install}; or leave --python out to use the SDK of flytectl"
        return "install the package flyted again: it brings the SDK; or choose a Python that has it: --python PATH"


@dataclass(frozen=True)
class Caller:
    """Who runs programs here, and with which environment."""

    identity: Identity | None
    environ: Mapping[str, str]

    def run(self, command: list[str], *, quiet: bool = False) -> tuple[int, bytes]:
        """Runs a helper as the user; its errors go to the terminal unless ``quiet``."""
        return apart.run(command, self.identity, self.environ, capture=True, quiet=quiet)


def choose(file: Path, asked: str | None, caller: Caller, runs_in: str = "") -> Python:
    """The Python for ``file``; ``runs_in``: the folder of ``--python-env``.

    Raises InvalidInput if uv is needed and missing, UserCodeFailed if uv refuses.
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
    """Whether the start of a file holds a PEP 723 ``script`` block."""
    return SCRIPT_BLOCK.search(head.decode("utf-8", "replace").replace("\r\n", "\n")) is not None


def _program(asked: str, environ: Mapping[str, str]) -> str:
    """``3.12`` and ``python3.12`` are looked up on the path; a folder is an environment."""
    if "/" in asked:
        path = Path(asked)  # not resolved: an environment's Python is a link, and must stay one
        return str(path.absolute() / "bin" / "python" if path.is_dir() else path.absolute())
    name = f"python{asked}" if asked[:1].isdigit() else asked
    return shutil.which(name, path=environ.get("PATH")) or name


def _active(environ: Mapping[str, str]) -> str | None:
    folder = environ.get("VIRTUAL_ENV")
    # conda activates "base" in every shell: nobody chose it for this file.
    if not folder and environ.get("CONDA_DEFAULT_ENV") not in {"base", "root"}:
        folder = environ.get("CONDA_PREFIX")
    return str(Path(folder, "bin", "python")) if folder else None


def _head(file: Path, caller: Caller) -> bytes:
    """The first bytes, read as the user: root opens nothing that a user names. Empty if it cannot be read."""
    if caller.identity is None:
        try:
            with file.open("rb") as stream:
                return stream.read(HEADER_ROOM)
        except OSError:
            return b""
    return caller.run(["/usr/bin/head", "-c", str(HEADER_ROOM), "--", str(file)], quiet=True)[1]


def _script_python(file: Path, caller: Caller) -> str:
    """Makes or updates the script's environment and gives its Python; without the network if nothing is new."""
    uv = _uv(caller.environ)
    # -I of our own Python keeps uv's variables; VIRTUAL_ENV is not set here.
    sync = [uv, "sync", "--script", str(file)]
    if caller.run([*sync, "--quiet", "--offline"], quiet=True)[0] != 0 and caller.run(sync)[0] != 0:
        raise UserCodeFailed(
            f"uv cannot make the environment that the script block of {file.name} asks for",
            hint=f"try it alone: uv sync --script {file}",
        )
    status, out = caller.run([uv, "python", "find", "--script", str(file)])
    program = out.decode("utf-8", "replace").strip()
    if status != 0 or not program:
        raise UserCodeFailed(
            f"uv does not say which Python serves the script block of {file.name}",
            hint=f"try it alone: uv python find --script {file}",
        )
    return program


def _uv(environ: Mapping[str, str]) -> str:
    ours = INSTALLED / "bin" / "uv"
    found = str(ours) if ours.is_file() else shutil.which("uv", path=environ.get("PATH"))
    if found is None:
        raise InvalidInput(
            "the file has a script block, and uv, which reads it, is not installed",
            hint="install uv, or choose a Python that has what the file needs: --python PATH",
        )
    return found


def bundled() -> Python:
    """The Python and the SDK that need no choice."""
    ours = INSTALLED / "sdk"
    if ours.is_dir():
        return Python(str(SYSTEM_PYTHON) if SYSTEM_PYTHON.exists() else sys.executable, "bundled", ours)
    # From pip: the SDK is an extra of the same environment.
    if importlib.util.find_spec("flyte") is not None:
        return Python(sys.executable, "own")
    return Python(str(SYSTEM_PYTHON), "bundled")
