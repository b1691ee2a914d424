"""One problem from its statement to the solutions that are believed: asked, read, looked through, cross-checked in the sandbox."""

import ast
import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from codemix_megatron.python_source import parse_python
from codemix_megatron.records.appended_lines import complete_lines, end_last_line
from codemix_megatron.sandbox.outcome import Limits
from codemix_megatron.sandbox.running import Sandbox
from codemix_megatron.synthesis.cross_check import cross_check
from codemix_megatron.synthesis.problem_statements import Problem
from codemix_megatron.synthesis.reply_log import Reply, ReplyLog
from codemix_megatron.synthesis.teacher_prompts import prompt_for
from codemix_megatron.synthesis.teachers import Request
from codemix_megatron.synthesis.written_code import WrittenCode, code_of, function_name, split_tests, unsafe_use

__all__ = ["Asking", "OutcomeLog", "Solved", "solve"]


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How each problem is asked about."""

    solutions: int = 4
    test_replies: int = 2
    tests_each: int = 5
    temperature: float = 0.8
    max_tokens: int = 1024
    seed: int = 1
    allowed_modules: tuple[str, ...] = ()
    least_solutions: int = 2
    least_tests: int = 2
    limits: Limits = field(default_factory=lambda: Limits(seconds=5.0))


@dataclass
class Solved:
    """What came of a problem: believed programs with the seed each was asked with, what they passed, and what became of every reply."""

    problem: Problem
    statement: str = ""
    entry: str = ""
    programs: list[tuple[str, int]] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    replies: Counter = field(default_factory=Counter)  # what became of each solution asked for
    tests_dropped: Counter = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def pay(self, reply: Reply) -> Reply:
        """Count the tokens of a reply."""
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        return reply


class OutcomeLog:
    """Whether programs pass tests, run once each and remembered in a file; safe to use from several threads."""

    def __init__(self, path: Path, sandbox: Sandbox, limits: Limits, workers: int):
        self.sandbox, self.limits = sandbox, limits
        self.slots, self.lock = threading.Semaphore(workers), threading.Lock()
        self.known = read_outcomes(path)
        self.handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the log

    def close(self) -> None:
        """Close the file."""
        self.handle.close()

    def passes(self, program: str, tests: str) -> bool:
        """Say whether the tests prove a program right."""
        key = hashlib.sha256(f"{self.sandbox.description}\0{self.limits}\0{program}\0{tests}".encode()).hexdigest()[:32]
        with self.lock:
            if key in self.known:
                return self.known[key]
        with self.slots:
            passed = self.sandbox.examine(program, tests, self.limits).passed
        with self.lock:
            self.known[key] = passed
            self.handle.write(json.dumps([key, passed]) + "\n")
            self.handle.flush()
        return passed


def read_outcomes(path: Path) -> dict[str, bool]:
    """Return the outcomes so far; what cannot be read is run again."""
    if not path.exists():
        return {}
    end_last_line(path)
    found = {}
    for line in complete_lines(path):
        try:
            key, passed = json.loads(line)
            found[key] = bool(passed)
        except (ValueError, TypeError):
            continue
    return found


def solve(problem: Problem, asking: Asking, log: ReplyLog, outcomes: OutcomeLog) -> Solved:
    """Ask about one problem and check what is answered; raises BudgetSpentError when it cannot be asked to its end."""
    solved = Solved(problem)

    def asked(kind: str, number: int, **words) -> Reply:
        prompt = prompt_for(kind, **words)
        return solved.pay(log.reply(Request(kind, prompt, asking.seed * 1000 + number, asking.temperature, asking.max_tokens)))

    solved.statement = problem.statement or asked("statement", 0, seed=problem.seed).text.strip()
    signature = problem.signature or signature_line(asked("signature", 0, statement=solved.statement).text) if solved.statement else ""
    solved.entry = function_name(signature)
    if not solved.entry:
        solved.replies["no statement or function name"] += asking.solutions
        return solved
    words = {"statement": solved.statement, "signature": signature}
    written = {number: asked("solution", number, **words) for number in range(asking.solutions)}
    tested = [asked("tests", number, num_tests=asking.tests_each, **words) for number in range(asking.test_replies)]
    programs = read_programs(solved, written, asking)
    tests = read_tests(solved, tested, asking)
    agreed = cross_check(list(programs), tests, outcomes.passes, asking.least_solutions, asking.least_tests)
    solved.tests_dropped.update(agreed.dropped_tests)
    solved.tests = [tests[index] for index in agreed.tests]
    for index, (program, numbers) in enumerate(programs.items()):
        if index in agreed.solutions:
            solved.programs.append((program, asking.seed * 1000 + numbers[0]))
        else:
            solved.replies["wrong" if agreed.solutions else "no agreement"] += 1
        solved.replies["the same program"] += len(numbers) - 1
    return solved


def signature_line(text: str) -> str:
    """Return the first line of a reply that declares a function."""
    return next((line.strip().strip("`") for line in text.splitlines() if "def " in line), text.strip()[:80])


def read_programs(solved: Solved, written: dict[int, Reply], asking: Asking) -> dict[str, list[int]]:
    """Return each different program of the replies with the numbers of those that hold it; count the others by what is wrong with them."""
    found: dict[str, list[int]] = {}
    texts: dict[str, str] = {}
    for number, reply in written.items():
        code = code_of(reply.text) if not reply.fault else reply.fault
        fault = code if isinstance(code, str) else what_is_wrong(code.tree, solved.entry, frozenset(asking.allowed_modules))
        if fault:
            solved.replies[fault] += 1
        else:
            assert isinstance(code, WrittenCode)
            text = texts.setdefault(ast.unparse(code.tree), code.text)  # programs that differ in white space and comments are one
            found.setdefault(text, []).append(number)
    return found


def what_is_wrong(tree: ast.Module, entry: str, allowed: frozenset[str]) -> str:
    """Return why a program is not even run; nothing where it may be."""
    if unsafe_use(tree, allowed):
        return "unsafe"
    defined = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    return "" if entry in defined else "another function"


def read_tests(solved: Solved, replies: list[Reply], asking: Asking) -> list[str]:
    """Return the different tests of the replies; count replies that hold none."""
    found: dict[str, None] = {}
    for reply in replies:
        code = code_of(reply.text) if not reply.fault else reply.fault
        if isinstance(code, str):
            solved.tests_dropped[code] += 1
            continue
        tests, left = split_tests(code.tree, solved.entry)
        harmless = [test for test in tests if not unsafe_use(parse_python(test), frozenset(asking.allowed_modules))]
        solved.tests_dropped["unsafe"] += len(tests) - len(harmless)
        solved.tests_dropped[left or "no tests"] += not tests
        found |= dict.fromkeys(harmless)
    solved.tests_dropped = +solved.tests_dropped
    return list(found)
