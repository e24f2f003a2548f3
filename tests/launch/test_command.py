"""Flyte's command line, understood: what the SDK really writes, and what it never does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from flyted.launch import expand, fserve
from flyted.launch.refused import Refused

# the SDK warns when it is imported
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

TRUNK = Path(__file__).parent.parent.parent


def test_the_sdks_own_command_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command that the SDK makes for the document's app; a new option of a new SDK shows up here."""
    flyte_models = pytest.importorskip("flyte.models")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "basic_auth.py").write_bytes((TRUNK / "examples" / "basic_auth.py").read_bytes())
    module_spec = importlib.util.spec_from_file_location("basic_auth", tmp_path / "basic_auth.py")
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    monkeypatch.setitem(sys.modules, "basic_auth", module)
    module_spec.loader.exec_module(module)
    code = flyte_models.CodeBundle(computed_version="v1", tgz="file:///x/fast.tar.gz", destination=".")
    context = flyte_models.SerializationContext(
        version=None, project="p", domain="d", org="o", code_bundle=code, root_dir=tmp_path
    )
    command = module.env.container_cmd(context)
    assert command[-1] == "--"
    asked = fserve.parse(command)
    assert asked is not None
    assert (asked.version, asked.project, asked.domain, asked.org, asked.dest) == ("v1", "p", "d", "o", ".")
    assert (asked.tgz, asked.pkl) == ("file:///x/fast.tar.gz", "")
    assert fserve.target(asked.resolver_args) == ("basic_auth", "env")
    assert asked.raw_data_path == "{{.rawOutputDataPrefix}}"


@pytest.mark.parametrize("command", [["uvicorn", "a:b"], ["python", "-m", "fserve"], []])
def test_other_programs_are_not_fserve(command: list[str]) -> None:
    """`command=` of an environment replaces fserve."""
    assert fserve.parse(command) is None


def test_values_may_be_empty_joined_or_look_like_options() -> None:
    """click takes the next word as the value whatever it is; `--x=y` is one word."""
    asked = fserve.parse(["/image/bin/fserve", "--org", "", "--version=a=b", "--dest", "--odd", "--"])
    assert asked is not None
    assert (asked.org, asked.version, asked.dest) == ("", "a=b", "--odd")


@pytest.mark.parametrize("words", [["--version"], ["--unknown", "x", "--"], ["-z"], ["python", "--"]])
def test_an_option_that_fserve_lacks_is_refused(words: list[str]) -> None:
    """Never ignored: it may be what the app depends on."""
    with pytest.raises(Refused):
        fserve.parse(["fserve", *words])


def test_templates_are_filled_in() -> None:
    """A value is data: no quote, operator or pattern in it counts; unless it is marked it is split at its blanks."""
    environ = {"A": "1 2", "B": "*;'$A", "E": ""}
    assert expand.expand(["%{A}", "x%{A}y", "--k=%[A]z", "%[B]", "%24A%25", "a b", "*"], environ, ()) == [
        *("1 2", "x1 2y", "--k=1", "2z", "*;'$A", "$A%", "a b", "*")
    ]
    assert expand.expand(["%[E]", "%{E}", "%{}", "%{}%[E]", "x%[E]", ""], environ, ()) == ["", "", "", "x", ""]
    with pytest.raises(Refused, match="no secret or variable named 'C'"):
        expand.expand(["--k=%[C]"], environ, ())


def test_the_value_of_a_secret_is_never_split() -> None:
    """Unlike Flyte, where a shell would read it."""
    assert expand.expand(["--k=%[A]"], {"A": " 1 2; id "}, {"A"}) == ["--k= 1 2; id "]


def test_which_arguments_hold_a_secret() -> None:
    """Wherever in a word it is named."""
    assert expand.secrets_in(["%[A]", "%[B]", "A", "x%{A}", "--k=%[C]"], {"A", "C"}) == ["A", "C"]
