"""Solutions that pass their tests are kept, the others are told with their reason, and a kill loses nothing."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import orjson
import pytest
from patience import PATIENCE_SECONDS
from tiny_run import clean_environment

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.problems import Keys, read_candidates
from codemix_megatron.errors import SandboxError
from codemix_megatron.sandbox.outcome import Limits
from codemix_megatron.sandbox.running import find_sandbox

CODEMIX = [sys.executable, "-m", "codemix_megatron", "verify"]
ADD = "def add(a, b):\n    return a + b\n"
PROBLEMS = [
    {"id": "list", "solution": ADD, "tests": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"], "license": "MIT"},
    {"id": "wrong", "solution": ADD.replace("+", "-"), "tests": "assert add(1, 2) == 3"},
    {"task_id": "HumanEval/x", "prompt": "def add(a, b):\n", "canonical_solution": "    return a + b\n", "entry_point": "add",
     "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n"},
    {"task_id": "HumanEval/wrong", "prompt": "def add(a, b):\n", "canonical_solution": "    return a - b\n", "entry_point": "add",
     "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n"},
    {"task_id": 7, "text": "Add two numbers.", "code": ADD.replace("\n", "\r\n"), "test_setup_code": "one = 1",
     "test_list": ["assert add(one, 2) == 3"]},
    {"id": "several", "solutions": [ADD, "def add(a, b):\n    return 3", "def add("], "tests": "assert add(2, 2) == 4"},
    {"id": "functions", "solution": ADD, "tests": "def test_add():\n    assert add(1, 2) == 4\n"},
    {"id": "classes", "solution": ADD,
     "tests": "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(add(1, 2), 4)\n"},
    {"id": "whole", "text": "assert 1 + 1 == 2"},
    {"id": "untested", "text": "print(1)"},
    {"id": "rust", "solution": "fn main() {}", "tests": "main()", "lang": "rust"},
    {"id": "numbers", "solution": ADD, "tests": [1]},
    {"id": "leaves", "solution": f"{ADD}import sys\nsys.exit(0)", "tests": "assert add(1, 2) == 4"},
    {"id": "loops", "solution": "while True: pass", "tests": "assert True"},
    {"id": "eats", "solution": "x = bytearray(1 << 33)", "tests": "assert True"},
    {"id": "unseen", "solution": "import os\nassert 'RANK' not in os.environ and not os.path.exists('/etc/passwd')", "tests": "assert os.path"},
]  # fmt: skip
STATUSES = [
    "passed", "wrong", "passed", "wrong", "passed", "passed", "wrong", "syntax error", "wrong", "wrong", "passed", "unreadable",
    "unreadable", "unreadable", "exit", "timeout", "memory", "passed", "unreadable", "unreadable",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def default_sandbox():
    """Nothing is verified where no sandbox can be had."""
    try:
        find_sandbox()
    except SandboxError as fault:
        pytest.skip(str(fault))


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """The problems above as JSON lines, with two lines that are none."""
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    path.write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS) + "{broken\n[1]\n")
    return path


def run_verify(*words):
    """Run the command to its end."""
    return subprocess.run([*CODEMIX, *map(str, words)], env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS)


def lines_of(path) -> list[dict]:
    """Return the records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_passes_is_kept_and_the_rest_is_told_with_its_reason(problems, tmp_path, capsys):
    output = tmp_path / "kept.jsonl"
    done = run_verify(problems, "--output", output, "--seconds", "2", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "kept 6 of 20" in done.stdout and "sandbox: " in done.stderr
    kept, failed = lines_of(output), lines_of(tmp_path / "kept.failed.jsonl")
    assert [document["text"] for document in kept] == [ADD, ADD, ADD, ADD, "assert 1 + 1 == 2", PROBLEMS[-1]["solution"]]
    assert (kept[0]["license"], kept[0]["lang"], kept[2]["problem"]) == ("MIT", "python", "Add two numbers.")
    assert [line["status"] for line in failed] == [status for status in STATUSES if status != "passed"]
    assert [line["place"] for line in failed][:4] == [f"{problems}:{n}" for n in ("2", "4", "6#2", "6#3")]
    assert all(line["message"] for line in failed)
    assert json.loads((tmp_path / "kept.verification.json").read_text())["counts"]["wrong"] == 5
    assert not (tmp_path / "kept.outcomes.jsonl").exists()

    before = output.stat().st_mtime_ns
    assert main(["verify", str(problems), "--output", str(output), "--seconds", "2"]) == 0
    assert "kept 6 of 20" in capsys.readouterr().out and output.stat().st_mtime_ns == before
    assert main(["verify", str(problems), "--output", str(output), "--seconds", "3"]) == 2
    told = capsys.readouterr().err
    assert "limits was" in told and "--force" in told
    one = tmp_path / "one.jsonl"
    one.write_text(json.dumps({"solution": ADD, "tests": "assert add(1, 2) == 3"}) + "\n")
    assert main(["verify", str(one), "--output", str(output), "--force"]) == 0
    assert "kept 1 of 1" in capsys.readouterr().out and len(lines_of(output)) == 1


WRONG = "def add(a, b):\n    return 0\n"
SHAPES = {
    "asynchronous": "async def test_a():\n    assert add(1, 2) == 3\n",
    "class of pytest": "class TestAdd:\n    def test_a(self):\n        assert add(1, 2) == 3\n",
    "with a default": "def test_a(a=1):\n    assert add(a, 2) == 3\n",
    "check without entry point": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "run_tests": "def run_tests():\n    assert add(1, 2) == 3\n",
    "TestCase by another name": "from unittest import TestCase as Case\nclass T(Case):\n    def test_a(self):\n        self.assertEqual(add(1, 2), 3)\n",
    "unittest.main": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(add(1, 2), 3)\n"
    "if __name__ == '__main__':\n    unittest.main()\n",
    "setup": "class TestAdd:\n    def setup_method(self):\n        self.one = 1\n    def test_a(self):\n        assert add(self.one, 2) == 3\n",
    "subtests": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        for i in (1, 2):\n"
    "            with self.subTest(i):\n                self.assertEqual(add(i, 2), i + 2)\n",
    "caught": "try:\n    assert add(1, 2) == 3\nexcept AssertionError:\n    raise SystemExit(1)\n",
    "main with exit": "import sys\ndef test_a():\n    assert add(1, 2) == 3\nif __name__ == '__main__':\n    test_a()\n    sys.exit(0)\n",
}
NO_TESTS = {
    "comment": "# TODO\n",
    "assert True": "assert True\n",
    "fixture": "def test_a(numbers):\n    assert add(*numbers) == 3\n",
    "skipped": "import unittest\n@unittest.skip('x')\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(add(1, 2), 3)\n",
    "caught": "try:\n    assert add(1, 2) == 3\nexcept AssertionError:\n    print('failed')\n",
    "result unseen": "result = add(1, 2)\nassert True\n",
    "never called": "if False:\n    assert add(1, 2) == 3\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tests_of_every_shape_are_run(shape):
    right, wrong = (find_sandbox().examine(solution, SHAPES[shape], Limits(seconds=10)) for solution in (ADD, WRONG))
    assert right.passed and right.assertions, right
    assert not wrong.passed and wrong.status != "untested", wrong


@pytest.mark.parametrize("shape", NO_TESTS)
def test_what_tests_nothing_verifies_nothing(shape):
    assert find_sandbox().examine(ADD, NO_TESTS[shape], Limits(seconds=10)).status == "untested"


def test_values_and_objects_cross_between_a_program_and_its_tests():
    solution = """
import asyncio, collections, enum, fractions
class Stack:
    def __init__(self): self.items = []
    def push(self, item): self.items.append(item); return self
    def __len__(self): return len(self.items)
    def __eq__(self, other): return isinstance(other, Stack) and self.items == other.items
    def __enter__(self): return self
    def __exit__(self, *fault): self.items.clear()
class Empty(LookupError): pass
class Tower(Stack): pass
class Color(enum.Enum): RED = 1; BLUE = 2
Point = collections.namedtuple('Point', 'x y')
def sort_in_place(items): items.sort()
def pop(stack):
    if not stack.items: raise Empty('nothing there')
    return stack.items.pop()
def same(value): return value
def total(node): return 0 if node is None else node.value + total(node.rest)
def count(n):
    for i in range(n): yield i
async def later(x): await asyncio.sleep(0); return x
def halves(n): return fractions.Fraction(n, 2)
"""
    tests = """
items = [3, 1, 2]
sort_in_place(items)
assert items == [1, 2, 3]
stack = Stack().push(1).push(2)
assert len(stack) == 2 and stack == Stack().push(1).push(2) and stack.items == [1, 2] and pop(stack) == 2
assert isinstance(Tower(), Stack) and Color.RED is Color.RED and Color['BLUE'].value == 2 and len(list(Color)) == 2
with Tower() as tower: tower.push(1)
assert len(tower) == 0
try: pop(tower); assert False
except Empty as fault: assert isinstance(fault, LookupError) and 'nothing there' in str(fault)
assert Point(1, 2) == (1, 2) and Point(1, 2).x == 1 and halves(3) * 2 == 3
values = [1, 2.5, 'é', b'x', None, True, (1,), {2}, frozenset({3}), {'k': [1]}, 1 << 90, 3j, range(3), float('inf'), bytearray(b'x')]
assert same(values) == values and same(values) is values and same(values)[8] == {3}
assert list(count(3)) == [0, 1, 2] and list(map(same, [1, 2])) == [1, 2]
class Node:
    def __init__(self, value, rest=None): self.value, self.rest = value, rest
assert total(Node(1, Node(2))) == 3
import asyncio
assert asyncio.run(later(5)) == 5
import copy
assert copy.deepcopy(stack) == stack
"""
    outcome = find_sandbox().examine(solution, tests, Limits(seconds=10))
    assert outcome.passed and outcome.assertions == 11, outcome


def test_one_record_ends_nothing_but_itself(tmp_path):
    problems, output = tmp_path / "problems.jsonl", tmp_path / "kept.jsonl"
    lines = ["[" * 200_000, json.dumps({"id": "deep", "solution": ADD, "tests": "assert add(1, 2) == " + "(" * 5000}),
             json.dumps({"id": "large", "solution": "x = 1\n" * 300_000, "tests": "assert x == 1"}),
             json.dumps({"id": "surrogate", "solution": "def f():\n    raise ValueError('\ud800')\n", "tests": "assert f() == 1"}),
             json.dumps({"id": "message", "solution": ADD, "tests": "assert add(1, 2) == 4, chr(0xD800)", "note": "\ud800"}),
             json.dumps({"id": "right \ud800", "solution": ADD, "tests": "assert add(1, 2) == 3", "note": "\ud800"})]  # fmt: skip
    problems.write_text("\n".join(lines) + "\n")
    assert main(["verify", str(problems), "--output", str(output)]) == 0
    assert [line["status"] for line in lines_of(tmp_path / "kept.failed.jsonl")] == [
        "unreadable", "syntax error", "unreadable", "syntax error", "wrong",
    ]  # fmt: skip
    kept = orjson.loads(output.read_bytes())
    assert kept["id"] == "right \ufffd" and kept["note"] == "\ufffd"


def test_killed_it_goes_on_and_ends_with_the_same_files(tmp_path, capsys):
    problems, started = tmp_path / "problems.jsonl", tmp_path / "started"
    records = [{"id": i, "solution": f"x = {i}\nimport time\ntime.sleep(0.05)", "tests": f"assert x % 3, {i}"} for i in range(15)]
    problems.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["verify", str(problems), "--output", str(tmp_path / "whole.jsonl"), "--workers", "4"]) == 0
    outcomes = started / "kept.outcomes.jsonl"
    words = [*CODEMIX, str(problems), "--output", str(started / "kept.jsonl"), "--workers", "2"]
    with subprocess.Popen(words, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not outcomes.exists() or outcomes.read_bytes().count(b"\n") < 6:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not (started / "kept.jsonl").exists()
    with open(outcomes, "ab") as handle:
        handle.write(b'[14, "pas')  # torn by the kill
    assert main(["verify", str(problems), "--output", str(started / "kept.jsonl"), "--memory-mib", "512"]) == 2
    assert "other settings" in capsys.readouterr().err
    assert main(["verify", str(problems), "--output", str(started / "kept.jsonl")]) == 0
    assert (started / "kept.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert [line["id"] for line in lines_of(started / "kept.failed.jsonl")] == [str(i) for i in range(0, 15, 3)]


def test_solutions_of_humaneval_and_mbpp_pass(shared_data, measured):
    passed = {}
    for name in ("humaneval", "mbpp.test"):
        candidates = itertools.islice(read_candidates([shared_data / f"eval/{name}.jsonl"], Keys()), 0, None, 83)
        outcomes = [find_sandbox().run(candidate.program, Limits(seconds=60)) for candidate in candidates]
        passed[name] = [outcome.passed for outcome in outcomes]
        assert all(passed[name]), outcomes
    measured(f"verify: {', '.join(f'{sum(p)} of {len(p)} solutions of {name} pass' for name, p in passed.items())}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.jsonl", "--output", "x.jsonl"], "gone.jsonl: no such file"),
        (["problems.jsonl", "--output", "x.json"], "must end in .jsonl"),
        (["problems.jsonl", "--output", "problems.jsonl"], "already there; give another --output"),
        (["empty.jsonl", "--output", "x.jsonl"], "no problems in there"),
        (["torn.jsonl.gz", "--output", "x.jsonl"], "torn.jsonl.gz: damaged archive"),
        (["problems.jsonl", "--output", "x.jsonl", "--workers", "0"], "--workers: found 0"),
        (["problems.jsonl", "--output", "x.jsonl", "--seconds", "0"], "seconds: found 0.0, must be at least"),
        (["problems.jsonl", "--output", "x.jsonl", "--python", "/nowhere/python"], "not a Python that runs"),
    ],
)
def test_bad_arguments_are_named(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems.jsonl").write_text(json.dumps(PROBLEMS[0]) + "\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "torn.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00\x00")
    before = sorted(tmp_path.iterdir())
    assert main(["verify", *words]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_run_where_no_sandbox_can_be_had(tmp_path):
    (tmp_path / "problems.jsonl").write_text(
        json.dumps({"solution": "ran = open('ran', 'w').write('x')", "tests": "assert ran == 1"}) + "\n"
    )
    words = [*CODEMIX, "problems.jsonl", "--output", "x.jsonl"]
    environment = {**clean_environment(), "PATH": "/nowhere"}
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 1 and "accept the danger with --trust programs" in done.stderr
    assert not (tmp_path / "x.jsonl").exists()
    done = subprocess.run(
        [*words, "--unsandboxed"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0 and "sandbox: no sandbox" in done.stderr
    assert "no sandbox" in lines_of(tmp_path / "x.jsonl")[0]["verified"]
