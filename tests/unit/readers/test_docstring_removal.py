"""What is left of Python's own sources when their docstrings go, judged by its parser."""

import ast
import sys
import sysconfig
import warnings
from pathlib import Path

import pytest

from codemix_megatron.readers.docstring_removal import without_docstrings

LIBRARY = Path(sysconfig.get_path("stdlib"))
MODULES = sorted(path for folder in (".", "json", "email", "asyncio") for path in (LIBRARY / folder).glob("*.py"))


OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def parsed(source: str) -> ast.Module:
    """Return what Python's parser reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def statements(source: str) -> str:
    """Return a module's statements without line numbers, docstrings and what only keeps a body from being empty."""
    tree = parsed(source)
    for node in ast.walk(tree):
        if isinstance(node, OWNERS):
            if ast.get_docstring(node, clean=False) is not None:
                node.body[0] = ast.Pass()
            node.body = [statement for statement in node.body if not isinstance(statement, ast.Pass)]
    return ast.dump(tree)


@pytest.mark.parametrize("module", MODULES[::4], ids=lambda path: path.name)
def test_modules_keep_every_other_statement_and_comment(module):
    source = module.read_text(encoding="utf-8")
    bare = without_docstrings(source)
    is_same = statements(bare) == statements(source)  # compared here, for pytest would spend a minute on the difference
    assert is_same
    assert not [node for node in ast.walk(parsed(bare)) if isinstance(node, OWNERS) and ast.get_docstring(node, clean=False)]
    assert [line for line in bare.splitlines() if line.lstrip().startswith("#")] == [
        line for line in outside_docstrings(source) if line.lstrip().startswith("#")
    ]


def outside_docstrings(source: str) -> list[str]:
    """Return the lines that belong to no docstring, by the line numbers of Python's parser."""
    lines, inside = source.splitlines(), set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, OWNERS) and ast.get_docstring(node, clean=False) is not None:
            inside |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return [line for number, line in enumerate(lines, 1) if number not in inside]


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        ('"all there is"', ""),
        ('def f(): "x"\n', "def f(): pass\n"),
        ('def f():\r\n    "x"\r\n    return 1\r\n', "def f():\r\n    return 1\r\n"),
        ('é = 1\ndef f(a="é"): "é"; return 2\n', 'é = 1\ndef f(a="é"): pass; return 2\n'),
        ('class A:\n    """one\n    é"""  # said\n    x = "no docstring"\n', 'class A:\n    pass  # said\n    x = "no docstring"\n'),
        (
            'def f():\n    """one"""\n    """two is a string and no docstring"""\n',
            'def f():\n    pass\n    """two is a string and no docstring"""\n',
        ),
        ('async def f():\n    ("a"\n     "b")\n    await g()\n', "async def f():\n    await g()\n"),
        ('def f():\n    b"bytes"\n    f"{1}"\n', 'def f():\n    b"bytes"\n    f"{1}"\n'),
    ],
)
def test_shapes_of_docstrings(source, bare):
    assert without_docstrings(source) == bare


def test_what_does_not_parse_is_an_error():
    with pytest.raises(SyntaxError):
        without_docstrings("def f(:\n")


def test_deep_nesting_is_an_error_and_no_crash():
    with pytest.raises((SyntaxError, RecursionError, MemoryError)):
        without_docstrings("(" * 100_000)
    assert sys.getrecursionlimit() > 100
