"""Makes the layer of a step that runs a command of the user's in the image: RUN of a Dockerfile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from . import command, enter, kernel, overlay, users, view
from .command_mounts import CommandMount, prepared
from .failed import Failed
from .job import Job, Run
from .words import EX_STEP, PATH

_SECRETS = f"{view.TOOLS}/secrets"
_LOGIN = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_CTYPE")
_SYSTEMD = ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET")
_OF_THE_UNIT = {*_LOGIN, *_SYSTEMD, "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"}
"""Variables of the unit that are not the command's; the others are how this machine reaches the network."""


def run(job: Job, step: Run, bundles: Mapping[str, BinaryIO], secrets: Mapping[str, str], uv: str) -> None:
    """Run the command above the job's parents. The working folder is the one of all layers.

    ``bundles``: by digest. ``secrets``: values by credential. Raises :class:`Failed` and ``OSError``.
    """
    overlay.own_tmp()
    shown = prepared(step, bundles, Path(job.layer, "scratch").absolute())
    places = [f"{each.target}/" if each.folder else each.target for each in shown]
    places += [each.file for each in step.secrets if each.file]
    overlay.stack(job.layer, job.parents, [*overlay.PLACES, *places])
    view.enter(uv)
    for each in shown:
        _show(each)
    user = users.find(job.user)
    variables = _secrets(step, secrets, user)
    view.leave_machine()
    Path(job.cwd).mkdir(parents=True, exist_ok=True)
    enter.confine()
    command.run(step.argv, _environment(job, user) | variables, step.show, cwd=job.cwd, user=user)


def _show(shown: CommandMount) -> None:
    try:
        target = view.place(shown.target, folder=shown.folder)
        if shown.source:
            kernel.bind(shown.source.lstrip("/"), target, writable=shown.writable)
        else:
            kernel.mount("tmpfs", target, "tmpfs", kernel.NOSUID | kernel.NODEV, "mode=1777")
    except OSError as error:
        raise Failed(EX_STEP, f"nothing can be mounted on {shown.target} of the image: {error.strerror}") from error


def _environment(job: Job, user: users.Owner) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if name not in _OF_THE_UNIT}
    path = f"{job.env.get('PATH', PATH)}:{view.BIN}"
    return {"HOME": user.home, **given, **view.tools_environment(), **job.env, "PATH": path}


def _secrets(step: Run, values: Mapping[str, str], user: users.Owner) -> dict[str, str]:
    """Put secret files in place, in memory, readable for the command's user only; return the secret variables."""
    for number, secret in enumerate(each for each in step.secrets if each.file):
        source = Path(view.place(f"{_SECRETS}/{number}", folder=False))
        source.chmod(0o400)
        source.write_text(values[secret.credential], "utf-8")
        os.chown(source, user.uid, user.gid)
        kernel.bind(str(source), view.place(secret.file, folder=False))
    return {secret.env: values[secret.credential] for secret in step.secrets if secret.env}
