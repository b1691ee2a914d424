"""HumanEval and MBPP: prompts, stop sequences and tests, with the solutions that come with them standing in for a model."""

import json
from pathlib import Path

import pytest
import yaml

from codemix_megatron.errors import EvaluationError, SandboxError
from codemix_megatron.evaluate.programs import fill, program_of, read_problems, read_program_task, run_programs, score_programs
from codemix_megatron.evaluate.suites import read_built_in
from codemix_megatron.inference.generation import Sampling, cut_at_stop
from codemix_megatron.sandbox.outcome import Outcome, Status
from codemix_megatron.sandbox.running import find_sandbox

EVAL = Path(__file__).parents[4] / "shared" / "data" / "eval"
CODE = {name: entry["code"] for name, entry in yaml.safe_load(read_built_in("paper"))["tasks"].items() if "code" in entry}
needs_data = pytest.mark.skipif(not EVAL.is_dir(), reason=f"no evaluation data in {EVAL}")


@pytest.fixture(scope="module")
def sandbox():
    try:
        return find_sandbox()
    except SandboxError as fault:
        pytest.skip(f"no sandbox works here: {str(fault).splitlines()[-1]}")


class Parrot:
    """A model that knows every answer by heart: encodes a prompt as its number, generates what it was told."""

    share, shares, max_length, vocab_size, end_id, prefix_id = 0, 1, 4096, 10, -1, 0

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def encode(self, text, is_whole=True):
        self.asked.append(text)
        return [len(self.asked)]

    def gather(self, values):
        return [values]


def scored(monkeypatch, sandbox, name, problems, answers, samples=1):
    """Score answers, one per sample, as if a model had given them."""
    parrot = Parrot(answers)
    monkeypatch.setattr("codemix_megatron.evaluate.programs.generate", lambda model, prompts, sampling, on_done: answers)
    items = score_programs(parrot, read_program_task(name, CODE[name]), problems, sandbox, samples=samples, threads=2)
    return items, parrot.asked


@needs_data
def test_canonical_solutions_of_humaneval_pass(monkeypatch, sandbox):
    problems = read_problems(EVAL / "humaneval.jsonl", 12)
    items, asked = scored(monkeypatch, sandbox, "humaneval", problems, ["\n" + p["canonical_solution"] for p in problems])
    assert items.metrics["pass@1"].value == 1.0 and items.about["ended: passed"] == "12"
    assert all(not prompt[-1].isspace() for prompt in asked), "a prompt that ends in a line break asks for what no model has seen"


@needs_data
def test_solutions_of_mbpp_pass_and_wrong_ones_do_not(monkeypatch, sandbox):
    problems = read_problems(EVAL / "mbpp.test.jsonl", 10)
    answers = ["\n" + p["code"] for p in problems]
    answers[3] = "\ndef nothing():\n    return None\n"
    answers[5] = "\nthis is no program"
    items, asked = scored(monkeypatch, sandbox, "mbpp", problems, answers)
    assert items.metrics["pass@1"].values == [1, 1, 1, 0, 1, 0, 1, 1, 1, 1]
    assert items.about["ended: syntax error"] == "1"
    assert problems[0]["test_list"][0] in asked[0] and problems[0]["test_list"][1] not in asked[0]


def test_pass_at_10_of_several_samples(monkeypatch, sandbox):
    problem = {"prompt": "def one():\n", "test": "def check(f):\n    assert f() == 1", "entry_point": "one"}
    answers = ["\n    return 1"] * 3 + ["\n    return 2"] * 7
    items, _ = scored(monkeypatch, sandbox, "humaneval", [problem], answers, samples=10)
    assert items.metrics["pass@1"].value == pytest.approx(0.3) and items.metrics["pass@10"].value == 1.0


def test_a_program_that_never_ends_and_one_that_wants_the_network_fail(sandbox):
    task = read_program_task("t", {**CODE["humaneval"], "timeout_seconds": 1})
    network = "import socket\nsocket.create_connection(('1.1.1.1', 53), timeout=2)"
    ended = run_programs(["while True: pass", network, "pass"], task, sandbox, 2)
    assert [outcome.passed for outcome in ended] == [False, False, True] and ended[0].status == "timeout"


def test_nothing_is_run_without_a_sandbox(monkeypatch, exported, tmp_path):
    from codemix_megatron.evaluate.scoring import evaluate_subject
    from codemix_megatron.evaluate.wanted import Subject, Wanted

    def refuse(*, unsandboxed):
        raise SandboxError("nothing here keeps programs apart; accept the danger with --trust programs")

    monkeypatch.setattr("codemix_megatron.evaluate.scorer.find_sandbox", refuse)
    (tmp_path / "humaneval.jsonl").write_text(json.dumps({"prompt": "def f():\n", "test": "", "entry_point": "f"}) + "\n")
    (tmp_path / "s.yaml").write_text("suite: s\ntasks: {humaneval: {from: paper}}\n")
    subject = Subject(name="m", digest="d", step=0, tokens=0, load=lambda: exported)
    wanted = Wanted(suites=(str(tmp_path / "s.yaml"),), items=None, data=tmp_path)
    with pytest.raises(EvaluationError, match=r"s/humaneval: nothing here keeps programs apart.*--trust programs"):
        evaluate_subject(subject, wanted, tmp_path / "out", tmp_path / "out" / "scores.json")


class Reader(Parrot):
    """A model that sees 256 tokens of three characters."""

    max_length = 256

    def encode(self, text, is_whole=True):
        return [1] * (len(text) // 3)


@needs_data
def test_cut_prompts_are_counted_and_refused_before_anything_is_generated(monkeypatch, sandbox):
    problems, task = read_problems(EVAL / "humaneval.jsonl", 20), read_program_task("humaneval", CODE["humaneval"])
    room = 256 - min(task.max_tokens, 128)
    expected = sum(len(problem["prompt"].rstrip()) // 3 > room for problem in problems)
    assert 0 < expected < 20
    generated = []
    monkeypatch.setattr("codemix_megatron.evaluate.programs.generate", lambda *given: generated.append(1) or [""] * 20)
    with pytest.raises(
        EvaluationError, match=rf"{expected} of 20 prompts are longer than the 256 tokens the model sees.*--allow-cut-prompts"
    ):
        score_programs(Reader([]), task, problems, sandbox, allow_cut=False)
    assert not generated
    assert score_programs(Reader([]), task, problems, sandbox).cut == expected


def test_templates_name_what_they_miss():
    task = read_program_task("t", {"prompt": "{a}", "program": "{prompt}{completion}{b}"})
    assert program_of(task, {"a": "x \n", "b": ["1", "2"]}, "\ny") == "x\ny1\n2"
    with pytest.raises(EvaluationError, match="no field 'c' in a problem with a, b"):
        fill("{c}", {"a": 1, "b": 2})
    with pytest.raises(EvaluationError, match=r"tasks\.t\.code: unknown promt and missing prompt"):
        read_program_task("t", {"promt": "", "program": ""})


class Neighbourly:
    """A sandbox whose clock other programs take from: `endings` are how runs end, in order."""

    def __init__(self, *endings):
        self.endings, self.asked = list(endings), []

    def run(self, code, limits):
        self.asked.append((code, limits.seconds, limits.cpu_seconds))
        return self.endings.pop(0)

    def examine(self, code, tests, limits):
        return self.run(code, limits)


PASSED = Outcome(status=Status.PASSED, seconds=0.1)
TASK = read_program_task("t", {"prompt": "{p}", "program": "{completion}\n{t}\n", "timeout_seconds": 10, "reference": "{solution}"})


def test_what_the_clock_ended_is_tried_again_alone():
    late = Outcome(status=Status.TIMEOUT, seconds=20.1)
    sandbox = Neighbourly(late, PASSED, PASSED)
    outcomes = run_programs(["a", "b"], TASK, sandbox)
    assert [outcome.passed for outcome in outcomes] == [True, True]
    assert sandbox.asked == [("a", 20, 10), ("b", 20, 10), ("a", 60, 10)]


def test_processor_time_goes_by_what_the_problems_own_solution_takes():
    out_of_time, slow = Outcome(status=Status.TIMEOUT, seconds=10.2), Outcome(status=Status.PASSED, seconds=5.7)
    sandbox = Neighbourly(out_of_time, out_of_time, slow, PASSED, out_of_time)
    outcomes = run_programs(["a", "b"], TASK, sandbox, references={"a": "own", "b": "own"})
    assert [outcome.passed for outcome in outcomes] == [True, False]
    assert [(code, cpu) for code, _, cpu in sandbox.asked[2:]] == [("own", 40), ("a", pytest.approx(22.8)), ("b", pytest.approx(22.8))]
    quick = Neighbourly(out_of_time, PASSED)
    assert not run_programs(["a"], TASK, quick, references={"a": "own"})[0].passed and len(quick.asked) == 2, "four times little is no more"


def test_waiting_costs_no_processor_time_and_computing_does(sandbox):
    task = read_program_task("t", {"prompt": "{p}", "program": "{completion}", "timeout_seconds": 1})
    waits, computes = run_programs(["import time\ntime.sleep(1.3)", "while True: pass"], task, sandbox)
    assert waits.passed, waits.message
    assert computes.status == Status.TIMEOUT


@needs_data
def test_a_solution_may_begin_with_imports_and_classes():
    problems, task = read_problems(EVAL / "mbpp.test.jsonl", None), read_program_task("mbpp", CODE["mbpp"])
    sampling = Sampling(max_tokens=1, stop=task.stop, stop_after_text=True, stop_after=task.stop_after)
    cut = {
        p["task_id"]
        for p in problems
        if not cut_at_stop(whole := "\n" + p["code"].replace("\r\n", "\n"), sampling).startswith(whole.rstrip())
    }
    assert 342 not in cut, "its class comes after an import"
    before = {p["task_id"] for p in problems if "\nclass" in cut_at_stop("\n" + p["code"], sampling)}
    assert 342 in before
