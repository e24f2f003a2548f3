"""Tries one file: ``python3 -m tests.real_apps.one FILE PYTHON``, in the file's folder; prints an outcome as JSON."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

from flytectl import load
from flytectl.loaded import Loaded, LoadedApp
from flyted.contract import code, gpu
from flyted.contract.app import AppSpec
from flyted.contract.endpoints import sources_of
from flyted.contract.errors import FlytedError, PackageMissing, UserCodeFailed
from flyted.contract.idl import asks_gpu, spec_of
from flyted.daemon.images.images import recipe_of
from flyted.plan import arguments
from flyted.plan.engines.check import check as check_engine
from flyted.plan.facts import Capacity, Platform, RootFact
from flyted.plan.images import root_check
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.root_spec import old_python
from flyted.plan.ingress import names
from flyted.plan.notes import notes
from tests.real_apps.words import GPU, NEEDS_VALUE, NO_APP, REFUSED, SERVED, VALUE, WRONG, Outcome

MACHINE = Capacity(memory_bytes=64 << 30, cpu_cores=16)
"""A machine with room: what a file asks for is not what is measured."""
STOOD_IN = "REAL_APPS_STAND_INS"
MOST = 12
"""Packages that are stood in for in one file."""
TASKS = re.compile(r"\bTaskEnvironment\b|\bRunOutput\b|\bArtifactValue\b|\bflyte\.run\b|\bprefetch\b|remote\.Task\b")


def outcome(file: Path, python: str) -> Outcome:
    """Load the file, with stand-ins for the packages that it lacks, and check its apps."""
    text = file.read_text(encoding="utf-8", errors="replace")
    missing: list[str] = []
    while True:
        os.environ[STOOD_IN] = " ".join(missing)
        try:
            with load.load(file, python=python) as loaded:
                return looked_at(loaded, text, missing)
        except PackageMissing as error:
            name = error.module.partition(".")[0]
            if name in missing or len(missing) == MOST:
                return Outcome(WRONG, [error.message], [], bool(TASKS.search(text)), missing)
            missing.append(name)
        except UserCodeFailed as error:
            kind = NO_APP if "no app" in error.message else WRONG
            last = error.traceback.strip().splitlines()[-1:] if error.traceback else []
            return Outcome(kind, [error.message, *last], [], bool(TASKS.search(text)), missing)
        except FlytedError as error:
            kind = VALUE if NEEDS_VALUE.search(error.message) else REFUSED
            return Outcome(kind, [told(error)], [], bool(TASKS.search(text)), missing)


def looked_at(loaded: Loaded, text: str, missing: list[str]) -> Outcome:
    found = Outcome(SERVED, [], [], bool(TASKS.search(text)), missing)
    if loaded.tasks:
        found.notes.append(f"tasks are not deployed: {', '.join(loaded.tasks)}")
    for app in loaded.apps:
        try:
            spec = described(app)
            checked(spec)
            found.notes += notes(spec, MACHINE)
        except FlytedError as error:
            found.kind = REFUSED
            found.why.append(told(error))
        found.uses_tasks = found.uses_tasks or any(map(TASKS.search, sources(app).values()))
    if any(asks_gpu(app.idl) for app in loaded.apps):
        found.kind = GPU
    return found


def described(app: LoadedApp) -> AppSpec:
    """As ``flytectl serve`` does; what asks for a GPU is looked at as if there were one."""
    spec = spec_of(
        app.idl, image=app.image, image_files=app.image_files, image_folders=app.image_folders,
        bundle=app.bundle_sha256, gpus=gpu.NONE if asks_gpu(app.idl) else None,
    )  # fmt: skip
    if app.bundle_fd is None:
        return spec
    os.lseek(app.bundle_fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(app.bundle_fd), "rb") as bundle:
        return code.looked_through(spec, bundle)


def checked(spec: AppSpec) -> None:
    """Raise what flyted would raise before it builds, but for what depends on the machine: its secrets, GPUs, disk."""
    names.check(spec, (), "apps.localhost", ())
    arguments.check(spec)
    check_engine(spec)
    if isinstance(recipe_of(spec.image), RootRecipe):
        root_check.check(spec, RootFact((), python="/unknown"), Platform())
        root_check.check_python(spec, old_python(spec.image["spec"]))


def sources(app: LoadedApp) -> dict[str, str]:
    if app.bundle_fd is None:
        return {}
    os.lseek(app.bundle_fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(app.bundle_fd), "rb") as bundle:
        return sources_of(bundle)


def told(error: FlytedError) -> str:
    return f"{error.message} (hint: {error.hint})" if error.hint else error.message


if __name__ == "__main__":
    print(json.dumps(asdict(outcome(Path(sys.argv[1]), sys.argv[2]))))
