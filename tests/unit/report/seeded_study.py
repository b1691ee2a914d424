"""Studies whose runs are repeated by seed: run folders with scores drawn from levels and a noise of seeds."""

from dataclasses import replace

import numpy as np
from curved_run import make_curved_run

from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import AggregateScore, BitsPerByte, Scores, TaskScore


def write_scores(run: RunFolder, bits: dict[str, float], tasks: dict[str, float] | None = None, tokens: int = 81920, **changes) -> None:
    """Write scores without items: bits per byte by source, accuracies by task, and their mean as the paper's reasoning."""
    found = [BitsPerByte(corpus=c, value=v, standard_error=0.001, documents=60, tokens=1, bytes=1000) for c, v in bits.items()]
    scored = [
        TaskScore(
            suite="paper",
            task=task,
            metric="acc",
            value=value,
            standard_error=0.02,
            items=300,
            chance=0.25,
            low=value - 0.04,
            high=value + 0.04,
        )
        for task, value in (tasks or {}).items()
    ]
    means = []
    if scored:
        mean = sum(task.value for task in scored) / len(scored)
        means = [AggregateScore(suite="paper", name="reasoning", value=mean, standard_error=0.01, parts=list(tasks), **changes)]
    Scores(model="m", step=80, tokens=tokens, bits_per_byte=found, tasks=scored, aggregates=means).write(run.score_file(80))


def seeded_run(folder, share: float, seed: int) -> RunFolder:
    """Return a run of one phase with a share of code and a seed, not scored yet."""
    run = make_curved_run(folder, phases={"all": {"text": 1 - share, "code": share}})
    run.recipe.write_text(write_recipe(replace(read_recipe(run.recipe), seed=seed)).replace(str(folder), str(folder.parent)))
    return run


def seeded_study(folder, levels: dict[str, tuple[float, float]], seeds: int, noise: float, start: int = 0) -> dict[str, list[float]]:
    """Make a study of variants (share of code, level of text bits per byte) and return what each seed scored."""
    random, values = np.random.default_rng(start), {}
    for name, (share, level) in levels.items():
        for seed in range(1, seeds + 1):
            run = seeded_run(folder / (f"{name}-seed-{seed}" if seeds > 1 else name), share, seed)
            value = level + noise * random.normal()
            write_scores(run, {"text": value})
            values.setdefault(name, []).append(value)
    return values
