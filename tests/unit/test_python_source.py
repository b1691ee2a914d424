"""Python programs are parsed on several threads, whatever the version of Python."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import codemix_megatron
from codemix_megatron.python_source import parse_python

PACKAGE = Path(codemix_megatron.__file__).parent
SOURCE = "\n".join(f"x{i} = (({i} + 1) * (2 - {i})) if {i} else [a{i}(b, c=d) for d in e]" for i in range(40))


@pytest.fixture
def switching():
    """Another thread gets its turn at every collection of garbage, in the middle of a parse too."""
    before, callback = gc.get_threshold(), lambda *_: time.sleep(1e-4)
    gc.callbacks.append(callback)
    gc.set_threshold(50)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(callback)


def test_threads_that_take_turns_within_a_parse_all_get_their_trees(switching):
    with ThreadPoolExecutor(4) as pool:
        assert [len(tree.body) for tree in pool.map(parse_python, [SOURCE] * 12)] == [40] * 12


def test_the_package_parses_python_nowhere_else():
    """But in the sandbox, whose processes have one thread and none of this package's modules."""
    parsing = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if "ast.parse(" in path.read_text(encoding="utf-8")}
    assert {path for path in parsing if not path.startswith("sandbox/")} == {"python_source.py"}
