"""Which apps an app asks for their address (``env.endpoint``), read in its code before it is served. Pure.

On a cluster the SDK asks the control plane; here an app reaches no other app, and would fail at its first request.
The code is read, not run: an environment is a name that is bound to ``…AppEnvironment(…)`` or ``….clone_with(…)`` at
module level, and what counts is ``.endpoint`` of one that the app names in ``depends_on``, directly or not. What is
not seen so is refused when the app asks (launch/control_plane.py).
"""

from __future__ import annotations

import ast
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from flyted.contract.errors import Unsupported

FILE_BYTES = 128 << 10
CODE_BYTES = 1 << 20
"""Of all files together: what is read of a statement takes a hundred times its length in memory."""
TOTAL_BYTES = 16 << 20
FILES = 4000
Place = tuple[str, str]
"""(module, variable)."""


@dataclass
class _Module:
    """What of a module matters: the environments that it makes, by variable, and the names that it imports."""

    tree: ast.Module
    environments: dict[str, list[ast.expr]] = field(default_factory=dict)  # variable → what it depends on
    imported: dict[str, Place] = field(default_factory=dict)  # name → (module, name there; "" for the module itself)


def check(app: str, bundle: IO[bytes], command: Sequence[str]) -> None:
    """Raises :class:`Unsupported` if the code in ``bundle`` (tar.gz) asks for the address of another app."""
    others = asked_for(sources_of(bundle), command)
    if others:
        asked = ", ".join(f"{variable}.endpoint" for variable in others)
        raise Unsupported(
            f"app '{app}' asks for the address of another app ({asked}): apps reach no other app here",
            hint="serve both as one app, or deploy the file to a Flyte cluster",
        )


def asked_for(sources: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """The variables of other apps' environments whose ``.endpoint`` is read in ``sources`` (path → text).

    ``command`` is the container's, with fserve's ``--resolver-args MODULE:VARIABLE``.
    """
    words = list(command)
    if "--resolver-args" not in words[:-1] or not any(".endpoint" in text for text in sources.values()):
        return []
    module, _, variable = words[words.index("--resolver-args") + 1].partition(":")
    try:
        return _asked_for(sources, (module, variable))
    except (RecursionError, MemoryError):
        return []  # nobody wrote this code; what it asks for is refused when it asks


def _asked_for(sources: Mapping[str, str], app: Place) -> list[str]:
    modules = {name: found for path, text in sources.items() for name, found in _read(path, text)}
    needed: set[Place] = set()
    _collect(_resolved(app, modules), modules, needed)
    used = {place for name, found in modules.items() for place in _uses(name, found, modules)}
    return sorted({variable for _, variable in used & needed})


def sources_of(bundle: IO[bytes]) -> dict[str, str]:
    """The Python files of a code bundle (tar.gz) that are not too large; none of what is no archive."""
    found: dict[str, str] = {}
    left = CODE_BYTES
    try:
        with tarfile.open(fileobj=bundle, mode="r|gz") as archive:
            for number, member in enumerate(archive):
                if number >= FILES or member.offset_data + member.size > TOTAL_BYTES:
                    break  # what is behind it is not worth unpacking
                if member.isreg() and member.name.endswith(".py") and member.size <= min(FILE_BYTES, left):
                    left -= member.size
                    file = archive.extractfile(member)
                    found[member.name.removeprefix("./")] = file.read().decode("utf-8", "replace") if file else ""
    except (tarfile.TarError, zlib.error, EOFError, OSError):
        return {}
    return found


def _read(path: str, text: str) -> Iterator[tuple[str, _Module]]:
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    try:
        module = _Module(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # it may never be imported
    package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
    for statement in module.tree.body:
        _note(statement, package, module)
    yield name, module


def _note(statement: ast.stmt, package: str, module: _Module) -> None:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
            _note_environment(name, call, module)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call):
            _note_environment(name, call, module)
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(id=name), "add_dependency"), args)):
            module.environments.get(name, []).extend(args)
        case ast.Import(names):
            module.imported |= {alias.asname or alias.name: (alias.name, "") for alias in names}
        case ast.ImportFrom(names=names, level=level):
            base = ".".join(part for part in (_parent(package, level), statement.module or "") if part)
            module.imported |= {alias.asname or alias.name: (base, alias.name) for alias in names}


def _note_environment(name: str, call: ast.Call, module: _Module) -> None:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if not called.endswith("AppEnvironment") and called != "clone_with":
        return
    lists = [keyword.value for keyword in call.keywords if keyword.arg == "depends_on"]
    module.environments[name] = [
        each for found in lists if isinstance(found, ast.List | ast.Tuple) for each in found.elts
    ]


def _parent(package: str, level: int) -> str:
    """The package that ``from .…`` begins at: one dot is the module's own."""
    parts = package.split(".") if package else []
    return ".".join(parts[: len(parts) - level + 1]) if level else ""


def _resolved(place: Place, modules: Mapping[str, _Module]) -> Place:
    """Where a variable is made, followed through imports."""
    for _ in range(16):
        module = modules.get(place[0])
        if module is None or place[1] in module.environments or place[1] not in module.imported:
            break
        place = module.imported[place[1]]
    return place


def _collect(place: Place, modules: Mapping[str, _Module], found: set[Place]) -> None:
    module = modules.get(place[0])
    for expression in module.environments.get(place[1], []) if module else []:
        other = _named(expression, place[0], modules)
        if other is not None and other not in found:
            found.add(other)
            _collect(other, modules, found)


def _named(expression: ast.expr, module: str, modules: Mapping[str, _Module]) -> Place | None:
    """The environment that ``name`` or ``module.name`` stands for in ``module``."""
    if isinstance(expression, ast.Name):
        return _resolved((module, expression.id), modules)
    if isinstance(expression, ast.Attribute):
        base, _, rest = ast.unparse(expression).rpartition(".")
        if base in modules[module].imported:
            there, name = modules[module].imported[base]
            return _resolved((f"{there}.{name}" if name else there, rest), modules)
    return None


def _uses(name: str, module: _Module, modules: Mapping[str, _Module]) -> Iterator[Place]:
    for statement in module.tree.body:
        if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
            continue  # runs where the file is served from, and not in the app
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and node.attr == "endpoint" and isinstance(node.ctx, ast.Load):
                place = _named(node.value, name, modules)
                if place is not None:
                    yield place
