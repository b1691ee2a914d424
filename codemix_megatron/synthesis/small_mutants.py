"""A program with one small change, in many ways: what a test should notice."""

import ast
import copy
from collections.abc import Iterator
from typing import Any

from codemix_megatron.python_source import parse_python

__all__ = ["MOST_MUTANTS", "mutants_of"]

MOST_MUTANTS = 8
SWAPPED: dict[type, Any] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


def mutants_of(program: str, most: int = MOST_MUTANTS) -> list[str]:
    """Return programs that differ from this one in one operator, comparison, number, truth value or answer, spread evenly over it."""
    tree = parse_python(program)
    changed = list(dict.fromkeys(text for text in changes(tree) if text != ast.unparse(tree)))
    if len(changed) <= most:
        return changed
    return [changed[index * len(changed) // most] for index in range(most)]


def changes(tree: ast.Module) -> Iterator[str]:
    """Yield the text of the program with each change by itself."""
    for number, node in enumerate(ast.walk(tree)):
        if mutated(node) is not None:
            copied = copy.deepcopy(tree)
            change(list(ast.walk(copied))[number])
            yield ast.unparse(copied)


def mutated(node: ast.AST) -> object | None:
    """Return what would change in a node; None where nothing would."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)):
        return SWAPPED.get(type(node.op))
    if isinstance(node, ast.Compare):
        return SWAPPED.get(type(node.ops[0]))
    if isinstance(node, ast.Return):
        return node.value
    return node if isinstance(node, ast.Constant) and type(node.value) in (int, bool, float) else None


def change(node: ast.AST) -> None:
    """Change a node in place."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)):
        node.op = SWAPPED[type(node.op)]()
    elif isinstance(node, ast.Compare):
        node.ops[0] = SWAPPED[type(node.ops[0])]()
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    elif isinstance(node, ast.Constant):
        value: Any = node.value
        node.value = not value if isinstance(value, bool) else value + 1
