"""Every constructor, method and layer class of the SDK's ``Image``, and the machine test that serves it.

``python -m tests.image_table`` writes the table into flyted-compat(7) and CONTRIBUTING.md; tests/plan/test_compat.py
compares. What a test serves, it says itself: ``@pytest.mark.serves("with_apt_packages", …)``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE, DOCUMENT = ROOT / "packaging/man/flyted-compat.7", ROOT / "CONTRIBUTING.md"
BY_FLYTE: dict[str, str] = {"from_dockerfile": "Custom Dockerfile is not supported with remote image builder"}
"""What `flyte` itself refuses → its words; all else that works is built by both commands."""
WHEELS = ("with_local_rs_controller", "with_local_v2", "with_local_v2_plugins")
"""They need a checkout of the SDK itself, and add wheels made of it: the layer class is served."""
BEGIN, END = "<!-- python -m tests.image_table -->", "<!-- end of the table -->"
ABOUT = "What works, by its name in the SDK: what an image begins as, what is added to it, and the classes of layers."
MACHINE = ROOT / "tests/machine"


@dataclass(frozen=True)
class Row:
    """One name of the SDK's. ``test``: ``module::function`` in tests/machine. ``flyte``: what `flyte` makes of it."""

    name: str
    test: str
    flyte: str


def constructors() -> list[str]:
    """Return the names of what an image begins as, and of ``clone``."""
    from flyte import Image

    return [*(n for n, _ in inspect.getmembers(Image, inspect.ismethod) if n.startswith("from_")), "clone"]


def methods() -> list[str]:
    """Return the names of what adds to an image."""
    from flyte import Image

    return [n for n, _ in inspect.getmembers(Image, inspect.isfunction) if n.startswith("with_")]


def layers() -> dict[str, list[str]]:
    """Return the layer classes, each with the names of what makes one."""
    from flyte import Image, _image

    kinds = {n: k for n, k in vars(_image).items() if inspect.isclass(k) and issubclass(k, _image.Layer)}
    bare = {type(layer).__name__ for layer in Image.from_debian_base(install_flyte=False)._layers}
    found: dict[str, list[str]] = {name: [] for name in sorted(kinds) if name != "Layer"}
    for maker in (*methods(), *constructors()):
        source = inspect.getsource(getattr(Image, maker))
        for name, makers in found.items():
            if re.search(rf"\b{name}[.(]", source) or (maker == "from_uv_script" and name in bare):
                makers.append(maker)
    return found


def rows() -> list[Row]:
    """Return the whole table. Raise KeyError for a name that no test serves."""
    served, made = served_by(), layers()
    for name, makers in made.items():
        if name not in served and (first := next((each for each in makers if each in served), "")):
            served[name] = served[first]
    for name in WHEELS:
        served.setdefault(name, served["PythonWheels"])
    names = (*constructors(), *methods(), *made)
    return [Row(name, served[name], f"refused: {BY_FLYTE[name]}" if name in BY_FLYTE else "works") for name in names]


def served_by() -> dict[str, str]:
    """Return what the tests of a machine say that they serve → the first test that does."""
    found: dict[str, str] = {}
    for path in sorted(MACHINE.glob("test_*.py")):
        tree = ast.parse(path.read_text())
        for function, names in _marked(tree):
            used = _text_of(function.name, tree, path.read_text())
            for name in names:
                if not re.search(rf"\b{name}\(", used):
                    raise ValueError(f"{path.name}::{function.name} does not use {name}")
                found.setdefault(name, f"{path.name}::{function.name}")
    return found


def _marked(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, list[str]]]:
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            for mark in function.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.serves":
                    yield function, [str(ast.literal_eval(each)) for each in mark.args]


def _text_of(test: str, tree: ast.Module, text: str) -> str:
    """Return the text of a test, and of all in its module that it uses by name, but for what marks it."""
    known: dict[str, ast.stmt] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node]
        known.update({str(getattr(each, "name", getattr(each, "id", ""))): node for each in targets})
    wanted, seen = [test], set[str]()
    parts: list[str] = []
    while wanted:
        name = wanted.pop()
        if name in seen or name not in known:
            continue
        seen.add(name)
        node = known[name]
        parts.append(ast.get_source_segment(text, node) or "")
        wanted += [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]
        wanted += [each.arg for each in ast.walk(node) if isinstance(each, ast.arg)]
    return "\n".join(parts)


def man(table: Iterable[Row]) -> str:
    """Return the table as a section of a man page."""
    lines = [f".It Li {row.name} Ta works Ta {row.flyte}" for row in table]
    head = ["Em name Ta Em flytectl Ta Em flyte", '.Bl -column "with_local_rs_controller" "flytectl" "works"']
    return "\n".join([".Sh TABLE", ABOUT, head[1], f".It {head[0]}", *lines, ".El", ""])


def markdown(table: Iterable[Row]) -> str:
    """Return the table with its tests, for developers."""
    lines = [f"| `{row.name}` | `{row.test}` | {row.flyte} |" for row in table]
    return "\n".join([BEGIN, "| name | test in tests/machine | by `flyte` |", "|---|---|---|", *lines, END])


def section(text: str, begin: str, end: str) -> str:
    """Return the part of a text from ``begin`` up to ``end``. Raise ValueError if it has none."""
    at = text.index(begin)
    return text[at : text.index(end, at)]


if __name__ == "__main__":
    whole = rows()
    page, document = PAGE.read_text(), DOCUMENT.read_text()
    PAGE.write_text(page.replace(section(page, ".Sh TABLE", ".Sh PLUG-INS"), man(whole)))
    DOCUMENT.write_text(document.replace(section(document, BEGIN, END) + END, markdown(whole)))
