"""Folders are walls, and the daemon has floors: what each file imports is compared with the tables."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.walls import ROOT, SOURCES, WALLS, tree_of

pytestmark = pytest.mark.slow

OURS = ("flyted", "flytectl")


CLOCKS_AND_CHANCE = "time random secrets uuid"
THE_WORLD = """asyncio ctypes fcntl glob grp http io logging multiprocessing os pwd pynvml pystemd resource select
    selectors shutil signal socket sqlite3 ssl subprocess sys syslog tempfile threading urllib"""
IMPURE = frozenset(f"{CLOCKS_AND_CHANCE} {THE_WORLD}".split())
"""Never inside flyted.plan."""
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__"})
LATER_THAN_3_10 = """tomllib wsgiref.types enum.StrEnum datetime.UTC contextlib.chdir hashlib.file_digest
    typing.Self typing.Never typing.LiteralString typing.assert_never typing.reveal_type typing.override
    asyncio.TaskGroup asyncio.timeout asyncio.Runner"""
NEW_IN_3_11 = frozenset(LATER_THAN_3_10.split())
OLD_PYTHON = ("flyted.launch", "flyted.build", "flytectl.loader")
"""Folders that run in a Python that the user chose, 3.10 or newer."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def wall_of(module: str) -> str | None:
    return max((w for w in WALLS if module == w or module.startswith(w + ".")), key=len, default=None)


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Every imported name, absolute, `from a import b` as a.b; wherever it stands in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            stem = ".".join(filter(None, ((base if node.level else ""), node.module)))
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == a or name.startswith(a + ".") for a in allowed)


@functools.cache
def imports_of(module: str, path: Path) -> frozenset[str]:
    """What a module imports, absolute."""
    return frozenset(imports(tree_of(path), module if path.name == "__init__.py" else module.rpartition(".")[0]))


def complaint(folder: str, module: str, name: str) -> str | None:
    """Why ``module`` in ``folder`` may not import ``name``, or None."""
    wall, top, stem = WALLS[folder], name.split(".", 1)[0], module.rsplit(".", 1)[-1]
    if top in OURS:
        # `from flyted import contract` names a package: it must be one that is allowed
        if within(name, wall.never):
            return "forbidden here by name"
        return None if within(name, (folder, *wall.ours)) or name in OURS else "behind another wall"
    if top == "_flyted_launch":  # the name under which launch/__main__.py loads its own folder
        return None if folder == "flyted.launch" else "launch's private name"
    if top in sys.stdlib_module_names:
        return "impure" if folder == "flyted.plan" and top in IMPURE else None
    if top not in wall.others:
        return "not a package that this folder may use"
    files = wall.others[top]
    return None if not files or stem in files else f"only {', '.join(files)} may"


def forbidden_imports(path: Path) -> dict[str, str]:
    """What a file imports and may not, and why."""
    module = module_of(path)
    folder = wall_of(module)
    assert folder is not None, f"{module} stands behind no wall: give its folder a row in WALLS"
    return {name: why for name in imports_of(module, path) if (why := complaint(folder, module, name))}


def test_a_file_imports_only_what_its_folder_may() -> None:
    """A folder is a wall: each import is allowed by the folder's row in WALLS."""
    first = ROOT / "flyted/__init__.py"
    assert first.read_text() == "", "it runs wherever any part of flyted does"
    bad = {module_of(path): forbidden_imports(path) for path in SOURCES if path != first}
    assert len(bad) > 300, "this check looks at nothing"
    assert {module: names for module, names in bad.items() if names} == {}


def impure_calls(tree: ast.AST) -> set[str]:
    """The built-ins that read, write or run something, and the clocks, of a file."""
    names = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    return names & IMPURE_CALLS | attributes & {"now", "today", "utcnow"}


def test_a_plan_touches_nothing() -> None:
    """flyted.plan is pure: what reads, writes or runs something is not called, and time is an argument."""
    found = {module_of(path): impure_calls(tree_of(path)) for path in (ROOT / "flyted/plan").rglob("*.py")}
    assert len(found) > 50, "this check looks at nothing"
    assert {module: names for module, names in found.items() if names} == {}


def new_in_3_11(source: str) -> set[str]:
    """What a file uses that Python 3.10 has not. A SyntaxError for newer syntax."""
    tree = ast.parse(source, feature_version=(3, 10))
    used = set(imports(tree, "")) | {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    return used & NEW_IN_3_11


def test_code_that_runs_in_the_apps_python_reads_on_3_10() -> None:
    """launch, build and the loader run in a Python of the user's choice: 3.10 syntax and 3.10's standard library."""
    files = [path for path in SOURCES if wall_of(module_of(path)) in OLD_PYTHON]
    assert len(files) > 20, "this check looks at nothing"
    found = {module_of(path): new_in_3_11(path.read_text()) for path in files}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (lambda: new_in_3_11("import tomllib"), {"tomllib"}),
        (lambda: new_in_3_11("import datetime\nx = datetime.UTC"), {"datetime.UTC"}),
        (lambda: impure_calls(ast.parse("open('a')")), {"open"}),
        (lambda: impure_calls(ast.parse("datetime.now()")), {"now"}),
    ],
)
def test_what_is_forbidden_is_seen(check: Callable[[], set[str]], bad: set[str]) -> None:
    """The checks themselves can fail."""
    assert check() == bad


def test_newer_syntax_is_seen() -> None:
    """``except*`` is new in 3.11."""
    with pytest.raises(SyntaxError):
        new_in_3_11("try: pass\nexcept* OSError: pass")


@pytest.mark.parametrize("folder", ["launch", "build", "layers", "registry", "acme"])
def test_shared_words_import_nothing(folder: str) -> None:
    """Both sides import them: the plan, which is pure, and a program that runs elsewhere."""
    assert set(imports(tree_of(ROOT / "flyted" / folder / "words.py"), "")) <= {"__future__.annotations", "re"}


def module_in(name: str, modules: dict[str, Path]) -> str:
    """The module of ours in which an imported name is, or "" for another's."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def imported_modules(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Module → those of ours that it imports, late imports included."""
    graph = {}
    for module, path in modules.items():
        found = {module_in(name, modules) for name in imports_of(module, path)}
        graph[module] = found - {"", module}
    return graph


def test_no_module_imports_itself_through_others() -> None:
    """Imports form no circle, late ones included: modules of a circle can only be read, and changed, together."""
    tuple(TopologicalSorter(imported_modules({module_of(path): path for path in SOURCES})).static_order())


def test_a_circle_of_imports_is_noticed(tmp_path: Path) -> None:
    """The check can fail, over a late import, too."""
    modules = {f"ours.{name}": tmp_path / f"{name}.py" for name in "ab"}
    modules["ours.a"].write_text("from ours import b\n")
    modules["ours.b"].write_text("def f():\n    from .a import g\n")
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(imported_modules(modules)).static_order())


def test_every_wall_stands() -> None:
    """A row of WALLS whose folder is gone would protect nothing."""
    assert [w for w in WALLS if not (ROOT / w.replace(".", "/")).is_dir()] == []


@pytest.mark.parametrize(
    ("folder", "module", "name"),
    [
        ("flyted.base", "flyted.base.files", "flyted.contract.errors"),
        ("flyted.plan", "flyted.plan.idle", "flyted.base.files"),
        ("flyted.plan", "flyted.plan.units", "flyted.launch.options.parse"),
        ("flyted.plan", "flyted.plan.idle", "time"),
        ("flyted.plan", "flyted.plan.idle", "flyted.host.store"),
        ("flyted.plan", "flyted.plan.idle", "flyted.contract.client.call"),
        ("flyted.contract", "flyted.contract.app", "msgpack"),
        ("flyted.host", "flyted.host.units", "flyted.plan.reconcile"),
        ("flyted.daemon", "flyted.daemon.loop", "flyte"),
        ("flyted.daemon", "flyted.daemon.loop", "flytectl.render"),
        ("flyted.gateway", "flyted.gateway.services.apps", "flyted.daemon.loop"),
        ("flyted.gateway", "flyted.gateway.services.apps", "flyte.app"),
        ("flyted.launch", "flyted.launch.run", "flyted.contract.names"),
        ("flyted.build", "flyted.build.__main__", "flyted.contract"),
        ("flyted.daemon", "flyted.daemon.gpus.leases", "pynvml"),
        ("flyted.gpu", "flyted.gpu.serve", "flyted.plan.gpus.facts"),
        ("flytectl", "flytectl.load", "flyte.app"),
        ("flytectl", "flytectl.load", "flyted.daemon.loop"),
        ("flytectl.loader", "flytectl.loader.run", "flytectl.render"),
    ],
)
def test_the_walls_have_no_door(folder: str, module: str, name: str) -> None:
    """The check itself can fail: each of these imports is refused."""
    assert complaint(folder, module, name)


FLOORS = (
    ("__main__",),
    # what clients call
    ("apps.*", "doctor", "models", "volumes", "gateway", "secrets.verbs", "gpus.verbs", "access.login",
     "access.tokens", "images.building", "images.prune", "images.rebuild", "images.secret_uses", "ingress.domains"),
    ("loop", "secrets.handover"),
    ("upkeep", "gpus.leases"),
    ("execute", "look", "explain", "failures", "remembered", "listeners", "gpus.reclaim"),
    # what makes and keeps things
    ("images.*", "ingress.*", "access.ingress_tokens", "gpus.*", "secrets.credentials", "apps.bundles",
     "apps.callers", "apps.idle"),
    # the border to clients, and to the machine
    ("api.*", "effects", "state", "config", "settings"),
)  # fmt: skip
"""From above to below, by module; a module is on the floor that names it, else on the first whose pattern fits."""
CHANGES = {
    "run_transient", "start_pair", "start_socket", "allow_devices", "start", "start_beside", "begin",
    "restart", "stop", "kill",
}  # fmt: skip
"""What of ``effects.Units`` changes a unit."""
UNITS = {"units", "_units"}
"""The names under which modules have them."""
CHANGE_UNITS = {
    "execute", "apps.idle",  # units of apps
    "images.builds", "images.venvs", "images.unused",  # builds and removals, each an action of the loop
    "apps.data", "apps.data_verbs",  # the size of an app's data, and the way of it in and out
    "ingress.listen",  # the ingress's own socket, before the loop begins
}  # fmt: skip


def floor_of(module: str) -> int:
    """Return the number of a module's floor, 0 the highest."""
    by_name = [number for number, floor in enumerate(FLOORS) if module in floor]
    by_pattern = [n for n, floor in enumerate(FLOORS) if any(fnmatchcase(module, pattern) for pattern in floor)]
    return (by_name or by_pattern)[0]


def daemon_modules() -> dict[str, Path]:
    """Return the daemon's modules, by name below ``flyted.daemon``."""
    found = {module_of(path): path for path in SOURCES if path.is_relative_to(ROOT / "flyted/daemon")}
    return {name: path for name, path in found.items() if path.name != "__init__.py"}


def test_a_module_imports_nothing_of_a_floor_above() -> None:
    """What calls upwards does so by a function that it was given: a poke, a listener."""
    modules = daemon_modules()
    assert len(modules) > 50, "this check looks at nothing"
    graph = {_short(name): {_short(each) for each in found} for name, found in imported_modules(modules).items()}
    above = {(name, each) for name, found in graph.items() for each in found if floor_of(each) < floor_of(name)}
    assert above == set()


def test_units_are_changed_in_few_places() -> None:
    """Each of the others is an action of the loop, or done before it begins."""
    found = {_short(name) for name, path in daemon_modules().items() if changes_units(tree_of(path))}
    assert found == CHANGE_UNITS


def changes_units(tree: ast.AST) -> bool:
    """Report whether a module calls a function that changes units."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return any(
        isinstance(func, ast.Attribute)
        and func.attr in CHANGES
        and ast.unparse(func.value).rpartition(".")[2] in UNITS
        for func in calls
    )


def test_a_call_from_below_is_noticed() -> None:
    """A call from below is one."""
    assert floor_of("images.roots") > floor_of("loop") > floor_of("apps.deploy")
    assert changes_units(ast.parse("await self._units.stop('x')"))
    assert not changes_units(ast.parse("self._loop.stop()"))


def _short(module: str) -> str:
    return module.removeprefix("flyted.daemon.")
