"""Problem statements, as JSON lines: what a teacher is asked to solve.

A record holds its statement under text, prompt, question, problem or description; or a seed to make one of: `topic` (with `difficulty` and
`library`), or `seed_code`, a function to write a problem about. `signature` or `entry_point` names the function; else it is taken from the
record's own tests or code (MBPP's test_list), or the teacher names it. `topic` and `id` go into the page of yields.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from codemix_megatron.corpus.problems import numbered_lines
from codemix_megatron.errors import CorpusError
from codemix_megatron.python_source import parse_python

__all__ = ["Problem", "read_problems"]

STATEMENT_KEYS = ("text", "statement", "prompt", "question", "problem", "description")
NAME_KEYS = ("id", "task_id", "name", "problem_id")
CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
NO_ENTRY = {"abs", "all", "any", "bool", "dict", "float", "int", "isclose", "isinstance", "len", "list", "max", "min", "not", "round", "set",
            "sorted", "str", "sum", "tuple", "type"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem; without a statement its `seed` says what to make one of, without a signature the teacher is asked for one."""

    location: str
    name: str
    statement: str = ""
    signature: str = ""
    topic: str = ""
    seed: str = ""

    def as_plain(self) -> dict[str, str]:
        """Return it as JSON can hold it; its location is called `place` there, for digests of earlier corpora."""
        plain = asdict(self)
        return {"place": plain.pop("location"), **plain}


def read_problems(paths: list[Path]) -> list[Problem]:
    """Return every problem in order; raises CorpusError naming the line of one that cannot be read."""
    problems = [problem for path in paths for problem in problems_of(path)]
    if not problems:
        raise CorpusError(f"{', '.join(map(str, paths))}: no problems in there; give JSON lines, one problem each")
    return problems


def problems_of(path: Path) -> Iterator[Problem]:
    """Yield the problems of one file."""
    for number, line in numbered_lines(path):
        if line.strip():
            try:
                record = orjson.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("not an object")
                yield problem_of(record, f"{path.name}:{number}")
            except ValueError as fault:
                raise CorpusError(
                    f"{path}:{number}: {fault}; each line needs a statement ({', '.join(STATEMENT_KEYS)}) or a seed"
                ) from None


def problem_of(record: dict, location: str) -> Problem:
    """Return the problem of a record; raises ValueError for one without statement and seed."""
    statement = next((record[key].strip() for key in STATEMENT_KEYS if isinstance(record.get(key), str) and record[key].strip()), "")
    name = next((str(record[key]) for key in NAME_KEYS if isinstance(record.get(key), (str, int))), location)
    topic = record["topic"] if isinstance(record.get("topic"), str) else ""
    seed = "" if statement else seed_of(record)
    if not statement and not seed:
        raise ValueError("no statement")
    return Problem(location=location, name=name, statement=statement, signature=signature_of(record), topic=topic, seed=seed)


def seed_of(record: dict) -> str:
    """Return what a statement is to be made of, in words; nothing where the record has no seed."""
    if isinstance(record.get("seed_code"), str) and record["seed_code"].strip():
        return f"It is inspired by this code, but stands alone:\n\n```python\n{record['seed_code'].strip()}\n```"
    named = [f"{key}: {record[key]}" for key in ("topic", "difficulty", "library") if isinstance(record.get(key), str)]
    return "\n".join(named) if isinstance(record.get("topic"), str) else ""


def signature_of(record: dict) -> str:
    """Return `def name(parameters):`, or the name alone, as far as a record says it; nothing where it does not."""
    for key in ("signature", "entry_point"):
        if isinstance(record.get(key), str) and record[key].strip():
            return record[key].strip()
    tests = record.get("test_list") or record.get("tests") or []
    joined = "\n".join(tests) if isinstance(tests, list) and all(isinstance(test, str) for test in tests) else str(tests)
    called = [name for name in CALL.findall(joined) if name not in NO_ENTRY]
    return declared(record.get("code"), called[0]) if called else ""


def declared(code, name: str) -> str:
    """Return the signature of a function as some code declares it, or its name."""
    try:
        tree = parse_python(code.replace("\r\n", "\n") if isinstance(code, str) else "")
    except (SyntaxError, ValueError):
        return name
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return f"def {name}({ast.unparse(found[-1].args)}):" if found else name
