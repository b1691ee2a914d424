"""What seeds alone change: the spread of each variant that was repeated, and how large a difference has to be to be seen."""

import math

from codemix_megatron.analysis.effects import SIGNIFICANCE, pool_noise
from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Cell, Section, Table
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.study_tables import arm_name, mean_text
from codemix_megatron.report.verdicts import values_of
from codemix_megatron.report.wording import ABSENT

__all__ = ["least_difference", "seed_sections"]


def seed_sections(arms: list[Arm], measures: list[Measure]) -> list[Section]:
    """Return mean and spread of every arm with several seeds, none where there is none."""
    repeated = [arm for arm in arms if arm.seeds > 1]
    if not repeated:
        return []
    rows = [[arm_name(arm), *(spread_cell(measure, arm) for measure in measures)] for arm in repeated]
    caption = (
        "Mean ± standard deviation over seeds. Below: the least difference between two variants with so many seeds each and this spread that"
        " an uncorrected t test at 5 % would see; what is smaller is noise. It is the spread of a difference, and over few seeds uncertain itself."
    )
    return [
        Section(
            title="Seeds", anchor="seeds", blocks=[Table(headings=["variant", *(m.label for m in measures)], rows=rows, caption=caption)]
        )
    ]


def spread_cell(measure: Measure, arm: Arm) -> Cell:
    """Return mean, spread, and the least difference that could be seen."""
    values = values_of(measure, arm)
    if not values:
        return Cell(ABSENT, tone="quiet")
    least = least_difference(values)
    below = (
        "one seed scored"
        if len(values) < 2
        else "all seeds alike"
        if least is None
        else f"noise below {least * measure.scale:.{measure.digits}f}"
    )
    return Cell(mean_text(measure, values), below=below)


def least_difference(values: list[float]) -> float | None:
    """Return the difference of two means over as many seeds that is just significant, None where no seed differs."""
    noise = pool_noise([values], "")
    if noise is None:
        return None
    from scipy.stats import t

    return float(t.ppf(1 - SIGNIFICANCE / 2, 2 * (len(values) - 1))) * noise.deviation * math.sqrt(2 / len(values))
