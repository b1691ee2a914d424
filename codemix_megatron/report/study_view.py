"""A study as the sections of its report need it."""

from collections.abc import Sequence

from codemix_megatron.report.arms import Arm, find_references
from codemix_megatron.report.choices import Choices
from codemix_megatron.report.measures import Measure, study_measures
from codemix_megatron.report.paper_filter import filtered_measures
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.signal import order_by_signal, signal_of
from codemix_megatron.report.verdicts import Verdict, judge

__all__ = ["StudyView"]

USUAL = Choices()


class StudyView:
    """A study as its sections need it: arms, their references, measures, and the verdicts of every arm against its reference."""

    def __init__(self, arms: list[Arm], runs: list[RunData], choices: Choices = USUAL, untrained: Sequence[RunData] = ()):
        self.arms, self.runs, self.choices, self.lend = arms, runs, choices, choices.lend_noise
        self.untrained = list(untrained)  # models that runs start from
        self.references = find_references(arms)
        filtered = filtered_measures(runs) if choices.above_chance else []
        self.measures = order_by_signal(study_measures(runs) + [measure for measure, _ in filtered], arms)
        self.grey = frozenset(measure.label for measure in self.measures if not signal_of(measure, arms).can_decide)
        self.left_out = {measure.label: tasks for measure, tasks in filtered}  # by the paper's filter
        self.pairs = [(arm, base) for arm in arms if (base := self.references[id(arm)]) is not None]
        self.alone = [arm for arm in arms if self.references[id(arm)] is None]
        self.verdicts = judge(self.pairs, self.measures, arms, self.lend)

    def verdict(self, arm: Arm, measure: Measure) -> Verdict | None:
        """Return the verdict of one arm, None where there is none."""
        index = next((i for i, (one, _) in enumerate(self.pairs) if one is arm), None)
        return None if index is None else self.verdicts.get((index, self.measures.index(measure)))
