"""The code of tests: where they begin in a program, and a count before each of their assertions."""

import ast

__all__ = ["Counting", "divided"]

PROGRAM = "program.py"


class Counting(ast.NodeTransformer):
    """Puts a call before every assertion, and one at the beginning of every function."""

    def visit_Assert(self, node):
        return [located(call_of("__assertion__"), node), node]

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        is_described = node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
        node.body.insert(1 if is_described else 0, located(call_of("__entered__", node.name), node))
        return node

    visit_AsyncFunctionDef = visit_FunctionDef


def call_of(function: str, *arguments) -> ast.stmt:
    """Return the statement that calls a function."""
    return ast.Expr(ast.Call(ast.Name(function, ast.Load()), [ast.Constant(a) for a in arguments], []))


def located(made: ast.stmt, node: ast.stmt) -> ast.stmt:
    """Give a made statement the source location of another."""
    return ast.fix_missing_locations(ast.copy_location(made, node))


def divided(text: str) -> tuple[str, str]:
    """Divide a whole program into what is tested and its tests: all from the first assertion or test on."""
    lines = text.splitlines(keepends=True)
    for node in ast.parse(text, PROGRAM).body:
        name = getattr(node, "name", "")
        if isinstance(node, ast.Assert) or name.lower().startswith("test") or any(isinstance(inner, ast.Assert) for inner in loose(node)):
            begin = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))]) - 1
            return "".join(lines[:begin]), "\n" * begin + "".join(lines[begin:])
    return text, ""


def loose(node):
    """Return the statements in a statement, but not those of functions and classes."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return []
    return ast.walk(node)
