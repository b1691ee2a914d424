"""Programming problems with solutions and tests, as JSON lines: what is run, and what of it is kept.

A record holds a solution and its tests under the names that data sets use: HumanEval (prompt, canonical_solution, test,
entry_point), MBPP (code, test_setup_code, test_list), and solution or solutions with test or tests, as text or as a list.
A record with neither holds a whole program in `text`, assertions included. Tests are statements; what they only define
is found and run as unittest and pytest do, `check(candidate)` with the function that entry_point names, or the only one.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.streams import open_unpacked

__all__ = ["Candidate", "Keys", "numbered_lines", "read_candidates"]

SOLUTION_KEYS = ("solutions", "solution", "canonical_solution", "code", "completion")
TEST_KEYS = ("tests", "test", "test_list", "test_code")
SETUP_KEYS = ("test_setup_code", "setup")
NAME_KEYS = ("task_id", "id", "name", "problem_id")
LARGEST_PROGRAM_BYTES = 1 << 20


@dataclass(frozen=True)
class Keys:
    """Keys to read instead of the usual ones."""

    solution: str | None = None
    tests: str | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One solution of one problem; `fault` says why there is nothing to run. Without tests the solution holds its own."""

    location: str  # file:line, with #n for one of several solutions
    name: str  # what the record calls itself
    record: dict
    solution: str = ""
    tests: str = ""
    entry: str | None = None  # the function that `check(candidate)` is for
    fault: str = ""

    @property
    def program(self) -> str:
        """The solution with its tests, as one text."""
        return f"{self.solution.rstrip()}\n\n{self.tests}\n"


def read_candidates(paths: list[Path], keys: Keys) -> Iterator[Candidate]:
    """Yield every solution of every problem, in order; lines that hold none too, with their fault."""
    for path in paths:
        for number, line in numbered_lines(path):
            if line.strip():
                yield from candidates_of(line, f"{path}:{number}", keys)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file, unpacked, with their numbers from 1; raises CorpusError when it cannot be read."""
    try:
        with open_unpacked(path) as (lines, _):
            yield from enumerate(lines, 1)
    except OSError as fault:
        raise CorpusError(f"{path}: cannot be read ({fault}); give JSON lines, plain, .gz or .zst") from None


def candidates_of(line: bytes, location: str, keys: Keys) -> Iterator[Candidate]:
    """Yield the solutions of one line."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as fault:
        yield Candidate(location=location, name="", record={}, fault=f"not JSON: {fault}")
        return
    if not isinstance(record, dict):
        yield Candidate(location=location, name="", record={}, fault=f"not a JSON object but {type(record).__name__}")
        return
    name = str(next((record[key] for key in NAME_KEYS if record.get(key) is not None), ""))
    try:
        tests, solutions = tests_of(record, keys), solutions_of(record, keys)
        language = str(record.get("lang") or record.get("language") or "python")
        if not language.lower().startswith("python"):
            raise ValueError(f"written in {language}; only Python is run")
        if not tests and not any("assert" in solution for solution in solutions):
            raise ValueError(f"no tests (none of {', '.join([keys.tests] if keys.tests else TEST_KEYS)})")
    except ValueError as fault:
        yield Candidate(location=location, name=name, record=record, fault=str(fault))
        return
    for number, solution in enumerate(solutions, 1):
        where = f"{location}#{number}" if len(solutions) > 1 else location
        entry = record.get("entry_point") if isinstance(record.get("entry_point"), str) else None
        too_large = f"larger than {LARGEST_PROGRAM_BYTES >> 20} MiB" if len(solution) + len(tests) > LARGEST_PROGRAM_BYTES else ""
        yield Candidate(location=where, name=name, record=record, solution=solution, tests=tests, entry=entry, fault=too_large)


def solutions_of(record: dict, keys: Keys) -> list[str]:
    """Return the record's solutions as whole programs; raises ValueError when there is none."""
    names = [keys.solution] if keys.solution else [*SOLUTION_KEYS, "text"]
    key = next((key for key in names if record.get(key)), None)
    found = record[key] if key else []
    found = found if isinstance(found, list) else [found]
    if not found or not all(isinstance(solution, str) and solution.strip() for solution in found):
        raise ValueError(f"no solution (none of {', '.join(names)} holds text)")
    prompt, entry = record.get("prompt"), record.get("entry_point")
    if not (isinstance(prompt, str) and isinstance(entry, str)):
        return found
    # A completion of the prompt's function, unless it brings the whole function.
    return [s if re.search(rf"^(async )?def {re.escape(entry)}\b", s, re.MULTILINE) else prompt + s for s in found]


def tests_of(record: dict, keys: Keys) -> str:
    """Return the statements that test a solution; raises ValueError for tests that are neither text nor a list of texts."""
    key = keys.tests or next((key for key in TEST_KEYS if record.get(key)), None)
    if key is None:
        return ""
    tests = record.get(key) or ""
    lines = tests if isinstance(tests, list) else [tests]
    if not all(isinstance(line, str) for line in lines):
        raise ValueError(f"{key} is neither text nor a list of texts")
    setup = [record[key] for key in SETUP_KEYS if isinstance(record.get(key), str)]
    text = "\n".join([*setup, *lines]).strip()
    return f"{text}\n" if text else ""
