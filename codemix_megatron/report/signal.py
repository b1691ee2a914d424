"""Which measure can decide: the spread between variants over the noise of runs, as in "Signal and Noise" (arXiv 2508.13144).

Signal is the standard deviation of the means of variants, noise the pooled one over their seeds; where no variant was repeated, the spread over
the last scored checkpoints of the same run, as DataDecide (arXiv 2504.11393) takes it for data of one scale.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from codemix_megatron.analysis.effects import pool_noise
from codemix_megatron.records.scores import Scores
from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Cell, Section, Table
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.verdicts import scored_alike, values_of
from codemix_megatron.report.wording import ABSENT

__all__ = ["Signal", "order_by_signal", "signal_of", "signal_sections"]

CAN_DECIDE = 2.0  # signal to noise from which two typical variants lie further apart than two seeds mostly do
LAST_CHECKPOINTS = 5


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Spread between variants and noise of runs of one measure; None where there are too few of them."""

    spread: float | None
    noise: float | None
    source: str

    @property
    def ratio(self) -> float | None:
        """Signal to noise."""
        return self.spread / self.noise if self.spread is not None and self.noise else None

    @property
    def can_decide(self) -> bool:
        """Say whether variants lie clearly further apart than runs of one variant; what is not known is not held against a measure."""
        return self.ratio is None or self.ratio >= CAN_DECIDE


def signal_of(measure: Measure, arms: list[Arm]) -> Signal:
    """Return the signal of a measure over arms of one size, scored after as many tokens on the same items: the largest group of them."""
    alike = scored_alike(arms, measure)
    means = [fmean(values_of(measure, arm)) for arm in alike]
    spread = stdev(means) if len(means) > 1 else None
    over_seeds = pool_noise([values_of(measure, arm) for arm in alike], "seeds")
    over_checkpoints = pool_noise([last_values(measure, run) for arm in alike for run in arm.runs], "last checkpoints")
    noise = over_seeds or over_checkpoints
    return Signal(spread=spread, noise=noise.deviation if noise else None, source=noise.source if noise else "")


def last_values(measure: Measure, run: RunData) -> list[float]:
    """Return a measure at the last scored checkpoints of a run."""

    def at(scores: Scores) -> float | None:
        return measure.value(replace(run, scores=[scores]))

    return [value for scores in run.scores[-LAST_CHECKPOINTS:] if (value := at(scores)) is not None]


def order_by_signal(measures: list[Measure], arms: list[Arm]) -> list[Measure]:
    """Return bits per byte first, then the others, each by falling signal to noise; unknown ones keep their order behind them."""

    def rank(measure: Measure) -> tuple[bool, float]:
        ratio = signal_of(measure, arms).ratio
        return measure.in_points, math.inf if ratio is None else -ratio

    return sorted(measures, key=rank)


def signal_sections(measures: list[Measure], arms: list[Arm]) -> list[Section]:
    """Return a table of signal to noise per measure, none where nothing is known of it."""
    signals = [(measure, signal_of(measure, arms)) for measure in measures]
    if not any(signal.ratio is not None for _, signal in signals):
        return []
    rows = [signal_row(measure, signal) for measure, signal in signals]
    caption = (
        "Signal: standard deviation between variants of one size and budget. Noise: pooled standard deviation over seeds, else over the last"
        f" {LAST_CHECKPOINTS} scored checkpoints of a run. A measure below {CAN_DECIDE:g} cannot decide between typical variants here and is grey."
    )
    headings = ["measure", "signal", "noise", "signal to noise", "noise from"]
    return [
        Section(
            title="Which measure can decide", anchor="signal", blocks=[Table(headings=headings, rows=rows, caption=caption, left=(0, 4))]
        )
    ]


def signal_row(measure: Measure, signal: Signal) -> list[Cell]:
    """Return one row, grey where the measure cannot decide."""

    def shown(value: float | None, scale: Callable[[float], str]) -> str:
        return ABSENT if value is None else scale(value)

    texts = [
        measure.label,
        shown(signal.spread, lambda value: f"{value * measure.scale:.{measure.digits + 1}f}"),
        shown(signal.noise, lambda value: f"{value * measure.scale:.{measure.digits + 1}f}"),
        shown(signal.ratio, lambda value: f"{value:.1f}"),
        signal.source,
    ]
    return [Cell(text, tone="" if signal.can_decide else "quiet") for text in texts]
