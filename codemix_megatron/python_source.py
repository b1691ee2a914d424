"""Python programs parsed on several threads: one at a time, for Python 3.11 counts the depth of all its parsers together.

There `ast.parse` raises SystemError ("recursion depth mismatch") when another thread comes in between
(https://github.com/python/cpython/issues/106905).
"""

import ast
from threading import Lock

__all__ = ["parse_python"]

PARSING = Lock()


def parse_python(text: str | bytes) -> ast.Module:
    """Return the tree of a program. Raises what `ast.parse` does: SyntaxError, ValueError, RecursionError, MemoryError."""
    with PARSING:
        return ast.parse(text)
