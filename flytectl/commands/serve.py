"""``flytectl serve FILE [ENV]``: import the file as the user, describe its apps, and send them to the daemon."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from flytectl.complete import complete_volume
from flytectl.options import app_scope, as_json, out, say

if TYPE_CHECKING:
    from pathlib import Path

    from flytectl.loaded import LoadedApp
    from flyted.contract.answers.apps import Deployed
    from flyted.contract.app import AppSpec
    from flyted.contract.gpu import Ask


@click.command()
@click.argument("file", type=click.Path(readable=False))
@click.argument("environment", metavar="[ENV]", required=False)
@click.option(
    "--python", metavar="PYTHON", help="Import FILE with this Python: a program, a version or an environment folder."
)
@click.option("--as", "as_user", metavar="USER", help="As root: import FILE as USER.")
@click.option(
    "--python-env",
    type=click.Path(readable=False),
    metavar="DIR",
    help="Run in this existing environment instead of building an image.",
)
@click.option(
    "--root-dir",
    type=click.Path(readable=False),
    metavar="DIR",
    help="Root folder of the code to send [.].",
)
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="[APP:]NAME=VALUE",
    help="Give a parameter of the app this value: a text, or the path or address of a file or folder. Repeatable.",
)
@click.option("--gpu", "gpu_flag", metavar="GPU", help="Use these GPUs instead: any, NAME or NAME:N.")
@click.option("--cpu", is_flag=True, help="Run without a GPU, even if FILE requests one.")
@click.option("--no-egress", is_flag=True, help="Forbid the app connections to other machines.")
@click.option(
    "--allow-secret-in-argv",
    is_flag=True,
    help="Allow secrets in a program's arguments, which all users can read.",
)
@click.option(
    "--open-path",
    "open_paths",
    multiple=True,
    metavar="PATH",
    help="Open PATH, which the API key of vLLM, SGLang or llama.cpp does not protect. Repeatable; / opens all.",
)
@click.option(
    "--idle",
    metavar="STEP",
    shell_complete=lambda _ctx, _param, typed: [
        word for word in ("freeze", "stop", "sleep", "sleep:2") if word.startswith(typed)
    ],
    help="What an idle app does: stop, freeze, or, for vLLM, sleep or sleep:2, which free its GPU memory.",
)
@click.option(
    "--ready-path",
    metavar="PATH",
    help="Path whose answer, below 500 and not 404, means that the app is ready [any answer on its port].",
)
@click.option("--start-timeout", metavar="TIME", help="Time limit of a start: 90, 90s, 20m, 1h [5m].")
@click.option("--sticky", is_flag=True, help="Send a browser to the same replica again, of several, by a cookie.")
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    metavar="NAME:/PATH[:ro]",
    shell_complete=complete_volume,
    help="Show the app the volume NAME at /PATH. Repeatable; see 'volume ls'.",
)
@click.option(
    "--may-call",
    multiple=True,
    metavar="APP",
    help="Let the app call APP, at http://APP.apps.internal. Repeatable; FILE's depends_on counts anyway.",
)
@click.option("--rate", metavar="RATE", help="Requests that one client may send: 50/s, 30/m [the machine's limit].")
@app_scope
@click.option("-q", "--quiet", is_flag=True, help="Print only the URL.")
@as_json
def serve(
    file: str, environment: str | None, python: str | None, as_user: str | None, python_env: str | None,
    root_dir: str | None, parameters: tuple[str, ...], gpu_flag: str | None, open_paths: tuple[str, ...],
    idle: str | None, ready_path: str | None, start_timeout: str | None, may_call: tuple[str, ...], rate: str | None,
    volumes: tuple[str, ...], project: str, domain: str, *, cpu: bool, no_egress: bool, allow_secret_in_argv: bool,
    sticky: bool, quiet: bool, json_: bool,
) -> None:  # fmt: skip
    """Serve the apps of FILE.

    All its environments, dependencies first, or the one named ENV with what it depends on. Progress goes to standard
    error; the URL is the last line of standard output.
    """
    from dataclasses import replace
    from pathlib import Path

    from flytectl.daemon import require_same_version
    from flytectl.load import load
    from flyted.contract.idl import asks_gpu, may_have_several, runs_sleeper, spec_of
    from flyted.contract.volumes import of_flag

    path = existing(Path(file), "flytectl serve {} [ENV]")
    env_folder = _environment_folder(python_env)
    given, start_s = _gpus(gpu_flag, cpu=cpu), _seconds(start_timeout)
    level, step = _idle(idle)
    requests_per_s = _requests_per_s(rate)
    given_volumes = tuple(map(of_flag, volumes))
    require_same_version()
    with load(
        path, environment=environment, python=python, python_env=env_folder, as_user=as_user, project=project,
        domain=domain, root=Path(root_dir) if root_dir else None, parameters=parameters,
    ) as loaded:  # fmt: skip
        asking = [app for app in loaded.apps if asks_gpu(app.idl)] or loaded.apps
        sleeping = [app for app in loaded.apps if runs_sleeper(app.idl)] or loaded.apps
        several = [app for app in loaded.apps if may_have_several(app.idl)] or loaded.apps
        specs = [
            spec_of(
                app.idl, image=app.image, image_files=app.image_files, image_folders=app.image_folders,
                bundle=app.bundle_sha256, python_env=env_folder, egress=not no_egress,
                secret_in_argv=allow_secret_in_argv, open_paths=open_paths, project=project, domain=domain,
                gpus=given if app in asking else None, engine_sleep=level if app in sleeping else 0,
                ready_path=ready_path or "", start_timeout_s=start_s, requests_per_s=requests_per_s,
                sticky=sticky and app in several,
                calls=(*app.depends_on, *(may_call if environment in (None, app.variable, app.name) else ())),
            )
            for app in loaded.apps
        ]  # fmt: skip
        specs = [replace(spec, volumes=given_volumes, idle=step) for spec in specs]
        specs = [_looked_through(*pair) for pair in zip(loaded.apps, specs, strict=True)]
        if loaded.tasks and not quiet:
            say(_tasks(loaded.tasks))
        _check_all(specs)
        _serve_all(loaded.apps, specs, quiet=quiet, json_=json_)


def _gpus(flag: str | None, *, cpu: bool) -> Ask | None:
    """Read ``--gpu`` and ``--cpu``, for the apps that ask for a GPU (for all, if none does); ``None`` without both.

    Raise UsageError for both, InvalidInput for an invalid ``--gpu``.
    """
    from flyted.contract import gpu

    if flag is not None and cpu:
        raise click.UsageError("give either --gpu or --cpu, not both")
    if cpu:
        return gpu.NONE
    return gpu.of_flag(flag) if flag is not None else None


def _idle(step: str | None) -> tuple[int, str]:
    """Read ``--idle``: return vLLM's sleep level, 0 for none, and what apps do whose engine does not sleep.

    A level is for the apps whose engine can sleep (for all, if none can: the daemon refuses them). Raise UsageError
    for another word.
    """
    levels = {"sleep": 1, "sleep:1": 1, "sleep:2": 2}
    if step not in (None, "freeze", "stop", *levels):
        raise click.UsageError(f"--idle {step}: give freeze, stop, sleep or sleep:2")
    return (levels[step], "") if step in levels else (0, step or "")


def _looked_through(app: LoadedApp, spec: AppSpec) -> AppSpec:
    """Check the app's code: refuse what only the code shows, and add notes on what may fail to the spec."""
    from flyted.contract import code

    if app.bundle_fd is None:
        return spec
    os.lseek(app.bundle_fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(app.bundle_fd), "rb") as bundle:
        return code.looked_through(spec, bundle, known=True)


def _tasks(names: tuple[str, ...]) -> str:
    from flytectl.render import safe
    from flyted.contract.errors import NOT_HERE

    shown = ", ".join(safe(name) for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    what = f"task {shown} is" if len(names) == 1 else f"tasks {shown} are"
    return f"note: {what} not deployed: {NOT_HERE}"


def _seconds(text: str | None) -> float:
    """Read ``--start-timeout``; return seconds, 0 without one. Raise UsageError for another form."""
    import re

    if text is None:
        return 0.0
    found = re.fullmatch(r"(\d{1,5})(s|m|h|)", text, re.ASCII)
    if found is None:
        raise click.UsageError(f"--start-timeout {text}: give seconds, or a time such as 20m or 1h")
    return float(int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]])


def _requests_per_s(text: str | None) -> float:
    """Read ``--rate``; return requests a second, 0 without one. Raise UsageError for another form."""
    import re

    if text is None:
        return 0.0
    found = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?)/(s|m)", text, re.ASCII)
    if found is None or not float(found[1]):
        raise click.UsageError(f"--rate {text}: give requests a second or a minute, such as 50/s or 30/m")
    return float(found[1]) / {"s": 1, "m": 60}[found[2]]


def _check_all(specs: list[AppSpec]) -> None:
    """Let the daemon check every app before the first is sent; raise its error.

    So a file of which one app is refused changes nothing.
    """
    from flytectl.daemon import call
    from flyted.contract.answers.machine import Done
    from flyted.contract.app import to_dict
    from flyted.contract.errors import FlytedError

    for spec in specs[1:]:  # the first one is checked when it is served, with nothing before it
        try:
            call(Done, "app.check", {"spec": to_dict(spec)})
        except FlytedError as error:
            error.message += "; no app of the file is served"
            raise


def _serve_all(apps: tuple[LoadedApp, ...], specs: list[AppSpec], *, quiet: bool, json_: bool) -> None:
    """Serve one app after the other, and print the URL of each, or JSON at the end.

    Raise the error of the first that fails, with the names of the apps that are not served because of it.
    """
    from flytectl import render
    from flytectl.each import listed
    from flyted.contract.errors import FlytedError

    with listed("apps", as_json=json_) as served:
        for app, spec in zip(apps, specs, strict=True):
            try:
                deployed = _serve(app, spec, quiet=quiet)
            except FlytedError as error:
                left = [other.name for other in apps[len(served) + 1 :]]
                if left:
                    error.message += f"; not served because of that: {', '.join(left)}"
                raise
            served.append({**render.plain(deployed.app), "changed": deployed.changed})
            if not json_:
                out(render.safe(deployed.app.url))


def _serve(app: LoadedApp, spec: AppSpec, *, quiet: bool) -> Deployed:
    """Send one app to the daemon, and show the progress; return the app as it is then.

    The daemon copies none of the bundles that it has.
    """
    from flytectl import render
    from flytectl.daemon import call, show
    from flyted.contract.answers.apps import Deployed
    from flyted.contract.app import to_dict

    shown = None if quiet else show
    sent = {digest: fd for digest, fd in app.bundles.items() if digest in spec.bundles}
    deployed = call(Deployed, "app.serve", {"spec": to_dict(spec)}, bundles=sent, on_event=shown)
    if not quiet:
        revision = f"revision {deployed.app.revision}"
        said = f"{revision} is live" if deployed.changed else f"unchanged, {revision} is live"
        say(f"{render.safe(spec.key)}: {said}")
        if deployed.app.requires_auth:
            say("It requires a token. In a browser: flytectl login. From a shell:")
            say(f'  curl -H "Authorization: Bearer $(flytectl token)" {render.safe(deployed.app.url)}')
    return deployed


def existing(path: Path, usage: str) -> Path:
    """Return ``path``. Raise NotFound if there is no file, InvalidInput if it is a folder.

    The file is not opened here: only the user's Python opens it. ``usage``: the command, with ``{}`` for a file.
    """
    import stat

    from flyted.contract.errors import InvalidInput, NotFound

    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise NotFound(f"there is no file {path}: {error.strerror}", hint=usage.format("FILE")) from error
    if stat.S_ISDIR(mode):
        raise InvalidInput(f"{path} is a folder, not a Python file", hint=usage.format(f"{path}/app.py"))
    return path


def _environment_folder(python_env: str | None) -> str:
    from pathlib import Path

    from flytectl.install import shown_uv
    from flyted.contract.errors import NotFound

    if python_env is None:
        return ""
    folder = Path(os.path.normpath(Path(python_env).absolute()))  # not resolved: DIR may be a link on purpose
    try:
        (folder / "bin/python").stat()
    except OSError as error:
        raise NotFound(
            f"{python_env} is not a Python environment: bin/python: {error.strerror}",
            hint=f"{shown_uv(os.environ)} venv {python_env}",
        ) from error
    return str(folder)
