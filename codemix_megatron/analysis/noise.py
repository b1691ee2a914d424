"""Noise of seeds that others have published, to be lent where a study has no seeds of its own.

Figures of Muennighoff et al. 2023, "Scaling Data-Constrained Language Models" (huggingface/datablations, plotstables/python.ipynb,
Apache-2.0): standard deviations over five runs that differ in their seed, with 0 to 90 % Python in the data. Scores there are means of 0 to
5 shots, in percent, rescaled so that 0 is chance and 100 is perfect.
"""

import math
from collections.abc import Iterable

from codemix_megatron.analysis.effects import RunNoise

__all__ = ["PUBLISHED", "SOURCE", "lend_mean_noise", "lend_noise"]

SOURCE = "Muennighoff et al. 2023"
SEEDS = 5
# Parameters -> task -> (chance, population standard deviation of each mixture that was repeated, in rescaled percent).
PUBLISHED: dict[float, dict[str, tuple[float, tuple[float, ...]]]] = {
    2.8e9: {
        "anli_r1": (1 / 3, (1.6, 0.5)),
        "anli_r2": (1 / 3, (0.4, 1.0)),
        "anli_r3": (1 / 3, (0.5, 0.8)),
        "arc_challenge": (1 / 4, (1.0, 0.8)),
        "arc_easy": (1 / 4, (0.5, 0.3)),
        "boolq": (1 / 2, (3.4, 4.4)),
        "cb": (1 / 3, (4.7, 5.1)),
        "copa": (1 / 2, (3.5, 2.2)),
        "hellaswag": (1 / 4, (0.3, 0.1)),
        "piqa": (1 / 2, (0.6, 0.7)),
        "rte": (1 / 2, (4.0, 1.1)),
        "sciq": (1 / 4, (0.6, 0.6)),
        "storycloze": (1 / 2, (0.2, 0.3)),
        "winogrande": (1 / 2, (0.8, 0.9)),
    },
    4.2e9: {
        "anli_r1": (1 / 3, (0.3, 0.6, 0.6, 1.1, 0.7, 1.1, 0.9, 1.1, 0.7, 0.6)),
        "anli_r2": (1 / 3, (0.5, 0.8, 1.0, 0.5, 0.6, 0.6, 0.7, 0.5, 1.2, 0.3)),
        "anli_r3": (1 / 3, (0.7, 0.5, 0.6, 0.4, 0.5, 0.5, 0.2, 0.3, 0.2, 0.2)),
        "arc_challenge": (1 / 4, (0.6, 1.0, 2.4, 1.4, 0.8, 0.5, 0.4, 0.5, 0.4, 0.4)),
        "arc_easy": (1 / 4, (0.9, 1.1, 3.7, 4.1, 1.0, 0.3, 0.5, 0.5, 0.4, 0.7)),
        "boolq": (1 / 2, (4.0, 12.0, 5.2, 3.3, 3.4, 2.1, 8.9, 6.6, 6.7, 7.3)),
        "cb": (1 / 3, (7.2, 2.7, 7.1, 1.2, 3.1, 4.8, 4.8, 3.3, 4.1, 2.4)),
        "copa": (1 / 2, (5.4, 4.9, 8.7, 3.7, 2.5, 4.5, 1.9, 4.2, 3.7, 4.9)),
        "hellaswag": (1 / 4, (4.8, 0.4, 4.8, 1.7, 2.4, 0.6, 0.1, 0.1, 0.2, 0.1)),
        "piqa": (1 / 2, (0.5, 0.6, 3.0, 2.8, 0.7, 1.0, 0.7, 0.3, 0.9, 0.8)),
        "rte": (1 / 2, (3.1, 3.4, 4.7, 2.6, 4.0, 5.9, 5.3, 2.1, 2.1, 2.5)),
        "sciq": (1 / 4, (3.9, 0.2, 4.8, 1.2, 1.2, 0.9, 0.6, 0.2, 0.2, 0.6)),
        "storycloze": (1 / 2, (3.7, 0.6, 4.8, 1.5, 1.9, 0.7, 0.4, 0.5, 0.4, 0.3)),
        "winogrande": (1 / 2, (2.6, 2.1, 4.4, 2.0, 1.2, 1.0, 1.3, 1.3, 0.6, 1.3)),
    },
}


def lend_noise(task: str, parameters: float | None) -> RunNoise | None:
    """Return the published noise of a task's accuracy (0 to 1) at the nearest scale, None for a task nobody has published.

    It is the largest of the published mixtures' deviations. They differ up to 48 times on one task, since single seeds went astray; a
    mean of them would be too small for just the runs that most need it. Degrees of freedom are those of all these seeds.
    """
    scale = nearest_scale(parameters)
    if task not in PUBLISHED[scale]:
        return None
    chance, deviations = PUBLISHED[scale][task]
    sample = max(deviations) * math.sqrt(SEEDS / (SEEDS - 1))  # the table has population deviations
    told = f"{SOURCE}, {task} at {scale / 1e9:g}B parameters"
    return RunNoise(deviation=sample / 100 * (1 - chance), degrees=(SEEDS - 1) * len(deviations), source=told)


def lend_mean_noise(tasks: Iterable[str], parameters: float | None) -> RunNoise | None:
    """Return the noise of a mean over tasks, as if all of them went astray together: the mean of their deviations; None where one is not known."""
    asked = list(tasks)
    lent = [noise for task in asked if (noise := lend_noise(task, parameters)) is not None]
    if not lent or len(lent) < len(asked):
        return None
    if len(lent) == 1:
        return lent[0]
    told = f"{SOURCE}, {len(lent)} tasks at {nearest_scale(parameters) / 1e9:g}B parameters"
    deviation = math.fsum(noise.deviation for noise in lent) / len(lent)
    return RunNoise(deviation=deviation, degrees=min(noise.degrees for noise in lent), source=told)


def nearest_scale(parameters: float | None) -> float:
    """Return the published number of parameters that is nearest by ratio."""
    return min(PUBLISHED, key=lambda scale: abs(math.log(scale / (parameters or scale))))
