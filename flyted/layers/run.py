"""The step that runs a command of the user's in the image: RUN of a Dockerfile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from . import command, enter, kernel, overlay, users, view
from .bundle import copy
from .job import Job, Mount, Run

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECRETS = f"{view.TOOLS}/secrets"
_LOGIN = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_CTYPE")
_SYSTEMD = ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET")
_OF_THE_UNIT = {*_LOGIN, *_SYSTEMD, "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"}
"""Variables of the unit that are not the command's; the others are how this machine reaches the network."""


def run(job: Job, step: Run, bundles: Mapping[str, BinaryIO], secrets: Mapping[str, str], uv: str) -> None:
    """Run the command above the job's parents. The working folder is the one of all layers.

    ``bundles``: by digest. ``secrets``: values by credential. Raises :class:`Failed` and ``OSError``.
    """
    scratch = Path(job.layer, "scratch").absolute()
    sources = [_taken_out(mount, bundles[mount.folder], scratch / f"m{n}") for n, mount in enumerate(step.mounts)]
    caches = [scratch / f"c{n}" for n, _ in enumerate(step.caches)]
    for cache in caches:
        cache.mkdir(parents=True)
    overlay.own_tmp()
    shown = [(str(cache), path, True) for cache, path in zip(caches, step.caches, strict=True)]
    shown += [(source, each.target, each.writable) for source, each in zip(sources, step.mounts, strict=True)]
    places = [f"{path}/" if os.path.isdir(source) else path for source, path, _ in shown]
    overlay.stack(job.layer, job.parents, [*overlay.PLACES, *places])
    view.enter(uv)
    for source, path, writable in shown:
        inner = source.lstrip("/")
        kernel.bind(inner, view.place(path, folder=os.path.isdir(inner)), writable=writable)
    user = users.find(job.user)
    variables = _secrets(step, secrets, user)
    view.leave_machine()
    Path(job.cwd).mkdir(parents=True, exist_ok=True)
    enter.confine()
    command.run(step.argv, _environment(job, user) | variables, step.show, cwd=job.cwd, user=user)


def _taken_out(mount: Mount, bundle: BinaryIO, folder: Path) -> str:
    """Take a file or folder out of a bundle, in a process whose root is ``folder``; return where it lies."""
    folder.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        os._exit(enter.settled(lambda: _take_out(mount, bundle, folder)))
    if status := enter.status_of(child):
        os._exit(status)  # it has said why
    bundle.seek(0)  # for the next one; the child has moved the position
    return str(folder / "it")


def _take_out(mount: Mount, bundle: BinaryIO, folder: Path) -> int:
    os.chdir(folder)
    os.chroot(".")
    enter.confine()
    copy(bundle, mount.source, "/it", command.ROOT)
    return 0


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
