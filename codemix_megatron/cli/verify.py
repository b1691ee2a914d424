"""codemix verify: run solutions against their tests in a sandbox, keep those that pass."""

import glob
import sys
from collections import Counter
from pathlib import Path

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.cores import available_cores
from codemix_megatron.corpus.problems import Keys
from codemix_megatron.corpus.verified_solutions import Verification, count_candidates, verify
from codemix_megatron.errors import CorpusError
from codemix_megatron.sandbox.outcome import Limits
from codemix_megatron.sandbox.running import find_sandbox
from codemix_megatron.trust import PROGRAMS, add_trust_option

__all__ = ["add_arguments", "run"]

DEFAULTS = Limits()
MEBIBYTE = 1 << 20

EPILOG = """examples:
  codemix verify problems.jsonl --output corpora/verified.jsonl
  codemix verify 'shards/*.jsonl.gz' --output verified.jsonl --workers 32 --seconds 5 --memory-mib 512
  codemix verify mine.jsonl --output v.jsonl --solution-key answer --tests-key asserts --with-tests
  codemix verify numpy_problems.jsonl --output v.jsonl --python .venv/bin/python

A line holds a problem: `solution` (or `solutions`, a list) and `tests`; HumanEval's and MBPP's own names are known. What
passes becomes a document of OUTPUT, ready for `codemix prepare`; OUTPUT.failed.jsonl says why the rest did not: wrong
(an assertion failed), exception, syntax error, timeout, memory, processes, crash, exit (left before its tests were done),
untested (its tests ran not, or pass whatever it answers), unreadable. Killed and started again, it goes on where it was.

Programs run without network, without your files, under limits. Where this machine has neither bubblewrap nor user
namespaces nothing is run, unless you say --trust programs: then they run as you."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument("problems", nargs="+", metavar="PROBLEMS", help="JSON lines (.gz and .zst too), or a glob of them")
    parser.add_argument("--output", required=True, metavar="FILE.jsonl", help="documents that passed")
    parser.add_argument("--workers", type=int, default=None, metavar="N", help="programs at a time (default: one per core)")
    parser.add_argument("--seconds", type=float, default=DEFAULTS.seconds, help="most seconds a program may run (default %(default)g)")
    parser.add_argument(
        "--memory-mib", type=int, default=DEFAULTS.memory_bytes // MEBIBYTE, metavar="N",
        help="most memory of a program and all it starts (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--processes", type=int, default=DEFAULTS.processes, metavar="N", help="most processes and threads (default %(default)s)"
    )
    parser.add_argument("--python", metavar="PATH", help="interpreter, with its packages (default: this Python's standard library alone)")
    parser.add_argument("--solution-key", metavar="KEY", help="key of the solution, where its name is not a usual one")
    parser.add_argument("--tests-key", metavar="KEY", help="key of the tests")
    parser.add_argument("--with-tests", action="store_true", help="keep the tests as part of the text")
    parser.add_argument("--force", action="store_true", help="start again, whatever is there")
    add_json_option(parser, "the counts")
    add_trust_option(parser, PROGRAMS)
    parser.add_argument("--unsandboxed", action="store_true", help="the same as --trust programs")


def run(arguments) -> None:
    """Verify and print what became of the programs."""
    verification = Verification(
        paths=named_files(arguments.problems),
        output=output_file(arguments.output),
        limits=Limits(seconds=arguments.seconds, memory_bytes=arguments.memory_mib * MEBIBYTE, processes=arguments.processes),
        keys=Keys(arguments.solution_key, arguments.tests_key),
        workers=workers(arguments.workers),
        with_tests=arguments.with_tests,
    )
    sandbox = find_sandbox(arguments.python, unsandboxed=arguments.unsandboxed or PROGRAMS in arguments.trust)
    sys.stderr.write(f"sandbox: {sandbox.description}\n")
    from codemix_megatron.cli.progress import progress_bar

    with progress_bar("programs") as bar:
        task = bar.add_task("verifying", total=count_candidates(verification))

        def show(counts: Counter) -> None:
            done = sum(counts.values())
            bar.update(task, completed=done, description=f"{100 * counts['passed'] / max(1, done):.1f} % passed")

        summary = verify(verification, sandbox, force=arguments.force, progress=show)
    if arguments.json:
        print_json({**summary, "output": str(verification.output)})
    else:
        print_summary(summary, verification)


def named_files(named: list[str]) -> list[Path]:
    """Return the files that arguments and globs name; raises CorpusError for one that names none."""
    found = []
    for name in named:
        paths = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        if not paths or not all(Path(path).is_file() for path in paths):
            raise CorpusError(f"{name}: no such file; give JSON lines of problems")
        found += [Path(path) for path in paths]
    return found


def output_file(name: str) -> Path:
    """Return the path; raises CorpusError when `codemix prepare` would not know its suffix."""
    if not name.endswith(".jsonl"):
        raise CorpusError(f"--output {name}: must end in .jsonl")
    return Path(name)


def workers(asked: int | None) -> int:
    """Return how many programs run at a time."""
    if asked is not None and asked < 1:
        raise CorpusError(f"--workers: found {asked}, must be at least 1")
    return asked or available_cores()


def print_summary(summary: dict, verification: Verification) -> None:
    """Print counts by status and where the files are."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    table = Table("outcome", "programs", "share", box=SIMPLE_HEAD)
    table.columns[1].justify = table.columns[2].justify = "right"
    for status, count in sorted(summary["counts"].items(), key=lambda item: -item[1]):
        table.add_row(status, f"{count:,}", f"{100 * count / summary['programs']:.1f} %")
    Console().print(table)
    print(f"kept {summary['kept']:,} of {summary['programs']:,}: {verification.output}")
    if summary["kept"] < summary["programs"]:
        print(f"why the others were not: {verification.beside('.failed.jsonl')}")
