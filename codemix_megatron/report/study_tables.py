"""Tables of a study: means over seeds, and what each arm changed from its reference."""

import math
from dataclasses import replace
from statistics import fmean, stdev

from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Cell, Table
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.verdicts import Verdict, values_of
from codemix_megatron.report.wording import ABSENT, join_words, percent, plural, signed

__all__ = ["arm_name", "corrected", "effect_cell", "effect_table", "effect_text", "mean_text", "reading_aid", "seeds_text"]

MOST_DIGITS = 8
MINUS = "\u2212"
GLUE = "\u00a0"  # keeps an interval in one line


def arm_name(arm: Arm) -> Cell:
    """Return an arm with its number of seeds below."""
    return Cell(arm.label, below=seeds_text(arm))


def seeds_text(arm: Arm) -> str:
    """Say how many seeds there are, and of what."""
    if arm.seeds < 2:
        return "one run"
    return f"{plural(arm.seeds, 'data seed')} of {arm.repeated_phase}, one trunk" if arm.repeated_phase else plural(arm.seeds, "seed")


def mean_text(measure: Measure, values: list[float]) -> str:
    """Return a mean over seeds with the standard deviation over them."""
    if not values:
        return ABSENT
    text = number(measure, fmean(values))
    return f"{text}{GLUE}±{GLUE}{number(measure, stdev(values))}" if len(values) > 1 else text


def number(measure: Measure, value: float, digits: int | None = None) -> str:
    """Return a value as the measure is shown, with its decimal places unless others are given."""
    return f"{value * measure.scale:.{measure.digits if digits is None else digits}f}".replace("-", MINUS)


def digits_for(measure: Measure, effect: float) -> int:
    """Return the measure's decimal places, or as many as show two digits of an effect that would read as zero."""
    shown = abs(effect * measure.scale)
    return measure.digits if shown >= 0.5 * 10**-measure.digits or shown == 0 else min(MOST_DIGITS, 1 - math.floor(math.log10(shown)))


def effect_text(measure: Measure, verdict: Verdict) -> str:
    """Return a difference with its interval: +1.2 [0.3, 2.1]."""
    effect = verdict.effect
    digits = digits_for(measure, effect.value)
    text = signed(effect.value * measure.scale, digits)
    return (
        text
        if effect.low is None or effect.high is None
        else f"{text} [{number(measure, effect.low, digits)},{GLUE}{number(measure, effect.high, digits)}]"
    )


def effect_cell(measure: Measure, arm: Arm, verdict: Verdict | None, is_reference: bool) -> Cell:
    """Return the mean of an arm, and below it what it changed and what may be said of that."""
    values = values_of(measure, arm)
    if not values:
        return Cell(ABSENT, tone="quiet")
    if verdict is None:
        return Cell(mean_text(measure, values), below="reference" if is_reference else "")
    said = f"{' over items' if verdict.over_items else ''}{'; assumed noise' if verdict.effect.noise else ''}; {verdict.words}"
    return Cell(mean_text(measure, values), below=effect_text(measure, verdict) + said, tone=verdict.tone)


def effect_table(
    arms: list[Arm], base: Arm | None, measures: list[Measure], verdicts: dict, caption: str, grey: frozenset[str] = frozenset()
) -> Table:
    """Return arms by measures; `verdicts` are by (index of the arm, index of the measure). Measures called as in `grey` are set quietly."""
    rows = []
    for i, arm in enumerate(arms):
        cells = [effect_cell(measure, arm, verdicts.get((i, j)), arm is base) for j, measure in enumerate(measures)]
        cells = [replace(cell, tone=cell.tone or "quiet") if m.label in grey else cell for cell, m in zip(cells, measures, strict=True)]
        rows.append([arm_name(arm), percent(arm.share, 0), *cells])
    if hidden := [measure.label for measure in measures if measure.label in grey]:
        caption += f" Grey: {join_words(hidden)}, whose noise is too near their signal to decide between typical variants here."
    return Table(headings=["variant", "code", *(measure.label for measure in measures)], rows=rows, caption=caption)


def corrected(comparisons: int) -> str:
    """Return the sentence on Holm's correction that a caption ends with."""
    if not comparisons:
        return " Nothing could be tested, so there is no verdict: that takes several seeds of runs that were scored alike."
    return f" Holm's correction over {plural(comparisons, 'comparison')}."


def reading_aid(verdicts: dict[tuple[int, int], Verdict]) -> str:
    """Say how a table's verdicts were come by: the test, the family, what was assumed."""
    methods = dict.fromkeys(v.effect.method for v in verdicts.values() if v.adjusted is not None)
    compared = sum(v.adjusted is not None for v in verdicts.values())
    lines = ["Mean ± standard deviation over seeds; below it the difference from the reference, in points of 100 or bits per byte."]
    if compared:
        lines.append(
            f"Intervals are of 95 % over runs ({join_words(methods)}); a verdict and a colour need p < 0.05 after Holm's correction"
            f" over the {plural(compared, 'comparison')} here, by the variants' own spread and by that of all repeated variants together."
            " A table of more comparisons asks more of each: one that only just passes may be not distinguishable there."
        )
    if any(v.over_items for v in verdicts.values()):
        lines.append("An interval over items is that of two single runs: another seed may give another difference.")
    if assumed := dict.fromkeys(v.effect.noise for v in verdicts.values() if v.effect.noise):
        shown = [*assumed][:3]
        more = f" and {len(assumed) - 3} more" if len(assumed) > 3 else ""
        lines.append(f"Assumed noise is not that of these runs but of {join_words(shown)}{more}.")
    return " ".join(lines)
