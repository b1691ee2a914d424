"""Python source -> the same source without its docstrings; comments, blank lines and everything else stay as they are."""

import ast
import warnings
from collections.abc import Iterator
from itertools import accumulate

from codemix_megatron.python_source import parse_python

__all__ = ["without_docstrings"]

OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def without_docstrings(source: str) -> str:
    """Return a module's source without docstrings, `pass` where nothing else stands there; raises SyntaxError for what does not parse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in somebody else's file
        tree = parse_python(source)
    data = source.encode()
    # Python's lines end at \n, \r\n and \r alone, and its columns count bytes.
    begins = [0, *accumulate(len(line) for line in data.splitlines(keepends=True))]
    for first, last, keep in sorted(docstrings(tree, begins), reverse=True):
        data = cut(data, first, last, keep=keep)
    return data.decode()


def docstrings(tree: ast.Module, begins: list[int]) -> Iterator[tuple[int, int, bool]]:
    """Yield (first byte, byte after the last, whether a statement must stand there) of each docstring."""
    for node in ast.walk(tree):
        if isinstance(node, OWNERS) and ast.get_docstring(node, clean=False) is not None:
            said = node.body[0]
            assert said.end_lineno is not None and said.end_col_offset is not None, "ast.parse writes both"
            first, last = begins[said.lineno - 1] + said.col_offset, begins[said.end_lineno - 1] + said.end_col_offset
            yield first, last, is_needed(node)


def is_needed(node) -> bool:
    """Say whether something must stay where a docstring was: else its owner has no body, or the string after it would become the docstring."""
    if len(node.body) == 1:
        return not isinstance(node, ast.Module)
    following = node.body[1]
    return isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant) and isinstance(following.value.value, str)


def cut(data: bytes, first: int, last: int, *, keep: bool) -> bytes:
    """Return the bytes without a statement: `pass` in its place, or nothing where it stands alone on its lines and need not be kept."""
    line_begins = max(data.rfind(b"\n", 0, first), data.rfind(b"\r", 0, first)) + 1
    line_ends = data.find(b"\n", last)
    line_ends = len(data) if line_ends < 0 else line_ends + 1
    stands_alone = not data[line_begins:first].strip() and not data[last:line_ends].strip()
    if stands_alone and not keep:
        return data[:line_begins] + data[line_ends:]
    return data[:first] + b"pass" + data[last:]
