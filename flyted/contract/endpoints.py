"""Finds in an app's code which apps it names in ``depends_on``, and which others' address it reads. Pure.

Flyte's API does not say what an app depends on, so the gateway has to look: an app may call those that its environment
names in ``depends_on``, directly. The code is read, not run. An environment is a name that is bound at module level to
``…AppEnvironment(…)``, ``….clone_with(…)`` or a call with ``depends_on=``. ``.endpoint`` of an environment that the
app does not name may be read by a third app: it is served, and the user is warned.
"""

from __future__ import annotations

import ast
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from flyted.contract.fserve import options

FILE_BYTES = 128 << 10
CODE_BYTES = 1 << 20
"""Bytes of all files together: a parsed statement takes a hundred times its length in memory."""
TOTAL_BYTES = 16 << 20
FILES = 4000
Place = tuple[str, str]
"""(module, variable)."""
_NAME = "endpoint"
_SHOWN = 4  # names in one sentence


@dataclass
class _Module:
    """The parts of a module that matter: the environments that it makes, by variable, and the names in it."""

    tree: ast.Module
    environments: dict[str, list[ast.expr]] = field(default_factory=dict)  # variable → environments that it depends on
    apps: dict[str, str] = field(default_factory=dict)  # variable → name of the app; "": the code does not show it
    imported: dict[str, Place] = field(default_factory=dict)  # name → (module, name there; "" for the module itself)
    bound: set[str] = field(default_factory=set)  # every name that a statement of the module binds


@dataclass(frozen=True)
class Named:
    """What the code of an app says about other apps.

    ``apps``: the names of those that its environment names in ``depends_on``. ``hidden``: what is named there, as the
    code has it, if the code does not show the app's name. ``others``: environments, as the code names them, whose
    ``.endpoint`` it reads and that it does not name.
    """

    apps: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def notes(named: Named, *, known: bool) -> Iterator[str]:
    """Yield a sentence for what the app may not call, although its code suggests that it does.

    ``known``: whether it is known otherwise what the app depends on.
    """
    if named.hidden and not known:
        yield (
            f"depends_on has {', '.join(named.hidden[:_SHOWN])}, whose name the code does not show: to call that app, "
            'give the name as a text, name="…", or add a parameter with its AppEndpoint'
        )
    if named.others:
        yield f"its code reads {_endpoints(named.others)}: to call that app, it has to name it in depends_on"


def named_in(sources: Mapping[str, str], command: Sequence[str]) -> Named:
    """Return what ``sources`` (path → text of a Python file) say about other apps.

    ``command`` is the container's. Its option ``--resolver-args MODULE:VARIABLE`` of fserve names the app's own
    environment; without it, and for code too deeply nested to read, the answer is empty.
    """
    words = options(command)
    if "--resolver-args" not in words[:-1] or not any("depends_on" in t or _NAME in t for t in sources.values()):
        return Named()
    module, _, variable = words[words.index("--resolver-args") + 1].partition(":")
    try:
        return _named_in(sources, (module, variable))
    except (RecursionError, MemoryError):
        return Named()  # no person wrote such code; a call that is not allowed still fails when the app makes it


def _named_in(sources: Mapping[str, str], app: Place) -> Named:
    modules = {name: found for path, text in sources.items() for name, found in _read(path, text)}
    app = _resolved(app, modules)
    apps: dict[str, None] = {}
    hidden: dict[str, None] = {}
    direct = set()
    for expression in modules[app[0]].environments.get(app[1], []) if app[0] in modules else []:
        place = _named(expression, app[0], modules)
        name = modules[place[0]].apps.get(place[1]) if place is not None and place[0] in modules else None
        if name:
            apps[name] = None
            direct.add(place)
        elif name == "" or not _is_known(place, modules):
            hidden[_text(expression)] = None
            direct.add(place)
    made = {(name, variable) for name, found in modules.items() for variable in found.environments}
    asks_itself = not any(app in _needed(other, modules) for other in made)
    uses = (use for name, found in modules.items() for use in _uses(name, found, modules))
    others = {
        read for read, place in uses
        if place in made and place not in direct and (place != app or asks_itself)
    }  # fmt: skip
    return Named(tuple(apps), tuple(hidden), tuple(sorted(others)))


def _endpoints(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"{name}.{_NAME}" for name in names[:_SHOWN]) + more


def sources_of(bundle: IO[bytes]) -> dict[str, str]:
    """Return path → text of the Python files in a code bundle (tar.gz), leaving out those that are too large.

    The limits are ``FILE_BYTES`` a file and ``CODE_BYTES`` together; members behind the first ``FILES``, or behind
    ``TOTAL_BYTES`` of the unpacked archive, are not read. A bundle that is not a tar.gz gives an empty map.
    """
    found: dict[str, str] = {}
    left = CODE_BYTES
    try:
        with tarfile.open(fileobj=bundle, mode="r|gz") as archive:
            for number, member in enumerate(archive):
                if number >= FILES or member.offset_data + member.size > TOTAL_BYTES:
                    break  # the rest of so large a bundle is not worth unpacking
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
        return  # a file that cannot be parsed may never be imported
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
    lists = [keyword.value for keyword in call.keywords if keyword.arg == "depends_on"]
    if not called.endswith("TaskEnvironment"):
        named = [keyword.value for keyword in call.keywords if keyword.arg == "name"] or call.args[:1]
        texts = [each.value for each in named if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        module.apps[name] = texts[0] if texts else ""
    if not called.endswith("AppEnvironment") and called != "clone_with" and not lists:
        return
    module.environments[name] = [
        each for found in lists for each in (found.elts if isinstance(found, ast.List | ast.Tuple) else [found])
    ]


def _parent(package: str, level: int) -> str:
    """Return the package that ``from .…`` with ``level`` dots starts from: one dot is the module's own package."""
    parts = package.split(".") if package else []
    return ".".join(parts[: len(parts) - level + 1]) if level else ""


def _resolved(place: Place, modules: Mapping[str, _Module]) -> Place:
    """Return the place where a variable is made, following up to 16 imports."""
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
    """Report whether a name's meaning is known, so that it is no environment of the bundle.

    It is known if a module of the bundle binds it, or if it comes from a module outside the bundle.
    """
    return place is not None and (place[0] not in modules or place[1] in modules[place[0]].bound)


def _named(expression: ast.expr, module: str, modules: Mapping[str, _Module]) -> Place | None:
    """Return the place that ``name`` or ``module.name`` stands for in ``module``; None for other expressions."""
    if isinstance(expression, ast.Name):
        return _resolved((module, expression.id), modules)
    if isinstance(expression, ast.Attribute):
        base, _, rest = ast.unparse(expression).rpartition(".")
        if base in modules[module].imported:
            there, name = modules[module].imported[base]
            return _resolved((f"{there}.{name}" if name else there, rest), modules)
    return None


def _uses(name: str, module: _Module, modules: Mapping[str, _Module]) -> Iterator[tuple[str, Place | None]]:
    """Yield each expression whose ``.endpoint`` is read: its text, and the place it stands for if it is a name."""
    for statement in module.tree.body:
        if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
            continue  # this block runs where the file is served from, not in the app
        for node in ast.walk(statement):
            match node:
                case ast.Attribute(value=read, attr=attribute, ctx=ast.Load()) if attribute == _NAME:
                    yield _text(read), _named(read, name, modules)
                case ast.Call(ast.Name("getattr"), [read, ast.Constant(attribute), *_]) if attribute == _NAME:
                    yield _text(read), _named(read, name, modules)


def _text(expression: ast.expr) -> str:
    """Return an expression as the code writes it, or "…" if it is more than a name and its attributes."""
    return ast.unparse(expression) if isinstance(expression, ast.Name | ast.Attribute) else "…"
