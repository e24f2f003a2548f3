"""The loader with the real SDK: what a bad file gives. One clear message, the user's own lines, a way on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import NOT_HERE, FlytedError, PackageMissing, UserCodeFailed
from tests.flytectl.loading import FASTAPI, REPOSITORY, load_file, needs_sdk, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, needs_sdk]


def failure(folder: Path, text: str, *arguments: str, name: str = "app.py") -> FlytedError:
    """The error that a file with this text gives."""
    with pytest.raises(FlytedError) as caught:
        load_file(write(folder, name, text), *arguments)
    assert "loader" not in caught.value.message
    return caught.value


def user_failure(folder: Path, text: str, *arguments: str, name: str = "app.py") -> UserCodeFailed:
    """The same for the user's own fault: no frame of ours or of importlib is in its traceback."""
    error = failure(folder, text, *arguments, name=name)
    assert isinstance(error, UserCodeFailed)
    for stranger in ("importlib", "flytectl", "site-packages", "<frozen"):
        assert stranger not in error.traceback
    return error


def test_a_syntax_error_is_shown_as_python_shows_it(tmp_path):
    """File, line and caret, and not one frame of a traceback."""
    error = user_failure(tmp_path, "import flyte\nx = (1,\n")
    assert error.message == "app.py is not valid Python (line 2)"
    assert error.traceback == (
        f"  File \"{tmp_path}/app.py\", line 2\n    x = (1,\n        ^\nSyntaxError: '(' was never closed\n"
    )


def test_a_syntax_error_in_a_module_of_the_users(tmp_path):
    """The message names that file; the line that imports it is shown, and the place of the error."""
    write(tmp_path, "other.py", "import sys\ndef f(:\n")
    error = user_failure(tmp_path, "import other\n")
    assert error.message == "app.py cannot be imported: other.py is not valid Python (line 2)"
    assert f'File "{tmp_path}/app.py", line 1, in <module>' in error.traceback
    assert f'File "{tmp_path}/other.py", line 2' in error.traceback


def test_a_syntax_error_in_a_library(tmp_path):
    """Its whole path: the file is none of the user's."""
    library = write(tmp_path / "library", "broken.py", "x = = 1\n")
    error = user_failure(
        tmp_path, f"import sys\nsys.path.append({str(library.parent)!r})\nimport broken\n", name="app/app.py"
    )
    assert error.message == f"app.py cannot be imported: {library} is not valid Python (line 1)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import ast\nast.literal_eval('{')", "SyntaxError: '{' was never closed"),
        ("compile('x = = 1', '<rule>', 'exec')", "SyntaxError: invalid syntax"),
        ("raise SyntaxError('the rule is empty')", "SyntaxError: the rule is empty"),
    ],
)
def test_a_syntax_error_of_what_is_no_file(tmp_path, text, words):
    """The file is valid: the error is one like any other, with the line that raised it."""
    error = user_failure(tmp_path, f"{text}\n")
    assert error.message.startswith(f"app.py cannot be imported: {words}")
    assert f'File "{tmp_path}/app.py", line {text.count(chr(10)) + 1}, in <module>' in error.traceback


def test_an_exception_at_import(tmp_path):
    """The traceback holds the user's frames, the message its last line."""
    error = user_failure(tmp_path, "import json\ndef read():\n    return json.loads('{')\nread()\n")
    assert error.message.startswith("app.py cannot be imported: JSONDecodeError: Expecting property name")
    lines = [line.split(",")[1].strip() for line in error.traceback.splitlines() if line.startswith("  File")]
    assert lines == ["line 4", "line 3"]


def test_a_chain_of_exceptions_is_trimmed_in_every_link(tmp_path):
    """`raise … from …` shows both, each without foreign frames."""
    text = """
        import json
        try:
            json.loads("x")
        except ValueError as error:
            raise RuntimeError("settings are broken") from error
    """
    error = user_failure(tmp_path, text)
    assert "direct cause" in error.traceback
    assert error.traceback.count(f'File "{tmp_path}/app.py"') == 2


def test_a_misused_field_points_to_the_users_line(tmp_path):
    """The SDK refuses a name: the frames inside of the SDK are left out."""
    error = user_failure(tmp_path, "import flyte.app\nenv = flyte.app.AppEnvironment(name='Not_Good')\n")
    assert "Not_Good" in error.message
    assert error.traceback.count("  File") == 1


def test_a_missing_module_says_which_and_where(tmp_path):
    """The module and the Python that was used; flytectl knows what to type for it (test_install.py)."""
    error = user_failure(tmp_path, "import no_such_module.sub\n")
    assert isinstance(error, PackageMissing)
    assert error.module == "no_such_module"
    assert "'no_such_module'" in error.message
    assert sys.executable in error.message


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("raise ImportError('jinja2 must be installed to use Jinja2Templates')", "jinja2"),
        ("assert None, 'jinja2 must be installed to use Jinja2Templates'", "jinja2"),
        ("raise ImportError('Missing optional dependency. Use pip install openpyxl.')", "openpyxl."),
        (
            "raise RuntimeError('Form data requires \"python-multipart\" to be installed. \\nYou can')",
            "python-multipart",
        ),
    ],
)
def test_a_library_that_names_the_package_it_lacks(tmp_path, text, package):
    """FastAPI and others raise what is no ModuleNotFoundError: the same failure, told in one line."""
    error = user_failure(tmp_path, text + "\n")
    assert isinstance(error, PackageMissing)
    assert error.module == package.rstrip(".")
    assert sys.executable in error.message
    assert "\n" not in error.message


def test_another_import_error_asks_for_no_package(tmp_path):
    """A name that a module does not have is not cured by an installation."""
    error = user_failure(tmp_path, "from json import nothing\n")
    assert not isinstance(error, PackageMissing)


def test_a_secret_read_at_import(tmp_path):
    """os.environ["API_KEY"] at module level fails here: the hint says that secrets are not there."""
    error = user_failure(tmp_path, "import os\nKEY = os.environ['API_KEY_OF_A_TEST']\n")
    assert "KeyError" in error.message
    assert "os.getenv" in error.hint


def test_sys_exit_at_import(tmp_path):
    """Not a silent end: the file is told to put it below __main__."""
    error = user_failure(tmp_path, "import sys\nsys.exit(3)\n")
    assert "sys.exit(3)" in error.message
    assert "__main__" in error.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os\nos._exit(0)\n", "exited with status 0"),
        ("import os\nos._exit(7)\n", "exited with status 7"),
        ("import os\nos.closerange(3, 1024)\n" + dedent(FASTAPI), "without an answer"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "was killed by SIGSEGV"),
    ],
)
def test_a_python_that_dies_during_the_import(tmp_path, text, words):
    """A crash in somebody's C code gives a sentence, not an empty answer."""
    error = user_failure(tmp_path, text)
    assert words in error.message
    assert "app.py" in error.message


def test_a_file_without_an_environment(tmp_path):
    """Also one that has its environment inside of a function only."""
    error = user_failure(tmp_path, "import flyte.app\ndef f():\n    return flyte.app.AppEnvironment(name='x')\n")
    assert "no app environment" in error.message
    assert "AppEnvironment" in error.hint


def test_a_file_of_tasks_only(tmp_path):
    """What is missing is not an environment at module level, but a cluster."""
    error = user_failure(tmp_path, "import flyte\nenv = flyte.TaskEnvironment(name='work')\n")
    assert f"app.py has tasks but no app: {NOT_HERE}" in error.message


def test_an_unknown_environment_name(tmp_path):
    """The hint lists what is there, by variable and by app name."""
    error = user_failure(tmp_path, FASTAPI, "--env", "nope")
    assert "'nope'" in error.message
    assert "env (hello)" in error.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('env = flyte.app.AppEnvironment(name="a", pod_template=flyte.PodTemplate())', "pod_template"),
        ('env = flyte.app.AppEnvironment(name="a", image=flyte.Image.from_ref_name("base"))', "from_ref_name"),
        (
            'image = flyte.Image.from_dockerfile("nowhere/Dockerfile", "r", "n")\n'  # noqa: ISC004
            'env = flyte.app.AppEnvironment(name="a", image=image)',
            "the Dockerfile nowhere/Dockerfile does not exist",
        ),
        (
            'image = flyte.Image.from_debian_base(platform=("linux/arm64",))\n'  # noqa: ISC004
            'env = flyte.app.AppEnvironment(name="a", image=image)',
            "linux/arm64 (platform=)",
        ),
        (
            'value = flyte.app.RunOutput(type="file", run_name="r")\n'  # noqa: ISC004
            'env = flyte.app.AppEnvironment(name="a", parameters=[flyte.app.Parameter(name="model", value=value)])',
            "RunOutput",
        ),
        (
            'env = flyte.app.AppEnvironment(name="a", args=[])\n'  # noqa: ISC004
            'b = flyte.app.AppEnvironment(name="b", depends_on=[env])\nenv.add_dependency(b)',
            "a → b → a",
        ),
        ('env = flyte.app.AppEnvironment(name="a")\nb = flyte.app.AppEnvironment(name="a")', "two environments"),
        ('env = flyte.app.AppEnvironment(name="a")', "neither a server function nor args"),
        ('env = flyte.app.AppEnvironment(name="a", args=[])', "neither a server function nor args"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_by_name(tmp_path, text, words):
    """Never ignored: the field is in the message, the app too."""
    error = failure(tmp_path, f"import flyte, flyte.app\nfrom pathlib import Path\n{text}\n")
    assert words in error.message
    assert error.hint


def test_an_include_that_is_not_there(tmp_path):
    """include= names a file that does not exist: said so, with the path."""
    text = dedent(FASTAPI).replace("app=app", "app=app, include=['missing.html']")
    assert "missing.html" in user_failure(tmp_path, text).message


def test_an_include_outside_of_the_root(tmp_path):
    """The bundle holds files below its root only."""
    write(tmp_path, "secret.txt", "x")
    text = dedent(FASTAPI).replace("app=app", "app=app, include=['../secret.txt']")
    assert "outside the bundle root" in user_failure(tmp_path, text, name="app/app.py").message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.py", "there is no file"),
        ("folder.py", "is a folder"),
        ("app.txt", "not a Python file"),
        ("my.app.py", "a dot separates packages"),
        ("json.py", "would hide the module 'json'"),
        ("flyte.py", "would hide the module 'flyte'"),
    ],
)
def test_files_that_cannot_be_served(tmp_path, name, words):
    """What, why, and what to type: before any line of the file has run."""
    (tmp_path / "folder.py").mkdir()
    for other in ("app.txt", "my.app.py", "json.py", "flyte.py"):
        write(tmp_path, other, "raise SystemExit('ran')")
    with pytest.raises(UserCodeFailed) as caught:
        load_file(tmp_path / name)
    assert words in caught.value.message
    assert caught.value.hint


def test_ctrl_c_ends_a_file_that_hangs(tmp_path):
    """The interrupt reaches the user's code; the command ends at once, also when the code swallows it."""
    file = write(
        tmp_path,
        "app.py",
        "import time, pathlib\npathlib.Path('started').touch()\n"
        "while True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass\n",
    )
    program = (
        "import sys, os; from pathlib import Path; from flytectl import load, pythons\n"
        "load.run(Path(sys.argv[1]), pythons.Python(sys.executable, 'option'), pythons.Caller(None, os.environ), [])"
    )
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program, str(file)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environ, start_new_session=True, stderr=subprocess.PIPE)
    _wait_for(tmp_path / "started", process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in err
    assert subprocess.run(["pgrep", "-g", str(process.pid)], check=False, capture_output=True).stdout == b""


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if path.exists():
            return
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
    pytest.fail("the file was never imported")


def test_a_bundle_that_is_too_large(tmp_path):
    """A model beside the file does not go through the daemon: refused with its name, before it fills memory."""
    with (tmp_path / "model.bin").open("wb") as stream:
        stream.truncate(300 * 2**20)
    text = dedent(FASTAPI).replace("app=app", "app=app, include=['model.bin']")
    error = user_failure(tmp_path, text)
    assert "larger than 256 MiB" in error.message
    assert "model.bin" in error.message


def test_a_bundle_that_is_too_deep(tmp_path):
    """Said at serve, with the file's name; launch would refuse it at the start."""
    deep = "/".join(["d"] * 210)
    (tmp_path / deep).mkdir(parents=True)
    (tmp_path / deep / "data.txt").write_text("x")
    text = dedent(FASTAPI).replace("app=app", f"app=app, include=['{deep}/data.txt']")
    error = user_failure(tmp_path, text)
    assert "more than 200 folders deep" in error.message
    assert "include=" in error.hint
