"""Solutions that pass their tests are kept, the others are told with their reason, and a kill loses nothing."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
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
    {"id": "unseen", "solution": "import os\nassert 'RANK' not in os.environ and not os.path.exists('/etc/passwd')", "tests": "assert True"},
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
    return subprocess.run([*CODEMIX, *map(str, words)], env=clean_environment(), capture_output=True, text=True, timeout=120)


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


def test_killed_it_goes_on_and_ends_with_the_same_files(tmp_path, capsys):
    problems, started = tmp_path / "problems.jsonl", tmp_path / "started"
    records = [{"id": i, "solution": f"x = {i}\nimport time\ntime.sleep(0.05)", "tests": f"assert x % 3, {i}"} for i in range(15)]
    problems.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["verify", str(problems), "--output", str(tmp_path / "whole.jsonl"), "--workers", "4"]) == 0
    outcomes = started / "kept.outcomes.jsonl"
    words = [*CODEMIX, str(problems), "--output", str(started / "kept.jsonl"), "--workers", "2"]
    with subprocess.Popen(words, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
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
    (tmp_path / "problems.jsonl").write_text(json.dumps({"solution": "open('ran', 'w')", "tests": "assert True"}) + "\n")
    words = [*CODEMIX, "problems.jsonl", "--output", "x.jsonl"]
    environment = {**clean_environment(), "PATH": "/nowhere"}
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "accept the danger with --unsandboxed" in done.stderr
    assert not (tmp_path / "x.jsonl").exists()
    done = subprocess.run([*words, "--unsandboxed"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "sandbox: no sandbox" in done.stderr
    assert "no sandbox" in lines_of(tmp_path / "x.jsonl")[0]["verified"]
