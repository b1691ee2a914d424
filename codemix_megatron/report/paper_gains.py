"""Relative gains over text-only beside the paper's: only where the base can be told from chance, and with an interval."""

from statistics import fmean

from codemix_megatron.analysis.effects import ratio_interval
from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Cell, Table
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.paper import read_paper
from codemix_megatron.report.roles import paper_variant
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.verdicts import unlike, values_of
from codemix_megatron.report.wording import ABSENT, relative, signed

__all__ = ["gain_blocks", "is_above_chance", "ratio_cell"]

CAPTION = (
    "Relative change from the reference, with Fieller's 95 % interval over seeds; beside it the paper's over text-only at the same stage (470M, its"
    " data, its items, no seeds: shapes can be compared, levels cannot). No ratio where the reference cannot be told from chance."
)


def gain_blocks(view: StudyView) -> list:
    """Return the table of relative gains, nothing where no arm is one of the paper's variants."""
    paper = read_paper()
    measures = [measure for measure in view.measures if measure.paper_key]
    rows = []
    for arm, base in view.pairs:
        told = paper_variant(arm.first, arm.label, paper)
        if arm is base or told is None or told["against"] is None or arm.budget != base.budget:
            continue
        against = paper["variants"][told["against"]]
        rows.append([arm.label, *(ratio_cell(m, arm, base, relative(told[m.paper_key], against[m.paper_key])) for m in measures)])
    if not rows or not measures:
        return []
    return [Table(headings=["variant", *(m.label for m in measures)], rows=rows, caption=CAPTION)]


def ratio_cell(measure: Measure, arm: Arm, base: Arm, paper: str) -> Cell:
    """Return our ratio, and the paper's below."""
    ours, theirs = values_of(measure, arm), values_of(measure, base)
    below = f"paper {paper}"
    if not ours or not theirs or unlike(arm, base, measure):
        return Cell(ABSENT, below=below, tone="quiet")
    if not is_above_chance(measure, base):
        return Cell(f"{signed((fmean(ours) - fmean(theirs)) * measure.scale, 1)} points; base at chance", below=below, tone="quiet")
    found = ratio_interval(ours, theirs)
    if found is None:
        return Cell(f"{relative(fmean(ours), fmean(theirs))} (no interval)", below=below)
    ratio, low, high = (100 * (value - 1) for value in found)
    return Cell(f"{signed(ratio, 1)} % [{signed(low, 1)}, {signed(high, 1)}]", below=below)


def is_above_chance(measure: Measure, base: Arm) -> bool:
    """Say whether a reference is above chance by two standard errors, over seeds where there are several, else over items."""
    values, chance = values_of(measure, base), measure.chance or 0.0
    if len(values) > 1:
        from scipy.stats import ttest_1samp

        return bool(ttest_1samp(values, chance, alternative="greater").pvalue < 0.025) if max(values) > min(values) else values[0] > chance
    error = measure.find(base.first)[1]
    return values[0] - 2 * (error or 0.0) > chance
