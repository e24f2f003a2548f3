"""Checks the Python environments that users give in place of an image."""

from __future__ import annotations

from pathlib import Path

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput
from flyted.plan.engines.shape import program_of
from flyted.plan.facts import ImageFact
from flyted.plan.images.entrypoint import no_program

_HOMES = ("/home/", "/root/", "/run/user/")


def check_program(spec: AppSpec) -> None:
    """Raise :class:`InvalidInput` for an environment without the program that the app runs."""
    if not spec.command:
        raise no_program(spec.key)
    name, package = program_of(spec)
    if name and not Path(spec.python_env, "bin", name).exists():
        raise InvalidInput(
            f"{spec.python_env} has no program {name}, which starts app '{spec.key}'",
            hint=f"/usr/lib/flyted/bin/uv --system-certs pip install --python {spec.python_env} {package}",
        )


def image(path: str) -> ImageFact:
    """Return an environment as an image. Raises :class:`InvalidInput` for one that no app could use."""
    if path.startswith(_HOMES):
        raise InvalidInput(
            f"apps cannot see home folders, so {path} cannot be their environment",
            hint=f"make one elsewhere: sudo python3 -m venv /opt/{Path(path).name}",
        )
    python = Path(path, "bin/python")
    if not python.exists():
        raise InvalidInput(f"{path} is not a Python environment that every user may read: no {python}")
    return ImageFact(path=path, note=f"environment {path}, as given")
