"""Everything a user can get wrong: one clear message, a hint, a status, and nothing changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.machine.kit.bad_input import IMAGE, file, secret
from tests.machine.kit.users import answer, by, give, refused

pytestmark = pytest.mark.usefixtures("no_apps_left")


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("text", "words", "status", "said"),
    [
        ("def broken(:\n", [], 3, r"app\.py is not valid Python"),
        ("import no_such_package_at_all\n", [], 3, "no_such_package_at_all"),
        ("def inner():\n    raise ValueError('mine')\n\ninner()\n", [], 3, r"in inner\n.*ValueError: mine"),
        ("x = 1\n", [], 3, "no app environment"),
        ("import sys\nsys.exit(0)\n", [], 3, "exits when it is imported"),
        ("import os\nos._exit(0)\n", [], 3, "without an answer"),
        (None, ["nothing"], 3, r"no environment 'nothing'(.|\n)*hint: it has: env \(bad\)"),
    ],
    ids=["syntax", "missing package", "raises", "no environment", "exits", "dies", "unknown environment"],
)
def test_a_file_that_cannot_be_imported(text: str | None, words: list[str], status: int, said: str) -> None:
    """Syntax, imports, exceptions, exits, no or another environment: the user's own frames at most."""
    name = file() if text is None else give("bad/app.py", text)
    shown = refused("flytectl", "serve", name, *words, status=status)
    assert re.search(said, shown, re.DOTALL), shown
    assert "importlib" not in shown


@pytest.mark.usefixtures("unchanged")
def test_a_file_that_is_not_there() -> None:
    """A missing file, a folder, and a file that alice may not read are told apart."""
    assert "there is no file nowhere.py" in refused("flytectl", "serve", "nowhere.py", status=4)
    assert "is a folder" in refused("flytectl", "serve", "/tmp", status=2)
    Path("/home/alice/roots.py").write_text("x = 1\n")
    Path("/home/alice/roots.py").chmod(0o600)
    assert "Permission denied" in refused("flytectl", "serve", "roots.py", status=3)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("env_vars={'LD_PRELOAD': '/tmp/x.so'}", "LD_PRELOAD"),
        ("env_vars={'PATH': '/tmp'}", "'PATH'"),
        ("env_vars={'A': 'nul\\0'}", "control character|NUL|null"),
        ("secrets=flyte.Secret(key='K', as_env_var='LD_PRELOAD')", "LD_PRELOAD"),
        ("scaling=flyte.app.Scaling(replicas=(65, 66))", r"replicas=\(65, 66\)"),
        ("resources=flyte.Resources(gpu=1)", "gpu"),
        ("resources=flyte.Resources(memory='1Ki')", "memory"),
    ],
)
def test_fields_that_are_wrong_or_not_built(options: str, said: str) -> None:
    """Each is refused by its own name; none is ignored."""
    image = options.removeprefix("image=") if options.startswith("image=") else IMAGE
    options = "" if image != IMAGE else options
    assert re.search(said, refused("flytectl", "serve", file(options, image=image), status=2))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "dash-", "a" * 64, "dot.ted", "sp ace", "ü", "a/b"])
def test_names_that_are_no_names(name: str) -> None:
    """In the file, on the command line, as project and domain, and as a secret's key."""
    assert by("alice", "flytectl", "serve", file(name=name)).returncode in (2, 3)
    refused("flytectl", "app", "get", "--", name, status=2)
    refused("flytectl", "app", "get", "x", f"--project={name}", status=2)
    refused("flytectl", "secret", "get", "K", f"--domain={name}", status=2)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("key", ["../up", ".hidden", "/b", "sp ace", "x" * 129, "a/b/c", "a..b", "new\nline", "ü"])
def test_keys_that_are_no_keys(key: str) -> None:
    """A key never becomes another path, option or line."""
    assert "secret key" in refused("flytectl", "secret", "create", "--", key, "v", status=2)


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("unchanged")
def test_a_secret_that_is_missing() -> None:
    """The error names the app, the key and the command that stores it; nothing is built for it."""
    said = refused("flytectl", "serve", file("secrets='NOT_THERE'"), status=4)
    assert "NOT_THERE" in said
    assert "hint: flytectl secret create NOT_THERE" in said


@pytest.mark.usefixtures("unchanged")
def test_a_secret_of_another_scope() -> None:
    """A secret of another project's is not there for this app."""
    with secret("ELSEWHERE", "v", "-p", "other", "-d", "production"):
        assert "ELSEWHERE" in refused("flytectl", "serve", file("secrets='ELSEWHERE'"), status=4)


@pytest.mark.usefixtures("unchanged")
def test_values_of_wrong_size() -> None:
    """Empty, and above 512 KiB: refused before anything is stored."""
    assert "empty" in refused("flytectl", "secret", "create", "K", "-", typed="", status=2)
    assert "512 KiB" in refused("flytectl", "secret", "create", "K", "-", typed="x" * (512 * 1024 + 1), status=2)


@pytest.mark.usefixtures("unchanged")
def test_values_that_are_too_much_together() -> None:
    """More than 900 KiB for one app: its unit could not hold them."""
    half = "x" * (500 * 1024)
    with secret("BIG_A", half), secret("BIG_B", half):
        name = file("secrets=[flyte.Secret('BIG_A', as_env_var='A'), flyte.Secret('BIG_B', as_env_var='B')]")
        assert "the limit is 900 KiB" in refused("flytectl", "serve", name, status=2)


@pytest.mark.usefixtures("unchanged")
def test_a_replacement_that_nobody_asked_for() -> None:
    """An existing key keeps its value and dates without --replace."""
    with secret("KEPT", "v"):
        before = answer("secret", "get", "KEPT")
        assert "--replace" in refused("flytectl", "secret", "create", "KEPT", "-", typed="other", status=5)
        assert answer("secret", "get", "KEPT") == before


# ── images ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("unchanged")
def test_a_package_that_does_not_exist() -> None:
    """uv's own words are shown while it builds, and the error says which layer failed."""
    image = 'flyte.Image.from_debian_base().with_pip_packages("flyted-there-is-no-such-package==1.2.3")'
    done = by("alice", "flytectl", "serve", file(image=image))
    assert done.returncode == 8
    assert done.stdout == ""
    shown, _, error = done.stderr.partition("flytectl: ")
    assert "flyted-there-is-no-such-package" in shown
    assert error.startswith("the image could not be built: layer 1 of the image (pip packages): "), error
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("unchanged")
def test_what_no_layer_can_be_made_of() -> None:
    """Refused by its name, before anything is made."""
    image = "flyte.Image.from_debian_base().with_apt_packages('git; rm -rf /')"
    assert "is not a valid package of apt" in refused("flytectl", "serve", file(image=image), status=2)


@pytest.mark.usefixtures("unchanged")
def test_a_server_function_on_an_old_python() -> None:
    """Known from the name of the image's base, before anything is built."""
    image = "flyte.Image.from_debian_base(python_version=(3, 9)).with_apt_packages('jq')"
    assert "has Python 3.9, and its server function needs 3.10" in refused(
        "flytectl", "serve", file(image=image), status=2
    )


@pytest.mark.usefixtures("unchanged")
def test_an_environment_that_is_none() -> None:
    """``--python-env`` with a folder that is no environment."""
    assert "bin/python" in refused("flytectl", "serve", file(), "--python-env", "/tmp", status=4)
