"""Images of the real SDK, described by the real loader, planned and made by flyted's units: every kind of layer."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from flytectl import load, pythons
from flyted.contract.errors import BuildFailed
from flyted.layers import view
from flyted.plan.images.from_spec import CREATE_USER
from flyted.plan.images.layer_unit import LAYERS
from flyted.plan.images.root import RootPlan, RootRecipe
from flyted.plan.images.spec import image_from_spec
from tests.flytectl.loading import caller, write
from tests.machine.kit import layers, pypi_flyte
from tests.machine.kit.layers import diff, listed, made_by, mounted, planned
from tests.machine.test_layers import owner
from tests.projects import uv_project

pytestmark = pytest.mark.usefixtures("base")

UV = "/usr/lib/flyted/bin/uv"
TRUST = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), view.SYSTEM_AUTHORITIES)
BEGIN = 'flyte.Image.from_base("debian").clone(name="n", extendable=True)'


def plan(folder: Path, image: str) -> RootPlan:
    """The plan of an image upon :func:`base`; what it copies is in flyted's store afterwards."""
    file = write(
        folder,
        "app.py",
        f"""
        import flyte, flyte.app
        from pathlib import Path
        from flyte._image import PythonWheels
        HERE = Path(__file__).parent
        env = flyte.app.AppEnvironment(name="app", args=["true"], image={image})
        """,
    )
    pypi_flyte.prepare()
    path = f"{Path(UV).parent}:{os.environ['PATH']}"  # the SDK asks uv for the parts of a project
    python = pythons.Python(str(pypi_flyte.PYTHON), "option")
    with load.run(file, python, caller(PATH=path, **TRUST), []) as loaded:
        (app,) = loaded.apps
        for fd in loaded.fds:
            layers.bundle((), packed=os.pread(fd, os.fstat(fd).st_size, 0))
        assert app.image is not None
        recipe = image_from_spec(app.image, app.image_files, app.image_folders, os.uname().machine)
    assert isinstance(recipe, RootRecipe)
    (stage,) = recipe.stages
    return planned(dataclasses.replace(recipe, stages=(dataclasses.replace(stage, base=layers.DEBIAN),)))


def build(made: RootPlan, credentials: dict[str, str] | None = None) -> None:
    """Make the layers that are not there."""
    for job in made.jobs:
        if not diff(job.id).exists():
            made_by(job, credentials=credentials if job.secrets else None)


def ran(made: RootPlan, script: str) -> list[str]:
    """What a command prints in the image, with its variables, as its user."""
    env, user = dict(made.config.env), made.config.user or "root"
    done = layers.make(
        layers.name("look"), made.layers, layers.shell(script), env=env, user=user, cwd=made.config.workdir or "/"
    )
    assert done.ok, done.text
    return done.lines


def lock(*command: str | Path) -> None:
    """Have uv lock a project."""
    subprocess.run([UV, *command], check=True, stdin=subprocess.DEVNULL, env={**os.environ, **TRUST})


def wheel(folder: Path) -> None:
    """A wheel of one module."""
    folder.mkdir()
    out, info = io.BytesIO(), "flyted_mine-1.dist-info"
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("mine.py", "WHO = 'a wheel'\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: flyted-mine\nVersion: 1\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"mine.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    (folder / "flyted_mine-1-py3-none-any.whl").write_bytes(out.getvalue())


def test_every_kind_of_layer_has_its_effect(tmp_path: Path) -> None:
    """Upon a Debian with its own Python: one image of all kinds but the projects, each looked at by what it does."""
    for name, text in {
        "r.txt": "iniconfig==2.0.0\n", "data/a.txt": "a\n", "data/deep/b.txt": "b\n", "data/no.log": "",
        ".dockerignore": "*.log\n",
    }.items():  # fmt: skip
        write(tmp_path, name, text)
    wheel(tmp_path / "dist")
    token = tmp_path / "token"
    token.write_text("CANARY-of-a-layer")
    made = plan(
        tmp_path,
        f"""{BEGIN}
        .with_dockerignore(HERE / ".dockerignore")
        .with_apt_packages("jq")
        .with_commands([{CREATE_USER!r}, "echo $GREETING >/said; test -n \\"$TOKEN\\""],
                       secret_mounts=flyte.Secret(key="t", as_env_var="TOKEN"))
        .with_env_vars({{"GREETING": "hello", "PATH": "/opt/mine/bin:$PATH"}})
        .with_commands(["echo $GREETING >/said-later"])
        .with_pip_packages("six==1.16.0")
        .with_requirements(HERE / "r.txt")
        .clone(addl_layer=PythonWheels(wheel_dir=HERE / "dist", package_name="flyted-mine"), name="n", extendable=True)
        .with_workdir("/root/work")
        .with_source_file(HERE / "data/a.txt")
        .with_source_folder(HERE / "data", "/srv")
        .with_code_bundle(copy_style="all", dst="/code")""",
    )
    build(made, {"b0": str(token)})
    with mounted(*made.layers) as root:
        assert (root / "usr/bin/jq").exists()
        assert [(root / each).read_text() for each in ("said", "said-later")] == ["\n", "hello\n"]
        assert (root / "root/work/a.txt").read_text() == "a\n"
        assert owner(root / "root/work/a.txt")[0] >= 1000
        assert sorted(listed(root / "srv/data" if (root / "srv/data").exists() else root / "srv")) == ["a.txt", "deep"]
        assert not (root / "code").exists()  # the SDK leaves it out: the code comes with each app
        for each in ("home/flyte", "root", "root/work"):
            assert (root / each).stat().st_mode & 0o001, each
        for each in ("root/.cache/uv", "var/cache/apt/archives", "run", "tmp"):
            assert not (root / each).exists() or not [
                p for p in listed(root / each) if p not in ("lock", "partial")
            ], each
    look = "import six, iniconfig, mine, sys; print(six.__version__, mine.WHO, sys.prefix)"
    lines = ran(made, f"id -un; pwd; echo $PATH; python -c '{look}'")
    assert lines[:2] == ["flyte", "/home/flyte"]
    assert lines[2].startswith("/opt/mine/bin:/opt/venv/bin:")
    assert lines[3] == "1.16.0 a wheel /opt/venv"
    found = subprocess.run(["grep", "-rl", "CANARY-of-a-layer", LAYERS], capture_output=True, check=False)
    assert found.stdout == b""


def test_a_uv_project(tmp_path: Path) -> None:
    """Its dependencies, and the project itself, by its lock."""
    write(tmp_path, "p/pyproject.toml", uv_project("ours"))
    write(tmp_path, "p/src/ours/__init__.py", "WHO = 'the project'\n")
    lock("lock", "--project", tmp_path / "p")
    only = plan(tmp_path, f'{BEGIN}.with_uv_project(HERE / "p/pyproject.toml")')
    build(only)
    assert ran(only, "python -c 'import six; print(six.__version__)'; ! python -c 'import ours' 2>/dev/null") == [
        "1.16.0"
    ]
    whole = plan(
        tmp_path, f'{BEGIN}.with_uv_project(HERE / "p/pyproject.toml", project_install_mode="install_project")'
    )
    build(whole)
    assert ran(whole, "python -c 'import six, ours; print(ours.WHO)'") == ["the project"]
    assert not diff(whole.layers[-1], "root/.flyte/ours/pyproject.toml").exists()


@pytest.mark.long
def test_a_poetry_project(tmp_path: Path) -> None:
    """By its lock, into the image's environment."""
    write(
        tmp_path,
        "p/pyproject.toml",
        """
        [project]
        name = "ours"
        version = "1"
        requires-python = ">=3.10"
        dependencies = ["six==1.16.0"]
        [tool.poetry]
        package-mode = false
        [[tool.poetry.source]]
        name = "simple"
        url = "https://pypi.org/simple/"
        priority = "primary"
        """,
    )
    lock("tool", "run", "poetry", "lock", "-C", tmp_path / "p")
    made = plan(
        tmp_path, f'{BEGIN}.with_poetry_project(HERE / "p/pyproject.toml", poetry_lock=HERE / "p/poetry.lock")'
    )
    build(made)
    assert ran(made, "python -c 'import six; print(six.__version__)'") == ["1.16.0"]


def test_a_step_that_fails_leaves_those_before_it(tmp_path: Path) -> None:
    """And is named, as flyted will name it."""
    made = plan(tmp_path, f'{BEGIN}.with_commands(["touch /first", "echo why >&2; exit 7"])')
    build(dataclasses.replace(made, jobs=made.jobs[:-1]))
    failed = layers.run(made.jobs[-1].job)
    assert isinstance(failed.failure, BuildFailed)
    assert "echo why >&2; exit 7: exited with status 7\n  why" in failed.failure.message
    assert diff(made.jobs[-2].id, "first").exists()
    assert not diff(made.jobs[-1].id).exists()
