"""What is believed and what is run: agreement by hand, mutants, hostile code."""

import ast

import pytest

from codemix_megatron.synthesis.cross_check import cross_check
from codemix_megatron.synthesis.small_mutants import mutants_of
from codemix_megatron.synthesis.written_code import code_of, function_name, split_tests, unsafe_use

RIGHT, ALSO, WRONG = "def f(x):\n    return x + 1\n", "def f(x):\n    y = x\n    return y + 1\n", "def f(x):\n    return x + 2\n"
TESTS = ["assert f(1) == 2\n", "assert f(5) == 6\n", "assert f(1) == 3\n", "assert callable(f)\n", "assert f(0) == 'x'\n"]


def passes(program: str, tests: str) -> bool:
    names: dict = {}
    try:
        exec(program, names)
        exec(tests, names)
    except Exception:
        return False
    return True


def test_solutions_and_tests_that_agree_are_believed_and_tests_that_notice_nothing_are_not():
    found = cross_check([WRONG, RIGHT, ALSO], TESTS, passes)
    assert (found.solutions, found.tests) == ([1, 2], [0, 1])
    assert found.dropped_tests == {"passed by nothing": 1, "passed by too few solutions": 1, "passed by every mutant": 1}


def test_nobody_is_believed_alone():
    for solutions in ([RIGHT], [RIGHT, WRONG], []):
        assert not cross_check(solutions, TESTS, passes).solutions
    assert not cross_check([RIGHT, ALSO], TESTS[3:], passes).solutions, "a test that every mutant passes proves nothing"


def test_mutants_differ_in_one_place_and_compile():
    program = "def f(a, b):\n    if a < b and a != 3:\n        return a // b\n    return not a in [b]\n"
    mutants = mutants_of(program, most=100)
    assert len(mutants) == len(set(mutants)) >= 7 and all(ast.parse(mutant) and mutant != program for mutant in mutants)
    assert "return a * b" in "".join(mutants) and "a >= b" in "".join(mutants) and len(mutants_of(program, most=3)) == 3


@pytest.mark.parametrize(
    "code, found",
    [
        ("import os", "imports os"), ("from subprocess import run", "imports subprocess"), ("from . import x", "imports a relative module"),
        ("__import__('os')", "names __import__"), ("eval('1')", "names eval"), ("open('x')", "names open"),
        ("().__class__.__bases__", "reaches for"), ("x = f.__globals__", "reaches for __globals__"), ("import math\nfrom collections import Counter", ""),
        ("class A:\n    def __init__(self):\n        self.x = 1", ""), ("getattr(x, 'a')", "names getattr"), ("import numpy", "imports numpy"),
    ],
)  # fmt: skip
def test_code_that_reaches_out_is_not_run(code, found):
    assert unsafe_use(ast.parse(code)).startswith(found) and bool(unsafe_use(ast.parse(code))) == bool(found)
    assert not unsafe_use(ast.parse("import numpy"), frozenset({"numpy"}))


def test_tests_are_assertions_about_the_function_and_nothing_else():
    code = code_of(
        "```python\nimport math\nx = 1\nassert f(1) == math.pi, 'no'\nassert x\ndef test_it():\n    assert f(2)\nprint(f(3))\n```"
    )
    tests, left = split_tests(code.tree, "f")
    assert tests == ["import math\nassert f(1) == math.pi\n", "import math\nassert f(2)\n"] and left
    assert code_of("no code at all, sorry!") == "malformed" and code_of("```python\ndef (\n```") == "syntax error"
    assert function_name("def g(a, b):") == "g" and function_name("g") == "g" and not function_name("what do you mean?")
