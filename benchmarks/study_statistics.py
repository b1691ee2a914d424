"""Whether conclusions hold: simulated studies without and with an effect, judged by scipy alone; ends with one line of JSON.

    python benchmarks/study_statistics.py [--studies 1000]

A study has 7 variants x 14 tasks; the noise of seeds is that of the published table, for every task one deviation (the root mean square of
its mixtures'). `mixed_noise` is a harder case: each variant has the noise of a mixture drawn at random, up to 48 times that of another,
where Welch's test alone is at 0.04 to 0.05, so that some 1,000 studies have more than 0.05 by chance. What this package says of a study is held
against what scipy says of the same numbers; the shares are those of this package. `standard_error` is the Monte-Carlo error of a share of 0.05
over so many studies: a share is known to about twice that.
"""

import argparse
import json
import math
import sys
import time

import numpy as np
from scipy import stats

from codemix_megatron.analysis.effects import RunNoise, effect_over_seeds, effect_with_noise, held_against, holm, pool_noise
from codemix_megatron.analysis.noise import PUBLISHED, lend_noise
from codemix_megatron.analysis.power import lent_power, welch_power

SCALE, VARIANTS, LEVEL, SEED = 4.2e9, 7, 0.05, 20240820
TASKS = list(PUBLISHED[SCALE])
FAMILY = (VARIANTS - 1) * len(TASKS)
BOUNDS = {"false_verdicts": 0.05, "power_difference": 0.05, "coverage": (0.93, 0.97)}


def deviations(random: np.random.Generator | None) -> np.ndarray:
    """Return the noise of every task and variant [tasks, variants], in accuracy: one for a task, or of mixtures drawn at random."""
    rows = []
    for task in TASKS:
        chance, published = PUBLISHED[SCALE][task]
        sample = np.array(published) * math.sqrt(5 / 4) / 100 * (1 - chance)
        rows.append(np.full(VARIANTS, math.sqrt((sample**2).mean())) if random is None else random.choice(sample, VARIANTS))
    return np.array(rows)


def judge(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p values, Holm's and whether intervals hold zero [tasks, variants - 1] of one study [tasks, variants, seeds]."""
    noise = [pool_noise(task, "this study") for task in scores]
    effects = [
        held_against(effect_over_seeds(task[variant], task[0]), pooled)
        for task, pooled in zip(scores, noise, strict=True)
        for variant in range(1, VARIANTS)
    ]
    plain = np.array([effect.p_value for effect in effects]).reshape(len(scores), -1)
    adjusted = np.array(holm(list(plain.ravel()))).reshape(len(scores), -1)
    covered = np.array([effect.low <= 0 <= effect.high for effect in effects]).reshape(len(scores), -1)
    return plain, adjusted, covered


def judge_by_scipy(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what scipy's Welch test, a t test with the error of an analysis of variance, and Holm's rule, written out, say of the same study."""
    welch = stats.ttest_ind(scores[:, 1:], scores[:, :1], axis=2, equal_var=False).pvalue
    seeds = scores.shape[2]
    error = np.sqrt(scores.var(axis=2, ddof=1).mean(axis=1, keepdims=True) * 2 / seeds)
    apart = np.abs(scores[:, 1:].mean(axis=2) - scores[:, :1].mean(axis=2))
    plain = np.maximum(welch, 2 * stats.t.sf(apart / error, VARIANTS * (seeds - 1))).ravel()
    order = np.argsort(plain)
    stepped = np.maximum.accumulate(np.minimum(1, plain[order] * np.arange(len(plain), 0, -1)))
    adjusted = np.empty_like(plain)
    adjusted[order] = stepped
    return plain.reshape(len(scores), -1), adjusted.reshape(len(scores), -1)


def null_studies(random, studies: int, seeds: int, mixed: bool) -> dict:
    """Return the share of studies without any effect that have a false verdict, and the coverage of their intervals."""
    false, held, differ = 0, [], 0.0
    for _ in range(studies):
        scores = random.normal(0.5, 1, (len(TASKS), VARIANTS, seeds)) * deviations(random if mixed else None)[:, :, None]
        plain, adjusted, covered = judge(scores)
        theirs = judge_by_scipy(scores)
        differ = max(differ, float(np.abs(plain - theirs[0]).max()), float(np.abs(adjusted - theirs[1]).max()))
        false += bool((adjusted < LEVEL).any())
        held.append(covered.mean())
    return {"false_verdicts": false / studies, "coverage": float(np.mean(held)), "largest_difference_from_scipy": differ}


def single_runs(random, studies: int, mixed: bool) -> dict:
    """Return how many verdicts studies with one seed have without lent noise, and the share with a false one with it."""
    decided, false = 0, 0
    lent = {task: lend_noise(task, SCALE) for task in TASKS}
    for _ in range(studies):
        scores = random.normal(0, 1, (len(TASKS), VARIANTS)) * deviations(random if mixed else None)
        decided += sum(effect_over_seeds(row[i : i + 1], row[:1]).is_decidable for row in scores for i in range(1, VARIANTS))
        effects = [
            effect_with_noise(row[i : i + 1], row[:1], lent[task])
            for task, row in zip(TASKS, scores, strict=True)
            for i in range(1, VARIANTS)
        ]
        false += min(holm([effect.p_value for effect in effects])) < LEVEL
    return {"verdicts_without_lent_noise": decided, "false_verdicts_with_lent_noise": false / studies}


def planted(random, studies: int, seeds: int, points: float) -> dict:
    """Return how often one planted effect in a study is found, beside what the power says."""
    task = TASKS.index("piqa")
    noise = deviations(None)
    found = 0
    for _ in range(studies):
        scores = random.normal(0, 1, (len(TASKS), VARIANTS, seeds)) * noise[:, :, None]
        scores[task, 1] += points / 100
        found += bool(judge(scores)[1][task, 0] < LEVEL)
    return {"seeds": seeds, "points": points, "found": found / studies, "power": welch_power(points / 100, noise[task, 0], seeds, FAMILY)}


def planted_in_single_runs(random, studies: int, points: float) -> dict:
    """Return the same for single runs with lent noise, where that is the true one."""
    task = TASKS.index("piqa")
    lent: list[RunNoise] = [lend_noise(name, SCALE) for name in TASKS]
    found = 0
    for _ in range(studies):
        scores = random.normal(0, 1, (len(TASKS), VARIANTS)) * np.array([noise.deviation for noise in lent])[:, None]
        scores[task, 1] += points / 100
        effects = [
            effect_with_noise(row[i : i + 1], row[:1], noise) for noise, row in zip(lent, scores, strict=True) for i in range(1, VARIANTS)
        ]
        found += holm([effect.p_value for effect in effects])[task * (VARIANTS - 1)] < LEVEL
    return {"seeds": 1, "points": points, "found": found / studies, "power": lent_power(points / 100, lent[task], 1, FAMILY)}


def faults_in(result: dict) -> list[str]:
    """Return what does not hold."""
    faults = []
    for name in ("one_noise", "mixed_noise"):
        for kind in ("null", "single"):
            for key, value in result[name][kind].items():
                if key.startswith("false") and value > BOUNDS["false_verdicts"]:
                    faults.append(f"{name}, {kind}: {key} {value}")
        if not BOUNDS["coverage"][0] <= result[name]["null"]["coverage"] <= BOUNDS["coverage"][1]:
            faults.append(f"{name}: coverage {result[name]['null']['coverage']}")
        if result[name]["single"]["verdicts_without_lent_noise"]:
            faults.append(f"{name}: verdicts from single runs")
        if result[name]["null"]["largest_difference_from_scipy"] > 1e-9:
            faults.append(f"{name}: other p values than scipy's")
    faults += [f"power: {each}" for each in result["planted"] if not abs(each["found"] - each["power"]) <= BOUNDS["power_difference"]]
    return faults


def main() -> int:
    """Simulate, print as it goes, end with one line of JSON; the exit code is 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    studies, started, random = parser.parse_args().studies, time.monotonic(), np.random.default_rng(SEED)
    error = round(math.sqrt(BOUNDS["false_verdicts"] * (1 - BOUNDS["false_verdicts"]) / studies), 4)
    result: dict = {"studies": studies, "standard_error": error, "variants": VARIANTS, "tasks": len(TASKS), "comparisons": FAMILY}
    for name, mixed in (("one_noise", False), ("mixed_noise", True)):
        result[name] = {"null": null_studies(random, studies, 3, mixed), "single": single_runs(random, studies, mixed)}
        print(name, result[name], flush=True)
    result["planted"] = [planted(random, studies, seeds, points) for seeds, points in ((3, 6.0), (3, 15.0), (5, 3.0), (8, 2.0))]
    result["planted"] += [planted_in_single_runs(random, studies, points) for points in (6.0, 10.0)]
    for each in result["planted"]:
        print(each, flush=True)
    result["faults"], result["seconds"] = faults_in(result), round(time.monotonic() - started, 1)
    result["met"] = not result["faults"]
    print(json.dumps(result))
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
