"""What training changed in the public model that runs start from: the untouched model in the same table, judged over seeds."""

from dataclasses import replace

from codemix_megatron.analysis.effects import effect_from_constant, holm, undecided
from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Cell, Section, Table
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.study_tables import arm_name, corrected, effect_cell, mean_text
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.verdicts import ONE_RUN, OTHER_ITEMS, SAME_SEEDS, Verdict, decide, values_of
from codemix_megatron.report.wording import ABSENT, percent

__all__ = ["base_sections", "judge_from_base"]


def base_sections(view: StudyView) -> list[Section]:
    """Return a table for each model that runs start from, none where none is scored."""
    tables = [base_table(base, view) for base in view.untrained]
    return [Section(title="Against the untouched model", anchor="base", blocks=tables)] if tables else []


def judge_from_base(arms: list[Arm], base: RunData, measures: list[Measure]) -> dict[tuple[int, int], Verdict]:
    """Return (index of the arm, index of the measure) -> verdict against a model that no seed changes; all of them are one family.

    That model is one and the same for all seeds, so the only noise is that of the arm's own: Student's t of one sample.
    """
    found: dict[tuple[int, int], Verdict] = {}
    for i, arm in enumerate(arms):
        for j, measure in enumerate(measures):
            values, there = values_of(measure, arm), measure.value(base)
            if values and there is not None:
                found[i, j] = compare_with_base(arm, base, measure, values, there)
    family = [key for key, verdict in found.items() if verdict.effect.is_decidable]
    for key, adjusted in zip(family, holm([found[key].effect.p_value for key in family]), strict=True):
        found[key] = replace(found[key], adjusted=adjusted, words=decide(found[key].effect, adjusted, measures[key[1]]))
    return found


def compare_with_base(arm: Arm, base: RunData, measure: Measure, values: list[float], there: float) -> Verdict:
    """Return the effect of one arm before the family is known."""
    if {measure.content(run) for run in arm.runs if measure.value(run) is not None} != {measure.content(base)}:
        return Verdict(undecided(values, [there]), OTHER_ITEMS)
    effect = effect_from_constant(values, there)
    return Verdict(effect, "" if effect.is_decidable else ONE_RUN if len(values) < 2 else SAME_SEEDS)


def base_table(base: RunData, view: StudyView) -> Table:
    """Return the untouched model in the first row, and below it what became of it in every arm."""
    measures, verdicts = view.measures, judge_from_base(view.arms, base, view.measures)
    compared = sum(verdict.adjusted is not None for verdict in verdicts.values())
    known = [measure.value(base) for measure in measures]
    first = [mean_text(measure, [value]) if value is not None else ABSENT for measure, value in zip(measures, known, strict=True)]
    rows: list[list] = [[Cell(base.name, below="before any training here"), "", *first]]
    for i, arm in enumerate(view.arms):
        cells = [effect_cell(measure, arm, verdicts.get((i, j)), False) for j, measure in enumerate(measures)]
        rows.append([arm_name(arm), percent(arm.share, 0), *cells])
    caption = (
        f"Mean ± standard deviation over seeds; below it the difference from {base.name} as it was, in points of 100 or bits per byte, with the"
        f" 95 % interval of a one-sample t test over seeds.{corrected(compared)}"
    )
    return Table(headings=["model", "code", *(measure.label for measure in measures)], rows=rows, caption=caption)
