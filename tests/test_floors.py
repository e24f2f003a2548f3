"""The daemon's floors: a request goes down, and what is below calls nothing above but by what it was given."""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from pathlib import Path

from tests.test_walls import imported_modules, module_of
from tests.walls import ROOT, SOURCES, tree_of

FLOORS = (
    ("__main__",),
    # what clients call
    ("apps.*", "doctor", "models", "gateway", "secrets.verbs", "gpus.verbs", "access.login", "access.tokens",
     "images.building", "images.prune", "images.rebuild", "images.secret_uses"),
    ("loop", "secrets.handover"),
    ("upkeep", "gpus.leases"),
    ("execute", "look", "explain", "failures", "gpus.reclaim"),
    # what makes and keeps things
    ("images.*", "ingress.*", "access.ingress_tokens", "gpus.*", "secrets.credentials", "apps.bundles"),
    # the border to clients, and to the machine
    ("api.*", "effects", "state", "config", "settings"),
)  # fmt: skip
"""From above to below, by module; a module is on the floor that names it, else on the first whose pattern fits."""
CHANGES = {
    "run_transient", "start_pair", "start_socket", "allow_devices", "start", "begin", "restart", "stop", "kill",
}  # fmt: skip
"""What of ``effects.Units`` changes a unit."""
UNITS = {"units", "_units"}
"""The names under which modules have them."""
CHANGE_UNITS = {
    "execute",  # units of apps
    "images.builds", "images.venvs", "images.unused",  # builds and removals, each an action of the loop
    "apps.data",  # the copy and the removal of an app's data
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


def test_the_checks_can_fail() -> None:
    """A call from below is one."""
    assert floor_of("images.roots") > floor_of("loop") > floor_of("apps.deploy")
    assert changes_units(ast.parse("await self._units.stop('x')"))
    assert not changes_units(ast.parse("self._loop.stop()"))


def _short(module: str) -> str:
    return module.removeprefix("flyted.daemon.")
