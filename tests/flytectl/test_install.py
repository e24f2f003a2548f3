"""What is said when a package is missing: names as PyPI has them, commands that the user can type."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from flytectl import install, load, pythons
from flytectl.pythons import Python
from flyted.contract.errors import FlytedError, PackageMissing
from tests.flytectl.loading import FASTAPI, caller, load_for_real, needs_sdk, write

pytestmark = pytest.mark.slow

FILE = Path("/home/alice/app.py")


@pytest.fixture
def no_uv(tmp_path, monkeypatch):
    """As on a fresh Debian: no uv on the path, the one of the package in its folder."""
    uv = write(tmp_path, "lib/uv", "")
    monkeypatch.setattr(pythons, "UV", uv)
    return {"PATH": str(tmp_path)}, f"{uv} --system-certs"


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("dotenv", "python-dotenv"),
        ("grpc.aio", "grpcio"),
        ("msgpack", "msgpack"),
        ("flyteplugins", "PACKAGE"),
        ("flyteplugins.vllm", "flyteplugins-vllm"),
        ("flyteplugins.sglang.x", "flyteplugins-sglang"),
        ("google.cloud.storage", "PACKAGE"),
        ("", "PACKAGE"),
    ],
)
def test_a_package_is_called_as_pypi_calls_it(module, package):
    """Not every module's name is one, and a namespace is shared by many."""
    assert install.package_of(module) == package


def test_debians_own_python_is_told_no_pip(no_uv):
    """It has none, and takes no packages: a script block, or an environment, by the uv that is there."""
    environ, uv = no_uv
    for origin in ("bundled", "option"):
        hint = install.a_module(Python("/usr/bin/python3", origin), environ, FILE, "dotenv")
        assert "-m pip" not in hint
        assert '# dependencies = ["flyte", "python-dotenv"]' in hint
        assert f"{uv} venv .venv && {uv} pip install --python .venv flyte==2.12.1 python-dotenv && " in hint
        assert hint.endswith("flytectl serve --python .venv app.py")


def test_a_new_environment_gets_all_that_the_file_imports(no_uv, tmp_path):
    """It has none of the packages that come with flytectl: else the next try fails for the next one."""
    write(tmp_path, "helper.py", "")
    text = """
        import os, flyte, flyte.app, helper, yaml
        from fastapi import FastAPI
        from . import parts
        from google.cloud import storage
        def late():
            from flyteplugins.vllm import VLLMAppEnvironment
    """
    file = write(tmp_path, "app.py", dedent(text))
    hint = install.a_module(Python("/usr/bin/python3", "bundled"), no_uv[0], file, "flyteplugins")
    assert '# dependencies = ["flyte", "fastapi", "flyteplugins-vllm", "pyyaml"]\n' in hint
    assert "flyte==2.12.1 fastapi flyteplugins-vllm pyyaml && " in hint
    assert "PACKAGE" not in hint
    hint = install.a_module(Python("/usr/bin/python3", "bundled"), no_uv[0], file, "jinja2")
    assert '# dependencies = ["flyte", "fastapi", "flyteplugins-vllm", "jinja2", "pyyaml"]\n' in hint
    for unreadable in ("import (", "import os\0", "x" * (2 << 20)):
        assert install.modules_of(write(tmp_path, "bad.py", unreadable)) == []


def test_an_environment_gets_the_command_that_installs_into_it(no_uv, tmp_path):
    """With pip inside of it or not: uv asks for its Python only."""
    environ, uv = no_uv
    write(tmp_path, "my env/pyvenv.cfg", "")
    program = f"{tmp_path}/my env/bin/python"
    for origin in ("environment", "option"):
        python = Python(program, origin)
        assert install.a_module(python, environ, FILE, "yaml") == f"type: {uv} pip install --python '{program}' pyyaml"
        assert f"{uv} pip install --python '{program}' flyte==" in install.the_sdk(python, environ, FILE)
    assert "deactivate" in install.the_sdk(Python(program, "environment"), environ, FILE)


def test_a_system_python_without_the_sdk_is_left_out(no_uv):
    """Nothing can be installed into it, so nothing says so."""
    hint = install.the_sdk(Python("/usr/bin/python3.13", "option"), no_uv[0], FILE)
    assert hint == "omit --python to use flytectl's own SDK"


def test_a_script_block_is_named(no_uv):
    """What it lacks is to be added to it."""
    hint = install.a_module(Python("/cache/env/bin/python", "script"), no_uv[0], FILE, "dotenv")
    assert hint == 'add "python-dotenv" to the dependencies in the script block of app.py'


def test_users_own_uv_is_called_by_its_name(no_uv, tmp_path):
    """Who has it on the path types `uv`."""
    write(tmp_path, "uv", "#!/bin/sh\n").chmod(0o755)
    assert install.shown_uv(no_uv[0]) == "uv"


@needs_sdk
def test_the_hint_fits_the_python_that_was_chosen(tmp_path):
    """From the import to the hint, with the real loader."""
    file = write(tmp_path, "app.py", "import no_such_module\n")
    with pytest.raises(PackageMissing) as caught:
        load.run(file, Python(sys.executable, "script"), caller(), [])
    assert 'add "no_such_module"' in caught.value.hint


@needs_sdk
def test_a_requirements_file_lies_beside_the_app_file(tmp_path, monkeypatch):
    """As include= does: from another folder too, and named when it is nowhere."""
    text = dedent(FASTAPI).replace(
        "app=app", 'app=app, image=flyte.Image.from_debian_base().with_requirements("requirements.txt")'
    )
    file = write(tmp_path, "sub/app.py", "import flyte\n" + text)
    write(tmp_path, "sub/requirements.txt", "msgpack\n")
    monkeypatch.chdir(tmp_path)
    with load_for_real(file) as loaded:
        assert loaded.apps[0].image_files == {"sub/requirements.txt": "msgpack\n"}
    (tmp_path / "sub/requirements.txt").unlink()
    with pytest.raises(FlytedError, match=f"neither in {tmp_path} nor in {tmp_path}/sub"):
        load_for_real(file)


@needs_sdk
def test_a_module_from_above_the_root_is_named(tmp_path, monkeypatch, capfd):
    """It can be imported here, and is not sent; --root-dir sends it."""
    write(tmp_path, "shared_by_two.py", "")
    file = write(tmp_path, "sub/app.py", "import sys\nsys.path.append('..')\nimport shared_by_two\n" + dedent(FASTAPI))
    monkeypatch.chdir(file.parent)
    load_for_real(file).close()
    said = capfd.readouterr().err
    (line,) = said.splitlines()
    assert line.startswith(f"note: shared_by_two ({tmp_path}/shared_by_two.py) is outside {tmp_path}/sub and not sent")
    assert line.endswith(f"--root-dir {tmp_path}")
    load_for_real(file, "--root", str(tmp_path)).close()
    assert capfd.readouterr().err == ""


@needs_sdk
def test_folders_of_which_nothing_is_sent_are_named(tmp_path, monkeypatch, capfd):
    """What programs mostly read there would be missing at the first request; one that is sent in part is fine."""
    for name in ("templates/a.html", "static/b.css", "data/c.csv", "notebooks/d"):
        write(tmp_path, name, "")
    file = write(tmp_path, "app.py", dedent(FASTAPI).replace("app=app", "app=app, include=['static/b.css']"))
    monkeypatch.chdir(tmp_path)
    load_for_real(file).close()
    said = capfd.readouterr().err
    what = "note: templates/, data/ beside app.py is not sent: if the app reads it, add "
    assert said == what + "include=['templates', 'data'] to its environment\n"
    write(tmp_path, "app.py", dedent(FASTAPI).replace("app=app", "app=app, include=['static', 'templates', 'data']"))
    load_for_real(file).close()
    assert capfd.readouterr().err == ""
