"""Every kind of layer that brings files, as the real SDK describes it: by `flytectl serve` and by `flyte deploy`."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import pypi_flyte
from tests.machine.kit.units import sh
from tests.machine.kit.users import alice, answer, by, curl, everything, forget_apps, give, refused, until
from tests.machine.test_root_images import image_of, layers
from tests.projects import editable_project, uv_project

UV = "/usr/lib/flyted/bin/uv"
HERE = "stock/kinds"
HEAD = """
from pathlib import Path
from fastapi import FastAPI
import flyte
from flyte._image import PythonWheels
from flyte.app.extras import FastAPIAppEnvironment

HERE = Path(__file__).parent
app = FastAPI()

@app.get("/")
def look(what: str = "'up'"):
    return eval(what)

"""
ENV = """
env = FastAPIAppEnvironment(name="{name}", app=app, requires_auth=False, image={image})
"""
STEM = 'flyte.Image.from_debian_base(python_version=(3, 11)).with_pip_packages("fastapi", "uvicorn")'
POETRY = """
[project]
name = "ours"
version = "1"
requires-python = ">=3.10"
dependencies = ["six==1.16.0"]

[tool.poetry]
packages = [{ include = "poetic.py" }]

[[tool.poetry.source]]
name = "simple"
url = "https://pypi.org/simple/"
priority = "primary"

[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""
POETRY_LOCK = """
[[package]]
name = "six"
version = "1.16.0"
description = ""
optional = false
python-versions = ">=2.7, !=3.0.*, !=3.1.*, !=3.2.*"
groups = ["main"]
files = [
    {file = "six-1.16.0-py2.py3-none-any.whl", hash = "sha256:DIGEST"},
]

[package.source]
type = "legacy"
url = "https://pypi.org/simple"
reference = "simple"

[metadata]
lock-version = "2.1"
python-versions = ">=3.10"
content-hash = "f07aafe1f5c3882020934850730b424987650db7d8f99257dbe08c775405e9ed"
""".replace("DIGEST", "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254")
SCRIPT = """# /// script
# requires-python = ">=3.11"
# dependencies = ["flyte==2.12.1", "fastapi", "uvicorn", "six==1.16.0"]
# ///
"""
OTHERS = (
    f'{STEM}.with_apt_packages("jq").with_env_vars({{"GREETING": "hello", "PATH": "/opt/mine/bin:$PATH"}})'
    '.with_commands(["echo $GREETING >/opt/said"]).with_requirements(HERE / "r.txt").with_workdir("/srv/work")'
    '.with_source_file(HERE / "data/a.txt").with_poetry_project(HERE / "verses/pyproject.toml")'
    '.with_uv_project(HERE / "p/pyproject.toml")'
)
EVERYTHING = (
    f'{STEM}.with_dockerignore(HERE / ".dockerignore")'
    '.with_source_folder(HERE / "data", "/srv/data").with_source_file(HERE / "lib/shipped.py")'
    '.with_source_folder(HERE / "lib", "/opt/lib", copy_contents_only=True)'
    '.clone(addl_layer=PythonWheels(wheel_dir=HERE / "dist", package_name="flyted-mine"), name="n", extendable=True)'
    '.with_uv_project(HERE / "p/pyproject.toml", project_install_mode="install_project")'
    '.with_code_bundle(copy_style="all")'
)


@pytest.fixture(scope="module", autouse=True)
def _files() -> Iterator[None]:
    """What the images copy, in alice's folder."""
    pypi_flyte.prepare()
    for name, text in {
        ".dockerignore": "*.log\n", "data/a.txt": "a", "data/deep/b.txt": "b", "data/no.log": "",
        "lib/shipped.py": "WHO = 'a file'\n",
        "p/pyproject.toml": uv_project("ours"), "p/src/ours/__init__.py": "WHO = 'ours'\n",
        "q/pyproject.toml": editable_project("q", "mylib"), "mylib/pyproject.toml": uv_project("mylib"),
        "mylib/src/mylib/__init__.py": "WHO = 'mylib'\n",
        "poetry/pyproject.toml": POETRY, "poetry/poetic.py": "WHO = 'poetic'\n", "r.txt": "iniconfig==2.0.0\n",
        "verses/pyproject.toml": POETRY, "verses/poetic.py": "", "verses/poetry.lock": POETRY_LOCK,
    }.items():  # fmt: skip
        give(f"{HERE}/{name}", text)
    wheel(Path("/home/alice") / HERE / "dist")
    alice(UV, "--system-certs", "lock", "-q", "--project", f"{HERE}/p")
    yield
    forget_apps("kinds-")


def wheel(folder: Path) -> None:
    """A wheel of one module."""
    folder.mkdir(exist_ok=True)
    out, info = io.BytesIO(), "flyted_mine-1.dist-info"
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("mine.py", "WHO = 'a wheel'\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: flyted-mine\nVersion: 1\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"mine.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    (folder / "flyted_mine-1-py3-none-any.whl").write_bytes(out.getvalue())


def file(name: str, image: str, head: str = "") -> str:
    """An app of alice's with this image."""
    return give(f"{HERE}/{name}.py", head + HEAD + ENV.format(name=f"kinds-{name}", image=image))


def served(name: str, image: str, head: str = "") -> str:
    """What serving it said."""
    done = by("alice", "flytectl", "serve", file(name, image, head))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def says(name: str, what: str) -> str:
    """What an expression is in the app."""
    status, body = curl(f"https://kinds-{name}.apps.localhost/", "-G", "--data-urlencode", f"what={what}")
    assert status == 200, body
    return body


IMPORT = "[__import__(each).WHO for each in ('shipped', 'mine', 'ours')] + [__import__('six').__version__]"
FILES = (
    "[sorted(str(each) for each in Path('/srv/data').rglob('*')), Path('/opt/lib/shipped.py').stat().st_mode & 0o777]"
)


def is_all_there(name: str) -> None:
    """What the layers of :data:`EVERYTHING` bring, and what .dockerignore keeps out."""
    assert says(name, IMPORT) == '["a file","a wheel","ours","1.16.0"]'
    assert says(name, "Path('shipped.py').read_text()") == "\"WHO = 'a file'\\n\""
    assert says(name, FILES) == '[["/srv/data/a.txt","/srv/data/deep","/srv/data/deep/b.txt"],420]'


@pytest.mark.serves(
    "with_dockerignore",
    "with_pip_packages",
    "with_source_file",
    "with_source_folder",
    "with_uv_project",
    "PythonWheels",
)
def test_files_wheels_and_a_uv_project_by_flytectl_and_by_flyte() -> None:
    """Both send the same bytes, so that what one has had built is what the other's image is made of."""
    served("all", EVERYTHING)
    is_all_there("all")
    before, image = layers(), image_of("kinds-all")["hash"]
    assert "pyproject.toml" not in says("all", "sorted(str(each) for each in Path('/root').rglob('*'))")
    pypi_flyte.flyte("deploy", "kinds/all.py", "env")
    until(lambda: answer("app", "get", "kinds-all")["revision"] > 1, 120)
    is_all_there("all")
    assert (layers(), image_of("kinds-all")["hash"]) == (before, image)


@pytest.mark.serves("with_requirements", "with_workdir")
def test_the_other_kinds_by_flyte_and_by_flytectl() -> None:
    """What `flyte deploy` has had built is what flytectl builds of the same file, layer by layer."""
    made = file("others", OTHERS)
    alice("ln", "-sf", UV, str(pypi_flyte.PYTHON.with_name("uv")))  # the SDK asks uv for the parts of a project
    pypi_flyte.flyte("deploy", "kinds/others.py", "env")
    until(lambda: curl("https://kinds-others.apps.localhost/")[0] == 200, 120)  # it did not wait for that
    assert says("others", "[__import__('shutil').which('jq'), Path('/opt/said').read_text()]") == (
        '["/usr/bin/jq","hello\\n"]'
    )
    assert says("others", "'/opt/mine/bin' in __import__('os').environ['PATH'].split(':')") == "true"
    assert says("others", "[Path('/srv/work/a.txt').read_text(), __import__('sys').prefix]") == '["a","/opt/venv"]'
    found = "[__import__('six').__version__, bool(__import__('iniconfig'))]"
    assert says("others", found) == '["1.16.0",true]'
    before, image = layers(), image_of("kinds-others")["hash"]
    assert [each["hash"] for each in answer("image", "build", made)["images"]] == [image]
    assert layers() == before


@pytest.mark.serves("with_code_bundle")
def test_code_that_is_in_the_image() -> None:
    """`--copy-style none`: with_code_bundle copies the code, and the app begins in the image's working folder."""
    name = file("code", f'{STEM}.with_code_bundle(copy_style="all")').removeprefix("stock/")
    pypi_flyte.flyte("deploy", "--copy-style", "none", "--version", "one", "--root-dir", "kinds", name, "env")
    until(lambda: curl("https://kinds-code.apps.localhost/")[0] == 200, 120)  # it did not wait for that
    assert says("code", "[__file__, Path('data/a.txt').read_text()]") == '["/home/flyte/code.py","a"]'


def test_a_uv_projects_dependencies_without_a_lock() -> None:
    """dependencies_only: with one that is editable, and without the project itself."""
    served("uv", f'{STEM}.with_uv_project(HERE / "q/pyproject.toml")')
    found = (
        "[__import__('six').__version__, __import__('mylib').WHO, __import__('importlib.util').util.find_spec('q')]"
    )
    assert says("uv", found) == '["1.16.0","mylib",null]'


@pytest.mark.serves("with_poetry_project")
def test_a_poetry_project() -> None:
    """With its lock's packages, in the image's own environment; without a lock nothing is made."""
    image = f'{STEM}.with_poetry_project(HERE / "poetry/pyproject.toml", project_install_mode="install_project")'
    before = everything()
    said = refused("flytectl", "serve", file("poetry", image), status=3)
    assert "with_poetry_project: poetry.lock file" in said
    assert everything() == before
    give(f"{HERE}/poetry/poetry.lock", POETRY_LOCK)
    served("poetry", image)
    found = "[__import__('poetic').WHO, __import__('six').__version__, __import__('sys').prefix]"
    assert says("poetry", found) == '["poetic","1.16.0","/opt/venv"]'


@pytest.mark.serves("from_uv_script")
@pytest.mark.long
def test_a_script_is_an_image() -> None:
    """from_uv_script: the packages of its head, and a project that it names, upon a Debian without the SDK."""
    script = SCRIPT.replace('"six==1.16.0"', f'"file:///home/alice/{HERE}/p"')
    given = f"/home/alice/{give(f'{HERE}/given.py', script)}"  # `flyte` runs in another folder
    served("script", f'flyte.Image.from_uv_script("{given}", name="s", python_version=(3, 11))', SCRIPT)
    assert says("script", "[__import__('ours').WHO, __import__('six').__version__]") == '["ours","1.16.0"]'
    before, image = layers(), image_of("kinds-script")["hash"]
    pypi_flyte.flyte("deploy", "kinds/script.py", "env")
    until(lambda: answer("app", "get", "kinds-script")["revision"] > 1, 120)
    assert (layers(), image_of("kinds-script")["hash"]) == (before, image)
    until(lambda: "r1-0" not in sh("systemctl", "list-units", "--all", "--plain", "flyted-app-kinds-script-*"), 120)


BAD = {
    '.with_source_folder(HERE / "none")': "with_source_folder: Source folder",
    '.clone(addl_layer=PythonWheels(wheel_dir=HERE / "dist", package_name="other"))': "has no wheel of other",
    '.with_source_folder(HERE / "closed")': "closed/secret cannot be read for the image",
}


def test_what_cannot_be_copied_changes_nothing() -> None:
    """Each is one message that names what asks for it."""
    give(f"{HERE}/closed/secret", "x")
    Path("/home/alice", HERE, "closed/secret").chmod(0)
    before, made = everything(), layers()
    for layer, said in BAD.items():
        assert said in refused("flytectl", "serve", file("bad", STEM + layer), status=3)
    assert (everything(), layers()) == (before, made)
