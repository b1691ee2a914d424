"""A scripted teacher over real HTTP: what it answers right is kept, nothing else, whatever interrupts it."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_teacher import FATES, ScriptedTeacher

from codemix_megatron.cli.main import main
from codemix_megatron.errors import CorpusError, SandboxError
from codemix_megatron.inference.endpoints import ChatEndpoint
from codemix_megatron.sandbox.running import find_sandbox
from codemix_megatron.synthesis.problem_statements import Problem, read_problems
from codemix_megatron.synthesis.problem_work import Asking
from codemix_megatron.synthesis.synthetic_corpus import Synthesis, synthesize
from codemix_megatron.synthesis.teachers import EndpointTeacher

PROBLEMS = {
    "Return the sum of the squares of the odd numbers in a list.": (
        "def odd_squares(numbers):\n    return sum(n * n for n in numbers if n % 2 == 1)\n",
        ["assert odd_squares([1, 2, 3]) == 10", "assert odd_squares([]) == 0", "assert odd_squares([2, 5]) == 25"],
    ),
    "Return a word with its vowels taken out, keeping everything else as it is.": (
        "def without_vowels(word):\n    kept = []\n    for letter in word:\n        if letter not in 'aeiou':\n            kept.append(letter)\n"
        "    return ''.join(kept)\n",
        ["assert without_vowels('banana') == 'bnn'", "assert without_vowels('sky') == 'sky'"],
    ),
    "Count how often the most frequent item of a sequence occurs in it.": (
        "def most_frequent(items):\n    counts = {}\n    for item in items:\n        counts[item] = counts.get(item, 0) + 1\n"
        "    return max(counts.values(), default=0)\n",
        ["assert most_frequent([1, 1, 2]) == 2", "assert most_frequent('abcabca') == 3", "assert most_frequent([]) == 0"],
    ),
}
COPIED = "Write a function to find the similar elements from the given two tuple lists and nothing more."


@pytest.fixture(scope="module")
def sandbox():
    try:
        return find_sandbox()
    except SandboxError as fault:
        pytest.skip(str(fault))


@pytest.fixture
def teacher():
    made = ScriptedTeacher(PROBLEMS)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def problems(write_lines):
    names = [code.split("(")[0].removeprefix("def ") for code, _ in PROBLEMS.values()]
    rows = [
        {"id": i, "text": s, "entry_point": n, "topic": "numbers" if i == 0 else "words"}
        for i, (s, n) in enumerate(zip(PROBLEMS, names, strict=True))
    ]
    return write_lines([*rows, {"id": "copied", "text": COPIED, "entry_point": "f"}], "problems.jsonl")


@pytest.fixture
def suite(write_lines):
    return write_lines([{"prompt": f"{COPIED} assert f((1, 2), (2, 3)) == (2,)"}], "suite.jsonl")


def asked_of(teacher, **more) -> EndpointTeacher:
    return EndpointTeacher(ChatEndpoint(teacher.url, "scripted", timeout_seconds=240.0, retries=0, **more))


def synthesis_of(problems, suite, output: Path, **more) -> Synthesis:
    return Synthesis(
        problems=read_problems([problems]), output=output, asking=Asking(solutions=len(FATES), test_replies=2), against=(str(suite),), threads=4,
        workers=2, **more,
    )  # fmt: skip


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("documents.jsonl", "manifest.json", "yields.md")}


class Interrupted(BaseException):
    """Stands for a kill."""


def test_yields_are_as_the_teacher_scripted_them_and_ten_interruptions_change_no_byte(teacher, problems, suite, sandbox, tmp_path):
    manifest = synthesize(synthesis_of(problems, suite, tmp_path / "whole"), asked_of(teacher), sandbox)
    assert manifest["solutions"] == dict.fromkeys(FATES, len(PROBLEMS)), manifest
    assert manifest["problems_contaminated"] == 1 and not any(COPIED in r["messages"][0]["content"] for r in teacher.requests)
    documents = [json.loads(line) for line in (tmp_path / "whole" / "documents.jsonl").read_text().splitlines()]
    assert [d["text"] for d in documents] == [f"# {statement}\n\n{code}" for statement, (code, _) in PROBLEMS.items()]
    assert [d["tests_passed"] for d in documents] == [len(tests) for _, tests in PROBLEMS.values()], (
        "wrong and empty tests are not believed"
    )
    assert documents[0] | {"text": ""} == {
        "text": "", "lang": "python", "kind": "synthetic", "problem": "0", "topic": "numbers", "source": "synthetic:scripted",
        "teacher": "scripted", "prompts": manifest["prompts"], "seed": 1000, "tests_passed": 3, "yield": round(1 / len(FATES), 4),
    }  # fmt: skip
    assert not Path("/tmp/codemix-was-here").exists()
    asked = len(teacher.requests)
    assert asked == len(PROBLEMS) * (len(FATES) + 2) == len({json.dumps(request) for request in teacher.requests})
    assert manifest["prompt_tokens"] + manifest["completion_tokens"] == 150 * (asked - 2 * len(PROBLEMS))

    class Killed(EndpointTeacher):
        left = 3

        def write(self, request):
            self.left -= 1
            if self.left < 0:
                raise Interrupted
            return super().write(request)

    teacher.requests.clear()
    for number in range(10):
        with pytest.raises(Interrupted):
            synthesize(synthesis_of(problems, suite, tmp_path / "cut"), Killed(asked_of(teacher).endpoint), sandbox)
        with open(tmp_path / "cut" / "replies.jsonl", "a") as log:
            log.write('{"request": "torn' if number % 2 else "")
        Killed.left = 1
    synthesize(synthesis_of(problems, suite, tmp_path / "cut"), asked_of(teacher), sandbox)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    without_text = 2 * len(PROBLEMS)  # as the token counts above have it
    more = [number for number in Counter(map(json.dumps, teacher.requests)).values() if number > 1]
    assert len(more) <= without_text, "nothing that got text is asked twice"
    teacher.requests.clear()
    synthesize(synthesis_of(problems, suite, tmp_path / "cut"), asked_of(teacher), sandbox)
    assert len(teacher.requests) == without_text and files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_a_budget_ends_the_asking_before_it_is_passed_and_other_settings_are_refused(teacher, problems, suite, sandbox, tmp_path):
    small = synthesis_of(problems, suite, tmp_path / "out", budget_tokens=2000)
    small = replace(small, threads=1, asking=replace(small.asking, max_tokens=200))
    manifest = synthesize(small, asked_of(teacher), sandbox)
    replies = [json.loads(line) for line in (tmp_path / "out" / "replies.jsonl").read_text().splitlines()]
    assert 1000 < sum(reply["prompt_tokens"] + reply["completion_tokens"] for reply in replies) <= 2000
    assert manifest["problems_done"] < len(small.problems) and len(replies) == len(teacher.requests)
    with pytest.raises(CorpusError, match=r"begun with other settings \(keep was 2, is 1\)"):
        synthesize(replace(small, keep=1), asked_of(teacher), sandbox)
    grown = synthesize(replace(small, budget_tokens=None), asked_of(teacher), sandbox)
    assert grown["problems_done"] == len(small.problems)


def test_command_writes_a_corpus_that_prepare_reads(teacher, problems, suite, sandbox, tmp_path, capsys, tokenizer_path):
    words = [
        "--endpoint",
        teacher.url,
        "--model",
        "scripted",
        "--solutions",
        "2",
        "--timeout",
        "1",
        "--retries",
        "0",
        "--against",
        str(suite),
    ]
    assert main(["synthesize", str(problems), "--output", str(tmp_path / "written"), *words]) == 0
    printed = capsys.readouterr().out
    assert "| kept | 3 | 50.0 % |" in printed and "| numbers | 1 | 1 | 2 | 1 | 50.0 % |" in printed
    from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
    from codemix_megatron.corpus.tokenizers import load_tokenizer
    from codemix_megatron.recipe.schema import CorpusSpec

    spec = CorpusSpec(kind="synthetic", documents=(str(tmp_path / "written" / "documents.jsonl"),), prefix=str(tmp_path / "corpus"))
    prepared = prepare_corpus("written", spec, load_tokenizer(tokenizer_path), HowToPrepare())
    assert prepared.num_documents == 3 and list(prepared.kinds) == ["synthetic"]


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "name one teacher"),
        (["--endpoint", "http://x", "--teacher-folder", "y"], "name one teacher"),
        (["--endpoint", "http://x"], "--model: missing"),
        (["--endpoint", "x", "--model", "m"], "needs http:// or https://"),
        (["--endpoint", "http://x", "--model", "m", "--solutions", "1"], "--solutions: found 1, must be at least 2"),
        (["--endpoint", "http://x", "--model", "m", "--against", "no-such"], "no-such: no such file"),
        (["--endpoint", "http://x", "--model", "m", "--budget-tokens", "many"], "--budget-tokens"),
    ],
)
def test_command_refuses_in_one_message(problems, tmp_path, capsys, words, message):
    assert main(["synthesize", str(problems), "--output", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err


def test_digests_of_problems_are_those_of_corpora_begun_before_a_field_was_renamed():
    problem = Problem(location="p.jsonl:1", name="n", statement="s", signature="f()", topic="t")
    stored = {"place": "p.jsonl:1", "name": "n", "statement": "s", "signature": "f()", "topic": "t", "seed": ""}
    assert json.dumps(problem.as_plain()) == json.dumps(stored)


def test_statements_are_found_under_their_usual_names_and_faults_name_the_line(write_lines):
    rows = [
        {"text": "Sum two.", "test_list": ["assert set(add(1, 2)) == 3"], "code": "def add(a, b=2):\r\n    return a + b", "task_id": 7},
        {"prompt": "Do it.", "signature": "def do_it(x: int) -> int:"}, {"topic": "graphs", "difficulty": "hard", "library": "heapq"},
        {"seed_code": "def f():\n    pass"},
    ]  # fmt: skip
    first, second, third, fourth = read_problems([write_lines(rows)])
    assert (first.name, first.signature, second.signature) == ("7", "def add(a, b=2):", "def do_it(x: int) -> int:")
    assert "topic: graphs\ndifficulty: hard\nlibrary: heapq" in third.seed and "def f():" in fourth.seed
    with pytest.raises(CorpusError, match=r"documents.jsonl:2: no statement"):
        read_problems([write_lines([{"text": "x"}, {"difficulty": "hard"}])])
