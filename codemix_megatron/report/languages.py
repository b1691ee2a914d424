"""The fixed yardstick of a study: bits per byte of the same programs in every language, and of the same text, variant by variant."""

from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Section, Table
from codemix_megatron.report.measures import Measure, task_measures
from codemix_megatron.report.study_tables import arm_name, effect_cell, reading_aid
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.verdicts import Verdict, judge

__all__ = ["LANGUAGES", "language_sections"]

LANGUAGES = "languages"  # the suite
SIDE_BY_SIDE = 4  # variants of one table


def language_sections(view: StudyView) -> list[Section]:
    """Return tables with a row for each language, four variants side by side; none where the suite was not scored."""
    measures = [measure for measure in task_measures(view.runs) if measure.suite == LANGUAGES]
    if not measures:
        return []
    verdicts = judge(view.pairs, measures, view.arms, view.lend)
    arms = [(i, arm, arm is base) for i, (arm, base) in enumerate(view.pairs)] + [(-1, arm, False) for arm in view.alone]
    groups = [arms[i : i + SIDE_BY_SIDE] for i in range(0, len(arms), SIDE_BY_SIDE)]
    tables = [language_table(group, measures, verdicts) for group in groups]
    return [Section(title="Languages", anchor="languages", blocks=tables)]


def language_table(arms: list[tuple[int, Arm, bool]], measures: list[Measure], verdicts: dict[tuple[int, int], Verdict]) -> Table:
    """Return languages by variants."""
    rows: list[list] = []
    for j, measure in enumerate(measures):
        cells = [effect_cell(measure, arm, verdicts.get((i, j)), is_reference) for i, arm, is_reference in arms]
        rows.append([measure.label.removesuffix(" bits_per_byte"), *cells])
    caption = (
        "Bits per byte of fixed texts, the same for every study (suite languages): programs in each language, novels, Wikipedia; lower is"
        f" better. {reading_aid(verdicts)}"
    )
    return Table(headings=["language", *(f"{arm.label} ({arm_name(arm).below})" for _, arm, _ in arms)], rows=rows, caption=caption)
