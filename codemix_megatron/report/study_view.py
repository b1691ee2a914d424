"""A study as the sections of its report need it."""

from codemix_megatron.report.arms import Arm, find_references
from codemix_megatron.report.measures import Measure, study_measures
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.verdicts import Verdict, judge

__all__ = ["StudyView"]


class StudyView:
    """A study as its sections need it: arms, their references, measures, and the verdicts of every arm against its reference."""

    def __init__(self, arms: list[Arm], runs: list[RunData], lend: bool = False):
        self.arms, self.runs, self.lend = arms, runs, lend
        self.references = find_references(arms)
        self.measures: list[Measure] = study_measures(runs)
        self.pairs = [(arm, base) for arm in arms if (base := self.references[id(arm)]) is not None]
        self.verdicts = judge(self.pairs, self.measures, arms, lend)

    def verdict(self, arm: Arm, measure: Measure) -> Verdict | None:
        """Return the verdict of one arm, None where there is none."""
        place = next((i for i, (one, _) in enumerate(self.pairs) if one is arm), None)
        return None if place is None else self.verdicts.get((place, self.measures.index(measure)))
