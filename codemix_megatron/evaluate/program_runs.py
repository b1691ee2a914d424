"""Running completed programs so that their neighbours on the machine decide nothing: processor time counts, the clock only bounds."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from codemix_megatron.sandbox.outcome import Limits, Outcome, Status
from codemix_megatron.sandbox.running import Sandbox

__all__ = ["Program", "run_in_time"]

Program = str | tuple[str, str]  # a text that tests itself, or a program and its tests
WALL_FACTOR, ALONE_FACTOR = 2, 6  # time by the clock as a multiple of processor time: beside others, and alone
REFERENCE_FACTOR = 4  # processor time allowed, as a multiple of what the problem's own solution takes


def run_in_time(
    programs: Sequence[Program],
    references: Mapping[Program, Program],
    sandbox: Sandbox,
    *,
    seconds: float,
    memory_bytes: int,
    threads: int = 1,
    on_done: Callable[[int, int], None] = lambda at, of: None,
) -> list[Outcome]:
    """Run programs with `seconds` of processor time each, `threads` at a time.

    What the clock ended is tried again alone. What ran out of time is given four times what its reference takes, where that is more, as
    EvalPlus does; references are run for these alone.
    """
    limits = limits_of(seconds, WALL_FACTOR, memory_bytes)
    outcomes = []
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for outcome in pool.map(partial(run_one, sandbox, limits), programs):
            outcomes.append(outcome)
            on_done(len(outcomes), len(programs))
    allowed: dict[Program, float] = {}
    for index, (program, outcome) in enumerate(zip(programs, outcomes, strict=True)):
        if outcome.status == Status.TIMEOUT and outcome.seconds >= limits.seconds:
            outcome = run_one(sandbox, limits_of(seconds, ALONE_FACTOR, memory_bytes), program)
        if outcome.status == Status.TIMEOUT and program in references:
            reference = references[program]
            if reference not in allowed:
                allowed[reference] = REFERENCE_FACTOR * reference_seconds(reference, sandbox, seconds, memory_bytes)
            if allowed[reference] > seconds:
                outcome = run_one(sandbox, limits_of(allowed[reference], ALONE_FACTOR, memory_bytes), program)
        outcomes[index] = outcome
    return outcomes


def limits_of(seconds: float, factor: float, memory_bytes: int) -> Limits:
    """Return limits of so much processor time, and `factor` times as much by the clock."""
    return Limits(seconds=factor * seconds, cpu_seconds=max(1.0, seconds), memory_bytes=memory_bytes)


def reference_seconds(reference: Program, sandbox: Sandbox, seconds: float, memory_bytes: int) -> float:
    """Return the time that a problem's own solution takes alone, 0 where it does not pass."""
    outcome = run_one(sandbox, limits_of(REFERENCE_FACTOR * seconds, WALL_FACTOR, memory_bytes), reference)
    return outcome.seconds if outcome.passed else 0.0


def run_one(sandbox: Sandbox, limits: Limits, program: Program) -> Outcome:
    """Run one program."""
    code, tests = (program, "") if isinstance(program, str) else program
    return sandbox.examine(code, tests, limits) if tests.strip() else sandbox.run(code, limits)
