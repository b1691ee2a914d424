"""codemix synthesize: a teacher solves problems, the sandbox believes it or not, what stands becomes a corpus."""

import glob
import sys
from pathlib import Path

from codemix_megatron.cli.asked_model import asked_model_fault, least_fault
from codemix_megatron.cores import available_cores
from codemix_megatron.errors import CorpusError

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix synthesize problems.jsonl --endpoint http://localhost:8000/v1 --model teacher --output corpora/written
  codemix synthesize mbpp.train.jsonl --endpoint URL --model M --output DIR --against 'eval/*.jsonl' --budget-tokens 5M
  codemix synthesize topics.jsonl --teacher-folder ~/models/coder --output DIR --solutions 8

A line of PROBLEMS holds a statement (text, prompt, question, problem), or a seed to make one of: topic with difficulty and library, or
seed_code. The teacher is asked for solutions and, by themselves, for tests; solutions and tests that agree are believed, tests that
notice no change of a program are not. Stopped at any moment, the same command goes on, and asks nothing twice. DIR/yields.md says what
became of every solution, DIR/corpus.yaml is the block for a recipe. An API's key is read from OPENAI_API_KEY. Programs run as in `codemix verify`."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument("problems", nargs="+", metavar="PROBLEMS", help="JSON lines of problem statements (.gz and .zst too), or globs")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of documents, manifest, yields, replies")
    parser.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible server, up to and with /v1")
    parser.add_argument("--model", metavar="NAME", help="the teacher's name there")
    parser.add_argument("--teacher-folder", metavar="DIR", help="or a teacher in a Hugging Face folder")
    parser.add_argument("--solutions", type=int, default=4, metavar="K", help="solutions asked for per problem (default %(default)s)")
    parser.add_argument("--test-replies", type=int, default=2, metavar="N", help="times tests are asked for (default %(default)s)")
    parser.add_argument("--tests", type=int, default=5, metavar="N", help="tests asked for each time (default %(default)s)")
    parser.add_argument("--keep", type=int, default=2, metavar="N", help="most solutions kept of a problem (default %(default)s)")
    parser.add_argument("--with-tests", action="store_true", help="keep the tests as part of the text")
    parser.add_argument("--against", nargs="*", default=[], metavar="FILE", help="evaluation sets that nothing may overlap with")
    parser.add_argument("--temperature", type=float, default=0.8, help="of the teacher (default %(default)g)")
    parser.add_argument("--max-tokens", type=int, default=1024, metavar="N", help="longest reply (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="first of the seeds (default %(default)s)")
    parser.add_argument("--allow-import", action="append", default=[], metavar="MODULE", help="a module that solutions may import besides")
    parser.add_argument("--budget-tokens", metavar="N", help="most tokens to spend, those of earlier runs included, such as 5M")
    parser.add_argument("--requests-per-minute", type=float, metavar="N", help="most requests (default: as many as threads make)")
    parser.add_argument("--threads", type=int, default=8, metavar="N", help="problems asked about at once (default %(default)s)")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds to wait for a reply (default %(default)g)")
    parser.add_argument("--retries", type=int, default=5, metavar="N", help="tries after one that failed (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="most seconds a program may run (default %(default)g)")
    parser.add_argument("--python", metavar="PATH", help="interpreter, with its packages (default: this Python's standard library alone)")
    parser.add_argument("--unsandboxed", action="store_true", help="run programs as yourself, with your files and network: dangerous")


def run(arguments) -> None:
    """Synthesize and print the yields."""
    from codemix_megatron.cli.progress import progress_bar
    from codemix_megatron.sandbox.running import find_sandbox
    from codemix_megatron.synthesis.synthetic_corpus import synthesize

    check(arguments)
    synthesis = synthesis_of(arguments)
    sandbox = find_sandbox(arguments.python, unsandboxed=arguments.unsandboxed)
    sys.stderr.write(f"sandbox: {sandbox.description}\n")
    with progress_bar("problems") as bar:
        task = bar.add_task("asking", total=len(synthesis.problems))

        def show(done: int, believed: int, asked: int, tokens: int) -> None:
            bar.update(task, completed=done, description=f"{100 * believed / max(1, asked):.1f} % believed, {tokens:,} tokens")

        synthesize(synthesis, teacher_of(arguments), sandbox, show)
    sys.stdout.write((synthesis.output / "yields.md").read_text(encoding="utf-8") + "\n")
    sys.stdout.write(f"{synthesis.output / 'documents.jsonl'}\n{synthesis.output / 'corpus.yaml'}\n")


def check(arguments) -> None:
    """Raise CorpusError unless exactly one teacher is named and numbers make sense."""
    least = {"solutions": 2, "test_replies": 1, "tests": 2, "keep": 1, "max_tokens": 1, "threads": 1, "retries": 0}
    if fault := asked_model_fault(arguments, "teacher") or least_fault(arguments, least):
        raise CorpusError(fault)
    for name in ("timeout", "requests_per_minute"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise CorpusError(f"--{name.replace('_', '-')}: found {value}, must be above 0")


def synthesis_of(arguments):
    """Return what is asked for."""
    from codemix_megatron.recipe.quantity import parse_tokens
    from codemix_megatron.sandbox.outcome import Limits
    from codemix_megatron.synthesis.problem_statements import read_problems
    from codemix_megatron.synthesis.problem_work import Asking
    from codemix_megatron.synthesis.synthetic_corpus import Synthesis

    try:
        budget = None if arguments.budget_tokens is None else parse_tokens(arguments.budget_tokens)
    except ValueError as fault:
        raise CorpusError(f"--budget-tokens: {fault}") from None
    asking = Asking(
        solutions=arguments.solutions, test_replies=arguments.test_replies, tests_each=arguments.tests, temperature=arguments.temperature,
        max_tokens=arguments.max_tokens, seed=arguments.seed, allowed_modules=tuple(arguments.allow_import),
        limits=Limits(seconds=arguments.seconds),
    )  # fmt: skip
    return Synthesis(
        problems=read_problems(named_files(arguments.problems)), output=Path(arguments.output), asking=asking,
        against=tuple(map(str, named_files(arguments.against))), keep=arguments.keep, with_tests=arguments.with_tests,
        budget_tokens=budget, threads=1 if arguments.teacher_folder else arguments.threads, workers=available_cores(),
    )  # fmt: skip


def named_files(named: list[str]) -> list[Path]:
    """Return the files that arguments and globs name; raises CorpusError for one that names none."""
    found = []
    for name in named:
        paths = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        if not paths or not all(Path(path).is_file() for path in paths):
            raise CorpusError(f"{name}: no such file")
        found += [Path(path) for path in paths]
    return found


def teacher_of(arguments):
    """Return the teacher that was named."""
    from codemix_megatron.inference.endpoints import ChatEndpoint
    from codemix_megatron.synthesis.teachers import EndpointTeacher, FolderTeacher

    if arguments.teacher_folder:
        return FolderTeacher(arguments.teacher_folder)
    endpoint = ChatEndpoint(arguments.endpoint, arguments.model, timeout_seconds=arguments.timeout, retries=arguments.retries)
    return EndpointTeacher(endpoint, arguments.requests_per_minute)
