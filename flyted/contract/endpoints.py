"""Which apps an app asks for their address (``env.endpoint``), read in its code before it is served. Pure.

On a cluster the SDK asks the control plane; here an app reaches no other app, and would fail at its first request.
The code is read, not run: an environment is a name that is bound to ``…AppEnvironment(…)`` or ``….clone_with(…)`` at
module level. What is refused is ``.endpoint`` of one that the app names in ``depends_on``, directly or not. Of another
one it may be a third app that asks, and of what is no such name nobody can tell whose it is: that is said.
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
_NAME = "endpoint"
_WHY = "apps reach no other app here"
_SHOWN = 4  # names in one sentence


@dataclass
class _Module:
    """What of a module matters: the environments that it makes, by variable, and the names that it imports."""

    tree: ast.Module
    environments: dict[str, list[ast.expr]] = field(default_factory=dict)  # variable → what it depends on
    imported: dict[str, Place] = field(default_factory=dict)  # name → (module, name there; "" for the module itself)
    bound: set[str] = field(default_factory=set)  # all other names of the module


@dataclass(frozen=True)
class Asked:
    """Whose ``.endpoint`` is read, as the code names them: by this app for certain, and perhaps by it."""

    certain: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()


def check(app: str, sources: Mapping[str, str], command: Sequence[str]) -> Iterator[str]:
    """Raises :class:`Unsupported` if the code asks for the address of another app; says where it may."""
    asked = asked_for(sources, command)
    if asked.certain:
        raise Unsupported(
            f"app '{app}' asks for the address of another app ({_endpoints(asked.certain)}): {_WHY}",
            hint="serve both as one app, or deploy the file to a Flyte cluster",
        )
    if asked.perhaps:
        yield f"its code reads {_endpoints(asked.perhaps)}: if that is an app's address, it fails there, since {_WHY}"


def asked_for(sources: Mapping[str, str], command: Sequence[str]) -> Asked:
    """Whose ``.endpoint`` is read in ``sources`` (path → text).

    ``command`` is the container's, with fserve's ``--resolver-args MODULE:VARIABLE``.
    """
    words = list(command)
    if "--resolver-args" not in words[:-1] or not any(_NAME in text for text in sources.values()):
        return Asked()
    module, _, variable = words[words.index("--resolver-args") + 1].partition(":")
    try:
        return _asked_for(sources, (module, variable))
    except (RecursionError, MemoryError):
        return Asked()  # nobody wrote this code; what it asks for is refused when it asks


def _asked_for(sources: Mapping[str, str], app: Place) -> Asked:
    modules = {name: found for path, text in sources.items() for name, found in _read(path, text)}
    app = _resolved(app, modules)
    needed = _needed(app, modules)
    made = {(name, variable) for name, found in modules.items() for variable in found.environments}
    asks_itself = not any(app in _needed(other, modules) for other in made)
    certain: set[str] = set()
    perhaps: set[str] = set()
    for read, place in (use for name, found in modules.items() for use in _uses(name, found, modules)):
        if place in needed:
            certain.add(place[1])
        elif (place in made and (place != app or asks_itself)) or (needed and not _is_known(place, modules)):
            perhaps.add(read)
    return Asked(tuple(sorted(certain)), tuple(sorted(perhaps)))


def _endpoints(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"{name}.{_NAME}" for name in names[:_SHOWN]) + more


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
    module.bound |= set(_bound_by(statement))
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


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


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


def _needed(app: Place, modules: Mapping[str, _Module]) -> set[Place]:
    found: set[Place] = set()
    _collect(app, modules, found)
    return found


def _collect(place: Place, modules: Mapping[str, _Module], found: set[Place]) -> None:
    module = modules.get(place[0])
    for expression in module.environments.get(place[1], []) if module else []:
        other = _named(expression, place[0], modules)
        if other is not None and other not in found:
            found.add(other)
            _collect(other, modules, found)


def _is_known(place: Place | None, modules: Mapping[str, _Module]) -> bool:
    """Whether a module, or one that is not in the bundle, says what a name stands for: then it is no environment."""
    return place is not None and (place[0] not in modules or place[1] in modules[place[0]].bound)


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


def _uses(name: str, module: _Module, modules: Mapping[str, _Module]) -> Iterator[tuple[str, Place | None]]:
    """What ``.endpoint`` is read of: its text, and the environment if it is one."""
    for statement in module.tree.body:
        if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
            continue  # runs where the file is served from, and not in the app
        for node in ast.walk(statement):
            match node:
                case ast.Attribute(value=read, attr=attribute, ctx=ast.Load()) if attribute == _NAME:
                    yield _text(read), _named(read, name, modules)
                case ast.Call(ast.Name("getattr"), [read, ast.Constant(attribute), *_]) if attribute == _NAME:
                    yield _text(read), _named(read, name, modules)


def _text(expression: ast.expr) -> str:
    """How the code names something, short enough for a sentence."""
    return ast.unparse(expression) if isinstance(expression, ast.Name | ast.Attribute) else "…"
