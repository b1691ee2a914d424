"""Programs: completions of a model, run with their tests in the sandbox, counted as pass@k.

lm-eval's own humaneval and mbpp fetch their scorer from the hub when they are imported and run what a model wrote in
this process. Two things decide whether a small model scores at all, and both are settled here:

- a prompt ends before its last line break, and the completion begins with it. Most tokenizers join a line break with the
  indentation after it; a prompt that ends with the break asks for what the model has never seen;
- a stop sequence counts only once the completion holds something, and is cut off, so that the next function a model
  begins does not spoil the one asked for.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from codemix_megatron.analysis.estimates import estimate_mean, pass_at_k
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.cut_prompts import check_cut
from codemix_megatron.evaluate.digests import text_keys
from codemix_megatron.evaluate.program_runs import Program, run_in_time
from codemix_megatron.inference.generation import Sampling, generate
from codemix_megatron.inference.progress import Progress, silent
from codemix_megatron.records.item_scores import ItemScores, MetricItems
from codemix_megatron.sandbox.outcome import Outcome
from codemix_megatron.sandbox.running import Sandbox

__all__ = ["ProgramTask", "fill", "program_of", "read_problems", "read_program_task", "run_programs", "score_programs"]

KEYS = {"prompt", "program", "stop", "stop_after", "reference", "max_tokens", "timeout_seconds", "memory_mebibytes"}
RUNNING = "running programs"
COMPLETION = "{completion}"


@dataclass(frozen=True, kw_only=True)
class ProgramTask:
    """How problems become prompts and programs: `{name}` stands for a field of the problem, `{name[0]}` for a list's entry."""

    name: str
    prompt: str
    program: str
    stop: tuple[str, ...]
    stop_after: str = ""  # stop sequences count only after the first of these
    reference: str = ""  # the problem's own solution as a completion; what it takes scales the time of others
    max_tokens: int = 512
    timeout_seconds: float = 10.0  # of processor time
    memory_mebibytes: int = 1024


def read_program_task(name: str, plain: dict) -> ProgramTask:
    """Return the `code` block of a suite's task; raises EvaluationError for unknown and missing keys."""
    unknown, missing = set(plain) - KEYS, {"prompt", "program"} - set(plain)
    if unknown or missing:
        what = [f"unknown {', '.join(sorted(unknown))}"] * bool(unknown) + [f"missing {', '.join(sorted(missing))}"] * bool(missing)
        raise EvaluationError(f"tasks.{name}.code: {' and '.join(what)}; keys are {', '.join(sorted(KEYS))}")
    return ProgramTask(name=name, **{**plain, "stop": tuple(plain.get("stop", ()))})


def read_problems(path: Path, limit: int | None) -> list[dict]:
    """Return the problems of a JSON lines file, at most `limit`."""
    problems: list = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if limit is not None and len(problems) >= limit:
                break
            try:
                problems.append(json.loads(line))
            except ValueError as fault:
                raise EvaluationError(f"{path}:{number}: not JSON ({fault}); fix or remove the line") from None
    if not problems:
        raise EvaluationError(f"{path}: holds no problems")
    return problems


def fill(template: str, problem: dict) -> str:
    """Return a template with a problem's fields in it; a whole list is written one entry per line.

    >>> fill("{a}: {b[0]} {{}}", {"a": 1, "b": ["x"]})
    '1: x {}'
    """
    fields = {key: Lines(value) if isinstance(value, list) else value for key, value in problem.items()}
    try:
        return template.format_map(fields)
    except (KeyError, IndexError) as fault:
        raise EvaluationError(f"no field {fault} in a problem with {', '.join(problem)}; fix the suite's template") from None


class Lines(list):
    """A list that is written one entry per line."""

    def __format__(self, spec: str) -> str:
        return "\n".join(map(str, self))


def program_of(task: ProgramTask, problem: dict, completion: str) -> str:
    """Return the program that tests a completion. It starts where the prompt was cut: before its last line break."""
    return "".join(examined_of(task, problem, completion))


def examined_of(task: ProgramTask, problem: dict, completion: str) -> tuple[str, str]:
    """Return a completion's program and its tests: all that the suite's template has behind the completion."""
    fields = {**problem, "prompt": fill(task.prompt, problem).rstrip(), "completion": completion}
    before, mark, tests = task.program.rpartition(COMPLETION)
    program, tests = (fill(part, fields).replace("\r\n", "\n") for part in (f"{before}{mark}", tests))
    return program, tests


def score_programs(
    model, task: ProgramTask, problems: list[dict], sandbox: Sandbox, *, samples: int = 1, temperature: float | None = None,
    threads: int = 1, progress: Progress = silent, allow_cut: bool = True,
) -> ItemScores:  # fmt: skip
    """Complete every problem `samples` times, run the programs, and return pass@k for k = 1 and each of 10 and 100 that fits.

    Without `allow_cut`, EvaluationError is raised before anything is generated when more than 1 % of prompts lose their beginning.
    One sample is greedy, more are drawn at temperature 0.8 (top-p 0.95) unless told otherwise. Every copy of a model
    calls this; each generates and runs its share.
    """
    temperature = (0.0 if samples == 1 else 0.8) if temperature is None else temperature
    prompts = [list(model.encode(fill(task.prompt, problem).rstrip())) for problem in problems for _ in range(samples)]
    sampling = Sampling(
        max_tokens=min(task.max_tokens, model.max_length // 2),
        stop=task.stop,
        temperature=temperature,
        top_p=0.95 if temperature else 1.0,
        stop_after_text=True,
        stop_after=task.stop_after,
    )
    room = model.max_length - sampling.max_tokens
    cut = sum(len(prompt) > room for prompt in prompts[::samples])
    check_cut(task.name, cut, len(problems), model.max_length, allow_cut)
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done = min(len(prompts), done + number)
        progress(task.name, done, len(prompts))

    completions = generate(model, prompts, sampling, count)
    programs = [examined_of(task, problems[i // samples], completion) for i, completion in enumerate(completions)]
    references = references_of(task, problems, programs, samples)
    outcomes = run_shared(model, programs, task, sandbox, threads, progress, references)
    return replace(counted(task, problems, completions, outcomes, samples), cut=cut, window=model.max_length)


def run_shared(
    model, programs: list[tuple[str, str]], task: ProgramTask, sandbox: Sandbox, threads: int, progress: Progress,
    references: Mapping[Program, Program],
) -> list[Outcome]:  # fmt: skip
    """Run every copy's share of the programs and return all outcomes; the same program is run once."""
    different = list(dict.fromkeys(programs))
    share = different[model.share :: model.shares]
    done = run_programs(share, task, sandbox, threads, partial(progress, f"{task.name}: {RUNNING}"), references)
    outcomes = dict(zip(share, done, strict=True))
    for others in model.gather(outcomes):
        outcomes |= others
    return [outcomes[program] for program in programs]


def run_programs(
    programs: Sequence[Program],
    task: ProgramTask,
    sandbox: Sandbox,
    threads: int = 1,
    on_done: Callable[[int, int], None] = lambda at, of: None,
    references: Mapping[Program, Program] | None = None,
) -> list[Outcome]:
    """Run programs in the sandbox, `threads` at a time: (program, tests) apart from each other, a text without tests to its end."""
    return run_in_time(
        programs, references or {}, sandbox, seconds=task.timeout_seconds, memory_bytes=task.memory_mebibytes << 20, threads=threads,
        on_done=on_done,
    )  # fmt: skip


def references_of(task: ProgramTask, problems: list[dict], programs: list[tuple[str, str]], samples: int) -> dict[Program, Program]:
    """Return program -> what tests the problem's own solution, where the suite says which that is and the data have it."""
    own = [own_solution(task, problem) for problem in problems]
    return {program: solution for i, program in enumerate(programs) if (solution := own[i // samples]) is not None}


def own_solution(task: ProgramTask, problem: dict) -> tuple[str, str] | None:
    """Return a problem's own solution and its tests, None where there is none."""
    try:
        return examined_of(task, problem, fill(task.reference, problem)) if task.reference else None
    except EvaluationError:
        return None  # data without solutions are scored all the same


def counted(task: ProgramTask, problems, completions: list[str], outcomes: list[Outcome], samples: int) -> ItemScores:
    """Return pass@k per problem, and how many programs ended how."""
    passed = [sum(outcome.passed for outcome in outcomes[i : i + samples]) for i in range(0, len(outcomes), samples)]
    metrics = {}
    for k in (k for k in (1, 10, 100) if k <= samples):
        estimate = estimate_mean(values := [pass_at_k(samples, number, k) for number in passed])
        metrics[f"pass@{k}"] = MetricItems(value=estimate.value, standard_error=estimate.standard_error, values=values)
    ends: dict = {}
    for outcome in outcomes:
        ends[outcome.status.value] = ends.get(outcome.status.value, 0) + 1
    about = {"samples": str(samples)} | {f"ended: {status}": str(number) for status, number in sorted(ends.items())}
    keys = text_keys(json.dumps(problem, sort_keys=True, ensure_ascii=False) for problem in problems)
    return ItemScores(task=task.name, keys=keys, metrics=metrics, texts=completions[::samples], about=about)
