"""Images as the loader describes them: every layer, by the real SDK, and a bundle for each path that is copied."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from pathlib import Path
from textwrap import dedent

import pytest

from flytectl.loaded import Loaded
from flytectl.loader import context
from flyted.contract import bundles
from flyted.contract.errors import FlytedError, Unsupported
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.spec import image_from_spec, recipe_from_spec
from tests.flytectl.loading import FASTAPI, load_file, needs_sdk, write
from tests.plan.roots import WITH_UV
from tests.projects import editable_project

pytestmark = [needs_sdk, pytest.mark.slow]


def load_with(folder: Path, image: str, before: str = "") -> Loaded:
    """An app whose image is this expression; ``HERE`` is the folder of its file."""
    head = f"import flyte\nfrom pathlib import Path\nHERE = Path(__file__).parent\n{dedent(before)}\n"
    text = dedent(FASTAPI).replace("app=app", f"app=app, image={image}")
    return load_file(write(folder, "app.py", head + text))


def names_in(loaded: Loaded, digest: str) -> dict[str, bytes | str]:
    """What is in a bundle: name → content, or where a link leads."""
    for fd in loaded.fds:
        data = os.pread(fd, os.fstat(fd).st_size, 0)
        if hashlib.sha256(data).hexdigest() == digest:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
                return {
                    each.name: each.linkname if each.issym() else tar.extractfile(each).read()  # type: ignore[union-attr]
                    for each in tar
                }
    raise AssertionError(digest)


def is_root(loaded: Loaded) -> RootRecipe:
    """The recipe of its image, which a venv cannot be: today it is refused, and never half built."""
    app = loaded.apps[0]
    assert app.image is not None
    with pytest.raises(Unsupported):
        recipe_from_spec(app.image, app.image_files)
    recipe = image_from_spec(app.image, app.image_files, app.image_folders, "x86_64")
    assert isinstance(recipe, RootRecipe)
    return recipe


def test_a_copied_folder_is_one_bundle_named_by_its_content(tmp_path):
    """Without what .dockerignore names, the same bytes each time; a file has a bundle of its own."""
    write(tmp_path, "data/a.txt", "a")
    write(tmp_path, "data/deep/b.sh", "b").chmod(0o755)
    write(tmp_path, "data/skipped.log", "x")
    write(tmp_path, ".dockerignore", "# logs\n*.log\n")
    image = (
        'flyte.Image.from_debian_base().with_dockerignore(HERE / ".dockerignore")'
        '.with_source_folder(HERE / "data").with_source_file(HERE / "data/a.txt", "/etc/")'
    )
    with load_with(tmp_path, image) as first, load_with(tmp_path, image) as second:
        is_root(first)
        folders = first.apps[0].image_folders
        assert folders == second.apps[0].image_folders
        folder, file = (names_in(first, digest) for name, digest in sorted(folders.items()))
        assert folder == {"data/a.txt": b"a", "data/deep/b.sh": b"b"}
        assert file == {"a.txt": b"a"}


def test_a_local_wheel_is_sent_with_its_folder(tmp_path):
    """As the SDK's own development builds use them."""
    write(tmp_path, "dist/pkg-1-py3-none-any.whl", "wheel")
    before = "from flyte._image import PythonWheels"
    layer = 'PythonWheels(wheel_dir=HERE / "dist", package_name="pkg")'
    with load_with(tmp_path, f"flyte.Image.from_debian_base().clone(addl_layer={layer})", before) as loaded:
        is_root(loaded)
        (digest,) = loaded.apps[0].image_folders.values()
        assert names_in(loaded, digest) == {"dist/pkg-1-py3-none-any.whl": b"wheel"}


def test_a_requirements_file_is_sent_as_text_only(tmp_path):
    """A venv image needs no bundle, so nothing changes for it."""
    write(tmp_path, "r.txt", "six\n")
    with load_with(tmp_path, 'flyte.Image.from_debian_base().with_requirements(HERE / "r.txt")') as loaded:
        app = loaded.apps[0]
        assert app.image is not None
        assert app.image_folders == {}
        assert recipe_from_spec(app.image, app.image_files).installs[1].requirements == ("six",)


def test_a_poetry_project_is_its_two_files_or_its_folder(tmp_path):
    """By project_install_mode."""
    write(tmp_path, "p/pyproject.toml", "[project]\nname='p'\nversion='1'\n")
    write(tmp_path, "p/poetry.lock", "")
    write(tmp_path, "p/src/p.py", "")
    project = 'flyte.Image.from_debian_base().with_poetry_project(HERE / "p/pyproject.toml"'
    with load_with(tmp_path, f"{project})") as loaded:
        is_root(loaded)
        names = [*(set(names_in(loaded, digest)) for _, digest in sorted(loaded.apps[0].image_folders.items()))]
        assert names == [{"poetry.lock"}, {"pyproject.toml"}]
    with load_with(tmp_path, f'{project}, project_install_mode="install_project")') as loaded:
        is_root(loaded)
        folder = names_in(loaded, dict(sorted(loaded.apps[0].image_folders.items()))[_only(loaded, "/p")])
        assert set(folder) == {"p/pyproject.toml", "p/poetry.lock", "p/src/p.py"}


def _only(loaded: Loaded, end: str) -> str:
    (found,) = [path for path in loaded.apps[0].image_folders if path.endswith(end)]
    return found


def test_a_uv_project_brings_its_editable_dependencies(tmp_path, monkeypatch):
    """Each as a folder of its own, beside the project's two files."""
    monkeypatch.setenv("PATH", WITH_UV)
    write(tmp_path, "p/pyproject.toml", editable_project("p", "lib"))
    write(tmp_path, "lib/pyproject.toml", '[project]\nname = "lib"\nversion = "1"\nrequires-python = ">=3.10"\n')
    write(tmp_path, "lib/lib.py", "")
    with load_with(tmp_path, 'flyte.Image.from_debian_base().with_uv_project(HERE / "p/pyproject.toml")') as loaded:
        is_root(loaded)
        assert loaded.apps[0].image is not None
        (body,) = [layer["uvProject"] for layer in loaded.apps[0].image["layers"] if "uvProject" in layer]
        assert [Path(path).name for path in body["editable"]] == ["lib"]
        assert set(names_in(loaded, loaded.apps[0].image_folders[_only(loaded, "/lib")])) == {
            "lib/lib.py", "lib/pyproject.toml",
        }  # fmt: skip


def test_a_project_without_uv_on_the_path_names_uv(tmp_path, monkeypatch):
    """The SDK's own words."""
    monkeypatch.setenv("PATH", "/nonexistent")
    if Path("/usr/lib/flyted/bin/uv").exists():
        pytest.skip("flyted's own uv is found")
    write(tmp_path, "pyproject.toml", '[project]\nname = "x"\nversion = "1"\n')
    with pytest.raises(FlytedError, match="`uv` was not found"):
        load_with(tmp_path, 'flyte.Image.from_debian_base().with_uv_project(HERE / "pyproject.toml")')


def test_a_pixi_project_is_lowered_by_the_sdk(tmp_path):
    """To apt, commands, copied files and variables, which all are known here."""
    write(tmp_path, "pixi.toml", '[workspace]\nchannels = ["conda-forge"]\nplatforms = ["linux-64"]\n')
    with load_with(tmp_path, "flyte.Image.from_debian_base().with_pixi_project(HERE)") as loaded:
        is_root(loaded)
        assert loaded.apps[0].image is not None
        kinds = [next(iter(layer)) for layer in loaded.apps[0].image["layers"]]
        assert kinds == ["aptPackages", "commands", "copyConfig", "commands", "env"]
        (digest,) = loaded.apps[0].image_folders.values()
        assert set(names_in(loaded, digest)) == {"pixi.toml"}


def test_a_scripts_manifest_is_written_where_only_its_user_writes(tmp_path, monkeypatch):
    """Not to /tmp, where its folder may be another user's; its name is the one that the SDK gives it there."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    monkeypatch.setenv("TMPDIR", str(shared))
    write(tmp_path, "s.py", '# /// script\n# requires-python = ">=3.12"\n# dependencies = ["httpx"]\n# ///\n')
    write(tmp_path, "s.py.pixi.lock", "version: 6\n")
    with load_with(tmp_path, 'flyte.Image.from_pixi_script(HERE / "s.py", name="s")') as loaded:
        (app,) = loaded.apps
        assert app.image is not None
        copied = [layer["copyConfig"]["src"] for layer in app.image["layers"] if "copyConfig" in layer]
        (place,) = {str(Path(each).parent) for each in copied}
        assert re.fullmatch(rf"_flyte_abs_context{shared}/flyte-pixi-script-[0-9a-f]{{16}}", place)
        names = {path: set(names_in(loaded, digest)) for path, digest in app.image_folders.items()}
        assert names == {f"{place}/{each}": {each} for each in ("pixi.toml", "pixi.lock")}
        assert not list(shared.glob("flyte-pixi-script-*"))


def test_scripts_are_images(tmp_path):
    """from_uv_script and from_pixi_script: the SDK reads the script's head."""
    write(tmp_path, "s.py", '# /// script\n# requires-python = ">=3.12"\n# dependencies = ["httpx"]\n# ///\n')
    for made in ("from_uv_script", "from_pixi_script"):
        with load_with(tmp_path, f'flyte.Image.{made}(HERE / "s.py", name="s")') as loaded:
            is_root(loaded)


def test_a_dockerfile_is_sent_with_a_bundle_for_each_path_that_it_names(tmp_path):
    """So a change elsewhere does not build again what comes before; links stay links, .dockerignore counts."""
    write(
        tmp_path,
        "Dockerfile",
        "FROM python:3.12-slim\nCOPY requirements.txt /\nCOPY --chmod=755 src/ /src\nCOPY . /all\n",
    )
    write(tmp_path, "requirements.txt", "six\n")
    write(tmp_path, "src/main.py", "")
    (tmp_path / "src/link").symlink_to("main.py")
    write(tmp_path, "secret.key", "x")
    write(tmp_path, ".dockerignore", "*.key\napp.py\nDockerfile\n")
    image = 'flyte.Image.from_dockerfile(HERE / "Dockerfile", registry="r", name="n")'
    with load_with(tmp_path, image) as first:
        is_root(first)
        assert first.apps[0].image == {
            "dockerfile": {"name": "Dockerfile", "text": (tmp_path / "Dockerfile").read_text()}
        }
        before = first.apps[0].image_folders
        assert {name: set(names_in(first, digest)) for name, digest in before.items()} == {
            ".": {".dockerignore", "requirements.txt", "src/main.py", "src/link"},
            "requirements.txt": {"requirements.txt"},
            "src": {"src/main.py", "src/link"},
        }
        assert names_in(first, before["src"])["src/link"] == "main.py"
    write(tmp_path, "src/main.py", "print()")
    with load_with(tmp_path, image) as second:
        after = second.apps[0].image_folders
    assert {name for name in before if before[name] != after[name]} == {".", "src"}


def test_an_image_that_names_more_paths_than_a_request_carries_is_one_bundle(tmp_path):
    """With the code they would be too many; a build then begins again where any file of the folder has changed."""
    assert context.MOST + 1 == bundles.MOST
    for number in range(context.MOST + 1):
        write(tmp_path, f"f{number}", f"{number}")
    copies = "".join(f"COPY f{number} /\n" for number in range(context.MOST + 1))
    write(tmp_path, "Dockerfile", f"FROM nginx\n{copies}")
    layers = "".join(f'.with_source_file(HERE / "f{number}", "/")' for number in range(context.MOST + 1))
    for image in (
        'flyte.Image.from_dockerfile(HERE / "Dockerfile", registry="r", name="n")',
        f"flyte.Image.from_debian_base(){layers}",
    ):
        with load_with(tmp_path, image) as loaded:
            is_root(loaded)
            (app,) = loaded.apps
            assert set(app.image_folders) == {"."}
            assert set(app.bundles) == {app.bundle_sha256, app.image_folders["."]}
            names = {name.rpartition("/")[2] for name in names_in(loaded, app.image_folders["."])}
            assert {f"f{number}" for number in range(context.MOST + 1)} <= names


def test_an_app_is_sent_with_its_code_and_what_its_image_copies(tmp_path):
    """And with nothing of the other apps in its file."""
    write(tmp_path, "a.txt", "a")
    image = 'flyte.Image.from_debian_base().with_source_file(HERE / "a.txt", "/")'
    other = f"flyte.app.AppEnvironment(name='other', args=['true'], image={image.replace('a.txt', 'app.py')})"
    with load_with(tmp_path, image, before=f"import flyte.app\nother = {other}") as loaded:
        for app in loaded.apps:
            (folder,) = app.image_folders.values()
            assert set(app.bundles) == {app.bundle_sha256, folder}
            for digest, fd in app.bundles.items():
                data = os.pread(fd, 1 << 20, 0)
                assert hashlib.sha256(data).hexdigest() == digest


def test_a_dockerfile_that_copies_nothing_sends_nothing(tmp_path):
    """Its folder may be a home folder."""
    write(tmp_path, "Dockerfile", "FROM nginx\nRUN true\n")
    with load_with(tmp_path, 'flyte.Image.from_dockerfile(HERE / "Dockerfile", registry="r", name="n")') as loaded:
        is_root(loaded)
        assert loaded.apps[0].image_folders == {}


@pytest.mark.parametrize(("content", "words"), [(b"\xff\xfe", "not UTF-8"), (b"#" * (2 << 20), "larger than 1 MiB")])
def test_a_dockerfile_that_is_no_text_is_refused(tmp_path, content, words):
    """By name."""
    (tmp_path / "Dockerfile").write_bytes(content)
    with pytest.raises(Unsupported, match=words):
        load_with(tmp_path, 'flyte.Image.from_dockerfile(HERE / "Dockerfile", registry="r", name="n")')


def test_a_name_of_flytes_config_file_is_an_image(tmp_path, monkeypatch):
    """from_ref_name, by the SDK's rule; a name that is not there is refused with those that are."""
    write(tmp_path, "config.yaml", "image:\n  image_refs:\n    base: docker.io/library/python:3.12-slim\n")
    monkeypatch.chdir(tmp_path)
    with load_with(tmp_path, 'flyte.Image.from_ref_name("base")') as loaded:
        is_root(loaded)
        assert loaded.apps[0].image is not None
        assert loaded.apps[0].image["baseImage"] == "docker.io/library/python:3.12-slim"
    with pytest.raises(Unsupported, match="from_ref_name") as caught:
        load_with(tmp_path, 'flyte.Image.from_ref_name("other")')
    assert "base" in caught.value.hint


def test_the_secret_of_a_registry_goes_with_the_image(tmp_path):
    """By its name; Flyte's own description of an image has no place for it."""
    for given, found in (('"hub"', {"key": "hub"}), ('flyte.Secret("k", group="g")', {"key": "k", "group": "g"})):
        image = f'flyte.Image.from_base("nginx").clone(name="x", registry_secret={given})'
        with load_with(tmp_path, image) as loaded:
            assert (loaded.apps[0].image or {})["registrySecret"] == found
            assert is_root(loaded).login == "/".join(reversed(list(found.values())))


def test_a_base_of_any_registry_is_described(tmp_path):
    """from_base, a plain string, and commands upon it."""
    for image in ('"nginx:1.27"', 'flyte.Image.from_base("nginx:1.27")'):
        with load_with(tmp_path, image) as loaded:
            assert is_root(loaded).stages[0].steps == ()
    with load_with(
        tmp_path, 'flyte.Image.from_base("nginx").clone(name="x", extendable=True).with_commands(["true"])'
    ) as one:
        assert len(is_root(one).stages[0].steps) > 1
