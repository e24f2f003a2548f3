"""Imports a user's file in the user's Python, as the user, and returns the apps to serve.

The user's code runs in a process of its own, which writes its answer to two empty memory files. No path that it names
is opened here, and the bundle comes as bytes: if root opened paths for a user, it would read /root/… for them through
a symbolic link.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flytectl import identity, install, loaded, pythons, run_as
from flyted.contract.errors import InvalidInput, PackageMissing, SdkMissing, SdkUnfit, UserCodeFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flytectl.loaded import Loaded

LOADER = pythons.INSTALLED / "flytectl" / "loader"
TOO_OLD = 64  # the loader's exit status for a Python older than the SDK allows


def load(
    file: Path,
    *,
    environment: str | None = None,
    python: str | None = None,
    python_env: str = "",
    as_user: str | None = None,
    project: str = "default",
    domain: str = "development",
    root: Path | None = None,
    parameters: Sequence[str] = (),
) -> Loaded:
    """Return the apps of ``file``, dependencies first: all, or ``environment`` with its dependencies.

    ``environment``: the name of a variable or app. ``python``: a program, a version (``3.12``) or an environment's
    folder. ``python_env``: the environment in which the apps will run. ``root``: the folder at which the bundle
    starts; by default the working directory, or the file's folder if the file is not below that. ``parameters``:
    values for parameters of the apps, each as ``[APP:]NAME=VALUE``. The file's output
    goes to stderr, so that stdout is the command's own. Close the result.

    Raise UserCodeFailed (with the user's traceback), PackageMissing, SdkMissing, SdkUnfit, Unsupported, InvalidInput,
    or PermissionRefused.
    """
    become = identity.to_become(as_user, os.environ)
    environ = become.environment(os.environ) if become else dict(os.environ)
    caller = pythons.Caller(become, environ)
    if become and not _can_work_in(Path.cwd(), caller):  # as in /root: the SDK would fail to look for a config.yaml
        caller = replace(caller, cwd=str(file.absolute().parent))
    absolute = file.absolute()
    chosen = pythons.choose(absolute, python, caller, python_env)
    arguments = ["--project", project, "--domain", domain]
    if environment is not None:
        arguments += ["--env", environment]
    if root is not None:
        arguments += ["--root", str(root.absolute())]
    arguments += [f"--parameter={each}" for each in parameters]
    try:
        return run(absolute, chosen, caller, arguments)
    except SdkMissing:
        if chosen.origin != "app":  # only that Python was not chosen for the import
            raise
        return run(absolute, pythons.bundled(), caller, arguments)


def _can_work_in(folder: Path, caller: pythons.Caller) -> bool:
    """Report whether the user may read the folder: tested as the user, by its whole path."""
    test = ["/usr/bin/test", "-r", str(folder), "-a", "-x", str(folder)]
    return replace(caller, cwd="/").run(test, quiet=True)[0] == 0


def run(file: Path, python: pythons.Python, caller: pythons.Caller, arguments: list[str]) -> Loaded:
    """Run the loader once, and return its answer.

    Raise InvalidInput if ``python`` cannot be run or is too old, and otherwise as :func:`load`.
    """
    document = os.memfd_create("document", os.MFD_CLOEXEC)
    bundles = os.memfd_create("bundles", os.MFD_CLOEXEC)
    try:
        command = [python.program, str(LOADER), str(file)]
        command += ["--out-fd", str(document), "--bundles-fd", str(bundles), *arguments]
        if python.sdk is not None:
            command += ["--sdk", str(python.sdk)]
        status = _run(command, caller, (document, bundles))
        _check(status, os.fstat(document).st_size, file, python)
        return loaded.read(document, bundles)
    except (SdkMissing, SdkUnfit) as error:
        error.hint = "; ".join(filter(None, (error.hint, install.the_sdk(python, caller.environ, file))))
        raise
    except PackageMissing as error:
        error.hint = install.a_module(python, caller.environ, file, error.module)
        raise
    finally:
        os.close(document)
        os.close(bundles)


def _run(command: list[str], caller: pythons.Caller, fds: tuple[int, int]) -> int:
    """Run the loader, and return its exit status."""
    environ = dict(caller.environ) | {"DO_NOT_TRACK": "1", "FLYTE_DISABLE_TELEMETRY": "true"}
    try:
        return run_as.run(command, caller.identity, environ, pass_fds=fds, cwd=caller.cwd)[0]
    except OSError as error:
        raise InvalidInput(
            f"{command[0]} cannot be run: {error.strerror}",
            hint="choose another Python: --python PATH, or leave the environment (deactivate)",
        ) from error


def _check(status: int, size: int, file: Path, python: pythons.Python) -> None:
    if status == 0 and size:
        return
    if status == TOO_OLD and not size:
        raise InvalidInput(
            f"{python.program} is too old for the Flyte SDK", hint="choose Python 3.10 or newer: --python"
        )
    if status in {-signal.SIGINT, 128 + signal.SIGINT}:
        raise KeyboardInterrupt
    ending = f"was killed by {_signal_name(-status)}" if status < 0 else f"exited with status {status}"
    raise UserCodeFailed(
        f"{python.program} {ending} while importing {file.name}, without an answer",
        hint=f"to reproduce it: {python.program} {file}",
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names here
        return f"signal {number}"
