"""Which Python imports the file: the order of the choices, and what is said when one does not do."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytectl import identity, load, pythons
from flytectl.pythons import Python, choose, has_script_block
from flyted.contract.errors import InvalidInput, SdkMissing, UserCodeFailed
from tests.flytectl.loading import FASTAPI, caller, needs_sdk, write

pytestmark = pytest.mark.slow

UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
BLOCK = '# /// script\n# requires-python = ">=3.10"\n# dependencies = ["flyte"]\n# ///\n'


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """As in a shell in which nothing is activated."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake_uv(tmp_path, monkeypatch):
    """A stand-in program on the path that writes down how it is called; it makes no environment."""
    log = tmp_path / "uv.log"
    said = json.dumps({"sync": {"environment": {"python": {"path": "/env/bin/python"}}}})
    text = f"#!/bin/sh\necho \"$UV_SYSTEM_CERTS $@\" >> {log}\necho '{said}'\n"
    uv = write(tmp_path, "bin/uv", text)
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:{os.environ['PATH']}")
    return log


def test_the_option_wins(tmp_path, fake_uv, monkeypatch):
    """--python > active environment > script block > the app's environment > bundled."""
    file = write(tmp_path, "app.py", BLOCK)
    monkeypatch.setenv("VIRTUAL_ENV", "/venv")
    assert choose(file, "/opt/python", caller()) == Python("/opt/python", "option")
    assert choose(file, None, caller()) == Python("/venv/bin/python", "environment")
    monkeypatch.delenv("VIRTUAL_ENV")
    assert choose(file, None, caller()) == Python("/env/bin/python", "script")
    assert choose(file, None, caller(), "/app").origin == "script"
    file.write_text("")
    assert choose(file, None, caller(), "/app") == Python("/app/bin/python", "app")
    assert choose(file, None, caller()).origin in {"bundled", "own"}


def test_the_network_is_asked_only_if_something_is_new(tmp_path, fake_uv):
    """uv first tries from its cache; a second serve resolves nothing."""
    file = write(tmp_path, "app.py", BLOCK)
    choose(file, None, caller())
    certificates = "1" if pythons.CERTIFICATES.exists() else ""
    assert fake_uv.read_text().splitlines() == [f"{certificates} sync --script {file} --output-format json --offline"]


@pytest.mark.parametrize(("asked", "program"), [("3.12", "python3.12"), ("python3.13", "python3.13")])
def test_a_version_is_looked_up_on_the_path(tmp_path, monkeypatch, asked, program):
    """`--python 3.12` is what people type."""
    write(tmp_path, program, "").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose(Path("app.py"), asked, caller()).program == str(tmp_path / program)


def test_a_folder_is_an_environment(tmp_path):
    """`--python .venv/` means its Python."""
    assert choose(Path("app.py"), f"{tmp_path}/", caller()).program == f"{tmp_path}/bin/python"


def test_a_folder_without_a_slash_is_an_environment_too(tmp_path, monkeypatch):
    """`--python .venv`: what the folder holds decides, also for one that is called like a version."""
    monkeypatch.chdir(tmp_path)
    for name in (".venv", "3.12"):
        write(tmp_path, f"{name}/bin/python", "")
        assert choose(Path("app.py"), name, caller()).program == f"{tmp_path}/{name}/bin/python"


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        (b'{"sync": {"environment": {"python": {"path": "/e/bin/python"}}}}', "/e/bin/python"),
        (b"", ""),
        (b"Creating script environment at: /e", ""),
        (b'{"sync": []}', ""),
        (b"[1]", ""),
    ],
)
def test_where_uv_made_the_environment_is_read_from_its_answer(answer, program):
    """An uv that says something else (an old one) gives no program, which is told."""
    assert pythons.program_of(answer) == program


def test_condas_base_is_not_a_choice(monkeypatch):
    """conda activates base in every shell; a named environment counts."""
    monkeypatch.setenv("CONDA_PREFIX", "/conda")
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "base")
    assert choose(Path("app.py"), None, caller()).origin in {"bundled", "own"}
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "mine")
    assert choose(Path("app.py"), None, caller()) == Python("/conda/bin/python", "environment")


def test_a_script_block_without_uv(tmp_path, monkeypatch):
    """uv is missing: said so, with the two ways on."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pythons, "UV", tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="which needs uv, and uv is not installed"):
        choose(write(tmp_path, "app.py", BLOCK), None, caller())


def test_uv_that_refuses(tmp_path, monkeypatch, capfd):
    """uv's own words reach the terminal; ours say how to try it alone."""
    uv = write(tmp_path, "bin/uv", "#!/bin/sh\necho unsatisfiable >&2\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(uv.parent))
    monkeypatch.setattr(pythons, "UV", tmp_path / "nothing")
    with pytest.raises(UserCodeFailed) as caught:
        choose(write(tmp_path, "app.py", BLOCK), None, caller())
    assert "sync --script" in caught.value.hint
    assert capfd.readouterr().err == "unsatisfiable\n"  # the try without the network is silent


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BLOCK, True),
        ("#!/usr/bin/env python\n\n" + BLOCK + "import x\n", True),
        (BLOCK.replace("\n", "\r\n"), True),
        ("# /// script\n# dependencies = []\n", False),
        ("# /// pyproject\n# x = 1\n# ///\n", False),
        ("x = '''\n /// script\n///'''\n", False),
        ("", False),
    ],
)
def test_what_is_a_script_block(text, found):
    """As PEP 723 says: its type is `script`, every line of it is a comment, and it is closed."""
    assert has_script_block(text.encode()) is found


@given(st.binary(max_size=300))
def test_any_bytes_may_stand_at_the_start_of_a_file(head):
    """A file in another encoding, or none at all, is no reason to fail here: Python will say what is wrong."""
    assert isinstance(has_script_block(head), bool)


def test_a_python_that_is_not_there(tmp_path):
    """An environment that was deleted while it is active, and a file that is no program."""
    text = write(tmp_path, "notes.txt", "")
    for program in ("/nonexistent/bin/python", str(text)):
        with pytest.raises(InvalidInput, match="cannot be run"):
            load.run(text, Python(program, "option"), caller(), [])


def test_a_program_that_is_no_python(tmp_path):
    """It ends without an answer: named, with how to try it."""
    with pytest.raises(UserCodeFailed, match="/bin/true exited with status 0"):
        load.run(tmp_path / "app.py", Python("/bin/true", "option"), caller(), [])


def test_a_python_that_is_too_old(tmp_path):
    """The loader's first lines run on any Python 3 and end with a status that we know."""
    old = write(tmp_path, "python", "#!/bin/sh\nexit 64\n")
    old.chmod(0o755)
    with pytest.raises(InvalidInput, match="too old for the Flyte SDK"):
        load.run(tmp_path / "app.py", Python(str(old), "option"), caller(), [])
    ast.parse((load.LOADER / "__main__.py").read_text(), feature_version=(3, 6))


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory):
    """A virtual environment without the SDK."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


def test_an_environment_without_the_sdk(tmp_path, empty_environment, monkeypatch):
    """No silent mix of two environments: the command to type is in the hint, for each way that led here."""
    monkeypatch.setenv("VIRTUAL_ENV", str(empty_environment))
    file = write(tmp_path, "app.py", FASTAPI)
    for python, words in (
        (choose(file, None, caller()), "deactivate"),
        (Python(f"{empty_environment}/bin/python", "option"), "omit --python"),
        (Python(f"{empty_environment}/bin/python", "script"), '"flyte==2.12.1" to the dependencies'),
    ):
        with pytest.raises(SdkMissing) as caught:
            load.run(file, python, caller(), [])
        assert f"{empty_environment}/bin/python has no Flyte SDK" in caught.value.message
        assert words in caught.value.hint


@needs_sdk
def test_the_apps_environment_need_not_have_the_sdk(tmp_path, empty_environment, monkeypatch):
    """A program may run anywhere: where the app's Python lacks the SDK, the bundled one imports the file."""
    monkeypatch.setattr(pythons, "bundled", lambda: Python(sys.executable, "own"))
    monkeypatch.setattr(identity, "to_become", lambda *_: None)  # root or not
    file = write(tmp_path, "app.py", FASTAPI)
    with load.load(file, python_env=str(empty_environment)) as loaded:
        assert loaded.apps[0].name == "hello"


@needs_sdk
def test_the_bundled_sdk_serves_a_python_without_one(tmp_path, empty_environment):
    """`sdk/cpXY` comes before `sdk`, both before what the Python has itself."""
    import flyte

    packages = Path(flyte.__file__).parent.parent
    sdk = tmp_path / "sdk"
    tied = sdk / f"cp{sys.version_info[0]}{sys.version_info[1]}"
    tied.mkdir(parents=True)
    for entry in packages.iterdir():
        (sdk / entry.name).symlink_to(entry)
    write(tied, "only_for_this_python.py", "")
    file = write(
        tmp_path / "work",
        "app.py",
        "import sys, only_for_this_python\n"
        f"assert sys.path.index({str(tied)!r}) < sys.path.index({str(sdk)!r}) < len(sys.path) - 2\n" + dedent(FASTAPI),
    )
    python = Python(f"{empty_environment}/bin/python", "bundled", sdk)
    with load.run(file, python, caller(), []) as loaded:
        assert loaded.apps[0].name == "hello"


@needs_sdk
def test_an_sdk_that_lacks_what_we_use(tmp_path, empty_environment):
    """Another version of the SDK gives a sentence that names what it lacks."""
    sdk = tmp_path / "sdk"
    write(sdk, "flyte/__init__.py", "__version__ = '9.0.0'\ndef init(**_): pass\n")
    fields = "depends_on = parameters = include = (); name = 'x'; pod_template = image = None"
    write(sdk, "flyte/app/__init__.py", f"class AppEnvironment:\n    {fields}\n")
    file = write(tmp_path / "work", "app.py", "import flyte.app\nenv = flyte.app.AppEnvironment()\n")
    with pytest.raises(UserCodeFailed) as caught:
        load.run(file, Python(f"{empty_environment}/bin/python", "bundled", sdk), caller(), [])
    assert "9.0.0" in caught.value.message
    assert "has no flyte" in caught.value.message
    assert "2.12.1" in caught.value.hint


@needs_sdk
@pytest.mark.skipif(UV is None, reason="needs uv")
def test_a_real_script_block(tmp_path):
    """With uv itself: a block without the SDK makes an environment of its own, and says what to add to it.

    ``==3.13`` is what many of Flyte's own examples ask for; a 3.13.5 does for uv, which warns.
    """
    wanted = f"=={sys.version_info[0]}.{sys.version_info[1]}"
    block = f'# /// script\n# requires-python = "{wanted}"\n# dependencies = []\n# ///\n'
    file = write(tmp_path, "app.py", block + dedent(FASTAPI))
    assert UV is not None
    here = caller(UV_CACHE_DIR=str(tmp_path / "cache"), UV_PYTHON=sys.executable, PATH=str(Path(UV).parent))
    python = choose(file, None, here)
    assert python.origin == "script"
    assert str(tmp_path / "cache") in python.program
    with pytest.raises(SdkMissing) as caught:
        load.run(file, python, caller(), [])
    assert "app.py" in caught.value.hint
