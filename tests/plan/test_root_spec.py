"""ImageSpecs that the real SDK writes, to layers: the commands, variables and mounts of its own builder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.plan.images.from_spec import CREATE_USER
from flyted.plan.images.layers import plan_of, references
from flyted.plan.images.recipe import Recipe
from flyted.plan.images.root import ImageConfig, RootPlan, RootRecipe
from flyted.plan.images.spec import image_from_spec, recipe_from_spec
from tests.plan.image_specs import BASE, packages, spec
from tests.plan.roots import ARCH, NOTHING, WITH_UV, made, planned, taken

pytestmark = pytest.mark.slow

flyte = pytest.importorskip("flyte")

FLYTES = ImageConfig(
    env=(("PATH", "/opt/venv/bin:/usr/bin"), ("VIRTUAL_ENV", "/opt/venv")), user="flyte", workdir="/home/flyte"
)


def written(image: Any, folder: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """What the SDK's remote builder describes, the texts, and a digest for each path below the context."""
    from flyte._internal.imagebuild.remote_builder import _get_layers_proto
    from google.protobuf.json_format import MessageToDict

    folder.mkdir(exist_ok=True)
    described = MessageToDict(_get_layers_proto(image, folder))
    places = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))]
    texts = {place: (folder / place).read_text() for place in places if place.endswith(".txt")}
    return described, texts, {place: f"{number:064x}" for number, place in enumerate(places)}


def root(image: Any, folder: Path) -> RootRecipe:
    described, texts, folders = written(image, folder / "context")
    recipe = image_from_spec(described, texts, folders, ARCH)
    assert isinstance(recipe, RootRecipe)
    return recipe


def plan(image: Any, folder: Path, config: ImageConfig = FLYTES) -> RootPlan:
    return planned(root(image, folder), config)


def debian(**options: Any) -> Any:
    return flyte.Image.from_debian_base(python_version=(3, 12), flyte_version="2.12.1", **options)


def commands(found: RootPlan) -> list[str]:
    """The commands of the layers themselves, without those by which the template begins."""
    return [step["argv"][-1] for step in made(found, "run")][1:]


def dockerfile(image: Any, folder: Path) -> list[str]:
    """The RUN lines that the SDK's own local builder would write for an image's layers, without their mounts."""
    import asyncio

    from flyte._internal.imagebuild.docker_builder import _process_layer

    text = ""
    for layer in image._layers:
        text = asyncio.run(_process_layer(layer, folder, text))
    joined = re.sub(r"\\\n\s*", " ", text)
    runs = [line.removeprefix("RUN ").strip() for line in joined.split("\n") if line.startswith("RUN ")]
    return [re.sub(r"\s+", " ", re.sub(r"--mount=\S+", "", line)).strip() for line in runs]


def test_a_venv_stays_a_venv():
    """Root images allowed or not: the same recipe, to the last field."""
    for layers in ((), (packages("six"),), ({"env": {"envVariables": {"A": "b"}}},)):
        one = image_from_spec(spec(*layers), {}, {}, ARCH)
        assert isinstance(one, Recipe)
        assert one == recipe_from_spec(spec(*layers))


def test_what_a_venv_cannot_do_is_a_root_image(tmp_path):
    """Upon any base, of whatever is a kind of layer."""
    for image in (debian(), debian(install_flyte=False, name="x")):
        described, texts, folders = written(image.with_apt_packages("git"), tmp_path)
        for base in (described["baseImage"], "nginx"):
            found = image_from_spec({**described, "baseImage": base}, texts, folders, ARCH)
            assert isinstance(found, RootRecipe)
    with pytest.raises(Unsupported, match="layer 1 of the image: 'newKind' is not known"):
        image_from_spec(spec({"newKind": {}}), {}, {}, ARCH)


@pytest.mark.parametrize("name", ["--index-url=http://x", "a b", "../x", "pkg `id`", ""])
def test_a_wheel_of_a_bad_name_is_refused(name):
    """It becomes a word of uv's command."""
    layer = {"pythonWheels": {"dir": "dist", "packageName": name}}
    with pytest.raises((InvalidInput, Unsupported), match="layer 1 of the image"):
        image_from_spec(spec(layer), {}, {"dist": "1" * 64}, ARCH)


@pytest.mark.parametrize(
    ("layer", "missing"),
    [
        ({"copyConfig": {"src": "none", "dst": "/"}}, "'none' was not sent"),
        ({"copyConfig": {"src": "dist/../../x", "dst": "/"}}, "leads out of"),
        ({"pythonWheels": {"dir": "none", "packageName": "pkg"}}, "'none' was not sent"),
        ({"uvProject": {"pyproject": "none"}}, "'none' was not sent"),
        ({"uvProject": {"pyproject": "dist", "uvlock": "none"}}, "'none' was not sent"),
        ({"uvProject": {"pyproject": "no", "options": {"extraArgs": "--no-install-project"}}}, "'no/pyproject.toml'"),
        ({"poetryProject": {"pyproject": "dist", "poetryLock": "none"}}, "'none' was not sent"),
        ({"poetryProject": {"pyproject": "dist"}}, "is not a valid poetry.lock"),
    ],
)  # fmt: skip
def test_what_a_layer_needs_and_was_not_sent_is_named_with_it(layer, missing):
    """Before anything is made."""
    with pytest.raises(InvalidInput, match="layer 2 of the image") as caught:
        image_from_spec(spec(packages("six"), layer), {}, {"dist": "1" * 64}, ARCH)
    assert missing in caught.value.message


def test_the_commands_are_those_of_the_sdks_own_builder(tmp_path):
    """Word for word, but for quotes: the SDK writes its Dockerfile, and we compare."""
    (tmp_path / "r.txt").write_text("six\n")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/pkg-1-py3-none-any.whl").write_text("")
    (tmp_path / "poetry.lock").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    from flyte._image import PythonWheels

    image = (
        debian(name="x")
        .with_apt_packages("git", "ffmpeg")
        .with_commands(["make -C /src", "echo $HOME"])
        .with_pip_packages("six", "uvicorn[standard]>=0.30,<1", pre=True, extra_args="--no-deps")
        .with_requirements(tmp_path / "r.txt")
        .clone(addl_layer=PythonWheels(wheel_dir=tmp_path / "dist", package_name="pkg"), name="x", extendable=True)
        .with_poetry_project(tmp_path / "pyproject.toml", extra_args="--only main")
    )
    ours = [line.replace("--python $UV_PYTHON ", "") for line in commands(plan(image, tmp_path))]
    (tmp_path / "theirs").mkdir()
    theirs = [line.replace("--python $UV_PYTHON ", "") for line in dockerfile(image, tmp_path / "theirs")]
    assert [re.sub(r"\s+", " ", line) for line in ours] == theirs


@pytest.mark.parametrize("mode", ["dependencies_only", "install_project"])
def test_a_uv_project_is_synced_as_the_sdks_builder_does(tmp_path, monkeypatch, mode):
    """Only its two files, or all of it in a folder that is gone afterwards."""
    monkeypatch.setenv("PATH", WITH_UV)
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()
    Path("p/pyproject.toml").write_text('[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.10"\n')
    Path("p/uv.lock").write_text(
        'version = 1\nrequires-python = ">=3.10"\n\n'
        '[[package]]\nname = "p"\nversion = "1"\nsource = { virtual = "." }\n'
    )
    image = debian().with_uv_project("p/pyproject.toml", project_install_mode=mode)
    found = plan(image, tmp_path)
    (command,) = commands(found)
    (theirs,) = dockerfile(image, tmp_path / "theirs")
    assert command.replace("/root/.flyte/p", "P") == theirs.replace("/root/.flyte/p", "P")
    targets = {mount["target"] for mount in made(found, "run")[1]["mounts"]}
    expected = {"/home/flyte/pyproject.toml", "/home/flyte/uv.lock"}
    assert targets == (expected if mode == "dependencies_only" else {"/root/.flyte/p"})


def test_an_editable_dependency_lies_where_the_project_names_it():
    """Relative to the folder in which uv runs, where the SDK's builder mounts it: here it stays, to be imported."""
    body = {"pyproject": "a/p", "options": {"extraArgs": "--no-install-project"}, "editable": ["a/lib"]}
    folders = {"a/p/pyproject.toml": "1" * 64, "a/lib": "2" * 64, "src": "3" * 64}
    recipe = image_from_spec(spec({"uvProject": body}), {}, folders, ARCH)
    assert isinstance(recipe, RootRecipe)
    plan = planned(recipe, FLYTES)
    assert made(plan, "run")[1]["mounts"] == [
        {"folder": "1" * 64, "source": "pyproject.toml", "target": "/home/flyte/pyproject.toml", "writable": False},
    ]
    assert made(plan, "copy") == [
        {"kind": "copy", "folder": "2" * 64, "source": "lib", "target": "/home/lib/", "owner": "0:0"}
    ]


def test_a_poetry_project_that_is_installed_stays_where_it_is_imported_from():
    """Poetry installs it as editable."""
    body = {"pyproject": "p", "poetryLock": "l/poetry.lock"}
    folders = {"p": "1" * 64, "l/poetry.lock": "2" * 64}
    recipe = image_from_spec(spec({"poetryProject": body}), {}, folders, ARCH)
    assert isinstance(recipe, RootRecipe)
    plan = planned(recipe, FLYTES)
    assert [(step["source"], step["target"]) for step in made(plan, "copy")] == [
        ("p", "/root/.flyte/p/"), ("poetry.lock", "/root/.flyte/p/poetry.lock"),
    ]  # fmt: skip
    assert made(plan, "run")[-1]["mounts"] == []


@pytest.mark.parametrize(
    ("kind", "more"), [("uvProject", {}), ("poetryProject", {"poetryLock": "my app/poetry.lock"})]
)
def test_a_project_in_a_folder_with_a_blank_in_its_name(kind, more):
    """The shell takes it for one word."""
    folders = {"my app": "1" * 64, "my app/poetry.lock": "2" * 64}
    recipe = image_from_spec(spec({kind: {"pyproject": "my app", **more}}), {}, folders, ARCH)
    assert isinstance(recipe, RootRecipe)
    command = made(planned(recipe, FLYTES), "run")[-1]["argv"][-1]
    assert shlex.split(command)[-1] == "/root/.flyte/my app"


def test_the_template_begins_and_ends_as_the_sdks(tmp_path):
    """Root's commands, uv's variables, an environment if there is none; at the end the user that the image made."""
    found = plan(debian(install_flyte=False).with_pip_packages("six"), tmp_path, NOTHING)
    env = dict(found.config.env)
    assert env["UV_PYTHON"] == "/opt/venv/bin/python"
    assert (env["VIRTUALENV"], env["UV_COMPILE_BYTECODE"], env["UV_LINK_MODE"]) == ("/opt/venv", "1", "copy")
    assert env["PATH"].startswith("/opt/venv/bin:/opt/venv/bin:/usr/local/sbin:")
    assert env["PATH"].endswith(":/usr/local/nvidia/bin:/usr/local/cuda/bin")
    assert env["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib64"
    assert (found.config.user, found.config.workdir) == ("flyte", "/home/flyte")
    first = made(found, "run")[0]
    assert first["argv"][-1].startswith('if [ ! -f "$UV_PYTHON" ]; then uv venv $VIRTUALENV --python=3.12 && ')
    assert first["caches"] == ["/root/.cache/uv"]
    upon = plan(
        flyte.Image.from_base("nginx").clone(name="x", extendable=True).with_commands(["true"]), tmp_path, NOTHING
    )
    assert (upon.config.user, upon.config.workdir) == ("root", "/")


def test_the_command_that_makes_the_user_is_the_sdks():
    """By its text the end of the template is decided."""
    from flyte._image import _CREATE_FLYTE_USER_CMD

    assert CREATE_USER == _CREATE_FLYTE_USER_CMD


def test_a_base_without_layers_is_used_as_it_is(tmp_path):
    """As the SDK does, which builds nothing then."""
    found = plan(flyte.Image.from_base("nvcr.io/nvidia/pytorch:24.01-py3"), tmp_path, ImageConfig(cmd=("x",)))
    assert [job.job["step"]["kind"] for job in found.jobs] == ["oci"]
    assert found.config.cmd == ("x",)


@pytest.mark.parametrize("login", ["hub", 7, {"key": ""}, {"key": "a b"}, {"key": "k", "value": "x"}, {"group": "g"}])
def test_what_is_no_secret_of_a_registry_is_an_error(login):
    """It comes beside the SDK's description, and may be anything."""
    with pytest.raises(FlytedError, match="secret"):
        image_from_spec({"baseImage": "nginx", "registrySecret": login}, {}, {}, ARCH)


def test_a_name_that_is_no_images_is_refused_before_anything_is_asked():
    """With an example."""
    for name in ("NGINX", "nginx:", "nginx@sha256:x", "a//b", ""):
        with pytest.raises(InvalidInput, match="is not a container image"):
            image_from_spec({"baseImage": name}, {}, {}, ARCH)


def test_flytes_own_base_can_be_made_where_the_registry_is_not(tmp_path):
    """The pulled one if it is there; else Debian, uv's Python and the SDK, and that is said."""
    recipe = root(debian().with_apt_packages("git"), tmp_path)
    assert references(recipe) == (BASE,)
    there, away = planned(recipe, FLYTES), taken(plan_of(recipe, ARCH, {}))
    assert [job.job["step"]["kind"] for job in there.jobs] == ["oci", "run", "run"]
    assert there.notes == ()
    assert away.jobs[0].job["step"] == {
        "kind": "debian", "suite": "bookworm", "packages": ["build-essential", "ca-certificates"],
    }  # fmt: skip
    made_by = [step["argv"][-1] for step in made(away, "run")]
    assert any("flyte==2.12.1" in command for command in made_by)
    assert dict(away.config.env)["VIRTUAL_ENV"] == "/opt/venv"
    assert BASE in away.notes[0]
    assert made_by[-1] == [step["argv"][-1] for step in made(there, "run")][-1]


def test_copies_belong_to_flytes_user_where_there_is_one(tmp_path):
    """The SDK's builder always writes it, which fails on other bases."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("a")
    source = tmp_path / "data"
    for image, owner in (
        (debian().with_source_folder(source), "flyte:flyte"),
        (flyte.Image.from_base("nginx").clone(name="x", extendable=True).with_source_folder(source), "0:0"),
    ):
        (copy,) = made(plan(image, tmp_path), "copy")
        assert (copy["source"], copy["owner"], copy["target"]) == ("data", owner, "/home/flyte/data")
    (file,) = made(plan(debian().with_source_file(source / "a"), tmp_path), "copy")
    assert (file["source"], file["target"]) == ("a", "/home/flyte/")


def test_secrets_reach_the_commands_that_name_them(tmp_path):
    """As a variable, or as a file where apps find theirs; never in the job's text."""
    image = (
        debian()
        .with_apt_packages("git", secret_mounts=flyte.Secret(key="apt", mount=Path("/etc/flyte/secrets")))
        .with_pip_packages(
            "git+https://$TOKEN@example.com/a.git", secret_mounts=flyte.Secret(key="tok", as_env_var="TOKEN")
        )
        .with_commands(["x"], secret_mounts=["plain"])
    )
    jobs = [job for job in plan(image, tmp_path).jobs if job.secrets]
    assert [job.job["step"]["secrets"] for job in jobs] == [
        [{"credential": "b0", "file": "/etc/flyte/secrets/apt"}], [{"credential": "b0", "env": "TOKEN"}],
        [{"credential": "b0", "env": "PLAIN"}],
    ]  # fmt: skip
    assert "'git+https://${TOKEN}@example.com/a.git'" in jobs[1].job["step"]["argv"][-1]


def test_a_login_is_never_stored(tmp_path):
    """In packages, indexes, options and requirements files; the message does not show it."""
    (tmp_path / "r.txt").write_text("x @ https://me:hidden@example.com/x.whl\n")
    git = debian().with_apt_packages("git")
    for image in (
        git.with_pip_packages("x @ https://me:hidden@example.com/x.whl"),
        git.with_pip_packages("x", index_url="https://me:hidden@example.com"),
        git.with_pip_packages("x", extra_args="--index https://me:hidden@example.com"),
        git.with_requirements(tmp_path / "r.txt"),
    ):
        with pytest.raises(Unsupported) as caught:
            root(image, tmp_path)
        assert "hidden" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "layer",
    [
        {"aptPackages": {"packages": ["git; rm -rf /"]}}, {"aptPackages": {"packages": "git"}},
        {"commands": {"cmd": [5]}},
        {"commands": {"cmd": [""]}}, {"copyConfig": {"src": "nowhere"}}, {"copyConfig": {"src": "../x", "dst": "/y"}},
        {"requirements": {"file": "r.txt"}}, {"workdir": {}}, {"env": {"envVariables": {"A B": "c"}}},
        {"pythonWheels": {"dir": "d"}}, {"aptPackages": {"packages": ["git"], "secretMounts": [{"key": "../x"}]}},
    ],
)  # fmt: skip
def test_what_is_not_of_a_layers_form_is_an_error(layer):
    """It comes from a client; the message names the layer."""
    with pytest.raises(InvalidInput):
        image_from_spec(spec({"aptPackages": {"packages": ["git"]}}, layer), {}, {}, ARCH)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"baseImage": "a b", "layers": []}, InvalidInput), ({"baseImage": "x", "dockerfile": {}}, Unsupported),
        ({"dockerfile": "FROM x"}, InvalidInput), ({"baseImage": "x", "pythonVersion": "$(id)"}, InvalidInput),
        ({"baseImage": "x", "layers": [{"pixiProject": {}}]}, Unsupported),
        ({"baseImage": "x", "platform": []}, Unsupported),
    ],
)  # fmt: skip
def test_what_is_no_image_is_an_error(bad, error):
    """Unknown fields and kinds are never left out."""
    with pytest.raises(error):
        image_from_spec(bad, {}, {}, ARCH)
    with pytest.raises(InvalidInput, match="digest"):
        image_from_spec({"baseImage": "nginx"}, {}, {"src": "x"}, ARCH)
