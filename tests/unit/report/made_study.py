"""Run folders of a study with scores on the same items, made from a rule: more code, worse on text, better on code."""

from dataclasses import replace

import numpy as np
from curved_run import make_curved_run

from codemix_megatron.analysis.estimates import estimate_ratio
from codemix_megatron.evaluate.store import task_scores
from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.records.item_scores import ItemScores, MetricItems, item_file
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import AggregateScore, BitsPerByte, Scores

ITEMS = 300


def score_run(run: RunFolder, text: float, code: float, tasks: dict[str, float]) -> None:
    """Write scores: bits per byte around `text` and `code`, and accuracy of each task; items are as hard in every run."""
    random = np.random.default_rng(11)
    bits = []
    for source, level in (("text", text), ("code", code)):
        sizes, noise = random.integers(200, 2000, 60), random.normal(0, 0.2, 60)
        values = (level + noise) * sizes
        metrics = {
            name: MetricItems(value=0.0, standard_error=None, values=list(map(float, v)))
            for name, v in (("bits", values), ("bytes", sizes))
        }
        file = ItemScores(task=source, keys=[f"{source}{i}" for i in range(60)], metrics=metrics).write(
            item_file(run.scores / "items", source, "x" * 16)
        )
        estimate = estimate_ratio(values, sizes)
        bits.append(
            BitsPerByte(
                corpus=source,
                value=estimate.value,
                standard_error=estimate.standard_error,
                documents=60,
                tokens=1,
                bytes=1,
                item_file=file.name,
            )
        )
    scores, means = [], []
    for task, level in tasks.items():
        right = (random.random(ITEMS) < level).astype(float)
        metric = MetricItems(value=right.mean(), standard_error=right.std(ddof=1) / ITEMS**0.5, values=right.tolist())
        items = ItemScores(task=task, keys=[f"{task}{i}" for i in range(ITEMS)], metrics={"acc": metric}, chance={"acc": 0.25})
        scores += task_scores(
            items, items.write(item_file(run.scores / "items", task, "y" * 16)).name, suite="paper", group="reasoning", main="acc"
        )
        means.append(scores[-1])
    value = sum(m.value for m in means) / len(means)
    error = sum(m.standard_error**2 for m in means) ** 0.5 / len(means)
    aggregates = [AggregateScore(suite="paper", name="reasoning", value=value, standard_error=error, parts=list(tasks), missing=[])]
    Scores(model="m", step=80, tokens=81920, bits_per_byte=bits, tasks=scores, aggregates=aggregates).write(run.score_file(80))


def make_study(folder) -> list[RunFolder]:
    """Return text-only, a sweep over code, two kinds of code, a cooldown of balanced-only, and a second seed of text-only."""
    runs = []
    for name, share in (("text-only", 0.0), ("sweep-025", 0.25), ("balanced-only", 0.5), ("sweep-100", 1.0)):
        run = make_curved_run(folder / name, phases={"all": {"text": 1 - share, "code": share}})
        score_run(run, 1.5 + 0.4 * share, 1.9 - 0.6 * share, {"boolq": 0.55 + 0.1 * share - 0.25 * share**2, "piqa": 0.6})
        runs.append(run)
    markup = make_curved_run(
        folder / "quality-markup",
        sources={"text": "text", "code": "code", "marks": "markup"},
        phases={"all": {"text": 0.0, "code": 0.8, "marks": 0.2}},
    )
    score_run(markup, 1.92, 1.35, {"boolq": 0.42, "piqa": 0.6})
    cooled = make_curved_run(folder / "balanced-cooldown", phases={"cooldown": {"text": 0.8, "code": 0.2}})
    score_run(cooled, 1.6, 1.5, {"boolq": 0.7, "piqa": 0.61})
    change_recipe(cooled, initial_weights=str(folder / "balanced-only"))
    again = make_curved_run(folder / "text-only-seed-2", phases={"all": {"text": 1.0, "code": 0.0}})
    score_run(again, 1.502, 1.9, {"boolq": 0.55, "piqa": 0.6})
    again.recipe.write_text(write_recipe(replace(read_recipe(runs[0].recipe), seed=8, name="text-only-seed-2")))
    return [*runs, markup, cooled, again]


def change_recipe(run: RunFolder, **changes) -> None:
    """Write a run's recipe with some keys changed."""
    run.recipe.write_text(write_recipe(replace(read_recipe(run.recipe), **changes)))
