"""Code out of a teacher's reply: the block that was asked for, and whether anybody wants to run it.

A document that passes its tests may still do harm beside its answer, and models would learn to. Kept is what imports harmless
modules of the standard library alone, names nothing hidden, and neither opens files nor makes code out of text.
"""

import ast
import re
from dataclasses import dataclass

from codemix_megatron.python_source import parse_python

__all__ = ["HARMLESS_MODULES", "WrittenCode", "code_of", "function_name", "split_tests", "unsafe_use"]

BLOCK = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\r?\n(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)
MODULES = """__future__ abc array bisect calendar cmath collections copy dataclasses datetime decimal enum fractions functools heapq itertools
json math numbers operator queue random re statistics string textwrap typing unicodedata zoneinfo"""
HARMLESS_MODULES = frozenset(MODULES.split())
FORBIDDEN = """__import__ breakpoint compile delattr dir eval exec exit getattr globals help input locals memoryview open quit setattr vars
__builtins__ __loader__ __spec__"""
FORBIDDEN_NAMES = frozenset(FORBIDDEN.split())
DUNDERS = """__init__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __hash__ __len__ __iter__ __next__ __contains__ __getitem__ __setitem__ __add__
__sub__ __mul__ __truediv__ __floordiv__ __mod__ __neg__ __abs__ __bool__ __repr__ __str__ __call__ __name__ __post_init__ __radd__ __rmul__
__slots__ __delitem__ __and__ __or__ __xor__ __pow__ __reversed__"""
ALLOWED_DUNDERS = frozenset(DUNDERS.split())
NAME = re.compile(r"def\s+([A-Za-z_]\w*)\s*\(|^\s*([A-Za-z_]\w*)\s*$", re.MULTILINE)
LARGEST_CODE = 64 << 10


@dataclass(frozen=True)
class WrittenCode:
    """A program as it was written, and what it is."""

    text: str
    tree: ast.Module


def code_of(reply: str) -> WrittenCode | str:
    """Return the program a reply holds, or why there is none."""
    block = BLOCK.search(reply)
    text = (block[1] if block else reply).replace("\r\n", "\n").strip("\n") + "\n"
    if len(text) > LARGEST_CODE:
        return "malformed"
    try:
        tree = parse_python(text)
        return WrittenCode(text, tree) if tree.body else "malformed"
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "syntax error" if block else "malformed"


def function_name(signature: str) -> str:
    """Return the name in `def name(parameters):`, or a name by itself; nothing where there is none."""
    found = NAME.search(signature)
    return (found[1] or found[2]) if found else ""


def unsafe_use(tree: ast.AST, allowed: frozenset[str] = frozenset()) -> str:
    """Return what nobody wants in a document, in words; nothing where the code is harmless."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            relative = isinstance(node, ast.ImportFrom) and node.level
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                if relative or name.partition(".")[0] not in HARMLESS_MODULES | allowed:
                    return f"imports {'a relative module' if relative else name}"
        elif isinstance(node, ast.Name) and (node.id in FORBIDDEN_NAMES or is_hidden(node.id)):
            return f"names {node.id}"
        elif isinstance(node, ast.Attribute) and is_hidden(node.attr):
            return f"reaches for {node.attr}"
    return ""


def is_hidden(name: str) -> bool:
    """Say whether a name is one of the interpreter's own, by which programs get out of their sandbox."""
    return name.startswith("__") and name.endswith("__") and name not in ALLOWED_DUNDERS


def split_tests(tree: ast.Module, entry: str) -> tuple[list[str], str]:
    """Return the assertions of a test reply, each with what it imports, and why others were left out.

    Only assertions that call the function are tests, and harmless imports stand before them: whatever else a reply does could decide its outcome.
    """
    imports = [ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    prelude = "".join(f"{line}\n" for line in imports)
    found, left = [], ""
    for node in flattened(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node, ast.Assert) and entry in {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}:
            found.append(prelude + ast.unparse(ast.Assert(node.test, None)) + "\n")
        else:
            left = "no assertions about the function"
    return list(dict.fromkeys(found)), left


def flattened(tree: ast.Module):
    """Yield statements, those of test functions without arguments among them."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not node.args.args:
            yield from node.body
        else:
            yield node
