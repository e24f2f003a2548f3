"""An ``Iterable`` may be a generator, which is empty at its second use: a parameter of that type is used once."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.walls import ROOT, SOURCES, tree_of

pytestmark = pytest.mark.slow


def uses(node: ast.AST, name: str, *, repeated: bool = False) -> Iterator[bool]:
    """Yield, for each use of a variable, whether it is in a part that runs more than once."""
    if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
        yield repeated
    once: list[ast.AST] = []
    if isinstance(node, ast.For | ast.AsyncFor):
        once, repeated = [node.iter], True
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        first, *others = node.generators
        yield from uses(first.iter, name, repeated=repeated)
        for part in (*first.ifs, *others, *ast.iter_child_nodes(node)):
            if part is not first:
                yield from uses(part, name, repeated=True)
        return
    for child in ast.iter_child_nodes(node):
        within = repeated or isinstance(node, ast.While)
        yield from uses(child, name, repeated=within and child not in once)


def is_iterable(annotation: ast.expr | None) -> bool:
    """True for ``Iterable[…]`` and ``Iterator[…]``."""
    return annotation is not None and ast.unparse(annotation).startswith(("Iterable[", "Iterator["))


def is_stored(body: ast.AST, name: str) -> bool:
    """True if a variable is set."""
    return any(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in ast.walk(body))


def used_again(tree: ast.AST) -> list[str]:
    """The parameters of type ``Iterable`` and ``Iterator`` that are used twice, or in a loop; not those set anew."""
    found = []
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = ast.Module(function.body, [])
        for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs):
            if not is_iterable(each.annotation) or is_stored(body, each.arg):
                continue
            many = list(uses(body, each.arg))
            if len(many) > 1 or any(many):
                found.append(f"{function.name}({each.arg})")
    return found


def test_a_parameter_that_may_be_a_generator_is_used_once() -> None:
    """Else it is a ``Sequence`` or a ``Collection``."""
    found = {str(path.relative_to(ROOT)): used_again(tree_of(path)) for path in SOURCES}
    assert len(found) > 300, "this check looks at nothing"
    assert {path: parameters for path, parameters in found.items() if parameters} == {}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("return [*a]", []),
        ("return [b for b in enumerate(a)]", []),
        ("for b in a: print(b)", []),
        ("a = list(a); return a, a", []),
        ("return [*a, *a]", ["f(a)"]),
        ("for b in a: pass\n for b in a: pass", ["f(a)"]),
        ("for b in c: print(b in a)", ["f(a)"]),
        ("while c: print(*a)", ["f(a)"]),
        ("return [b for b in c if b in a]", ["f(a)"]),
        ("return [b for b in c for d in a]", ["f(a)"]),
        ("return {b: list(a) for b in c}", ["f(a)"]),
    ],
)
def test_a_second_use_is_seen(body: str, found: list[str]) -> None:
    """In every kind of loop."""
    assert used_again(ast.parse(f"def f(a: Iterable[int], c):\n {body}")) == found
