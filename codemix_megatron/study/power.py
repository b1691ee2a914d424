"""How many seeds a study needs, before it is paid for: the power of its comparisons by measured or published noise."""

from dataclasses import asdict, dataclass, field

from codemix_megatron.analysis.effects import RunNoise
from codemix_megatron.analysis.noise import lend_mean_noise
from codemix_megatron.analysis.power import seeds_needed, welch_power
from codemix_megatron.errors import CodemixError
from codemix_megatron.evaluate.continuation import task_name
from codemix_megatron.evaluate.suites import read_suite
from codemix_megatron.report.arms import group_arms
from codemix_megatron.report.measures import study_measures, task_measures
from codemix_megatron.report.verdicts import measured_noise
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.reporting import read_variants
from codemix_megatron.study.schema import Study

__all__ = ["POWER", "MeasurePower", "Question", "StudyPower", "power_of_study"]

POWER = 0.8
FROM_HELD_OUT = {  # suites made from a run's own documents
    "bits_per_byte": "bits per byte",
    "rolling_bits_per_byte": "rolling bits per byte",
    "continuation": "continuation accuracy",
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be seen: a difference in points of 100, and one in bits per byte; at most `most_seeds` are affordable."""

    points: float = 1.0
    bits: float = 0.01
    most_seeds: int = 10
    comparisons: int | None = None  # of the family; None: every variant by every measure

    def __post_init__(self):
        if not (self.points > 0 and self.bits > 0 and self.most_seeds >= 2 and (self.comparisons is None or self.comparisons >= 1)):
            raise CodemixError(
                f"--detect {self.points:g}, --detect-bits {self.bits:g}, --most-seeds {self.most_seeds}: differences have to be"
                " above 0, seeds at least 2, --comparisons at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class MeasurePower:
    """One measure: its noise, how often the difference is found with so many seeds, and the fewest that find it in 80 %."""

    measure: str
    difference: float
    unit: str
    deviation: float | None  # in the unit
    source: str
    power: dict[int, float] = field(default_factory=dict)
    seeds: int | None = None  # None: no affordable number, or no noise known


@dataclass(frozen=True, kw_only=True)
class StudyPower:
    """All measures of a study; `comparisons` is the family that Holm's correction is over."""

    variants: int
    seeds: float  # runs of each variant as the study stands
    comparisons: int
    measures: list[MeasurePower]

    def as_json(self) -> dict:
        """Return what --json prints."""
        return asdict(self)


def power_of_study(study: Study, question: Question, folder: StudyFolder | None = None, parameters: float | None = None) -> StudyPower:
    """Return the power of every measure: by the seeds of `folder` where the study has begun, else by published noise of tasks."""
    arms = {(variant.variant, tuple(variant.points.items())) for variant in study.variants}
    pairs = max(1, len(arms) - len({points for _, points in arms}))
    noises = {**published(study, parameters), **(measured(folder) if folder is not None and folder.state.is_file() else {})}
    comparisons = question.comparisons or pairs * max(1, len(noises))
    rows = [power_of(name, unit, noise, question, comparisons) for name, (unit, noise) in noises.items()]
    rows.sort(key=lambda row: (row.seeds is None, row.deviation is None, row.seeds or 0, (row.deviation or 0) / row.difference))
    return StudyPower(variants=len(arms), seeds=len(study.variants) / len(arms), comparisons=comparisons, measures=rows)


def published(study: Study, parameters: float | None) -> dict[str, tuple[str, RunNoise | None]]:
    """Return measure -> (unit, published noise) of what the study scores."""
    recipe = study.variants[0].recipe
    found: dict[str, tuple[str, RunNoise | None]] = {}
    if not study.is_scored:
        return {}
    for name in recipe.evaluation.suites:
        if name in FROM_HELD_OUT:
            unit = "points" if name == "continuation" else "bits per byte"
            found |= {held_out_label(name, corpus): (unit, None) for corpus in study.corpora}
            continue
        suite = read_suite(name)
        main = {task.name: task.metric for task in suite.tasks}
        for task, metric in main.items():
            unit = "bits per byte" if metric == "bits_per_byte" else "points"
            found[f"{task} {metric}"] = (unit, lend_mean_noise([task], parameters) if metric == "acc" else None)
    return found


def held_out_label(suite: str, corpus: str) -> str:
    """Return what reports call a measure made from a corpus's held-out documents."""
    return f"{task_name(corpus)} acc" if suite == "continuation" else f"{corpus}, {FROM_HELD_OUT[suite]}"


def measured(folder: StudyFolder) -> dict[str, tuple[str, RunNoise | None]]:
    """Return measure -> (unit, noise of the variants that were repeated by seed); nothing for measures without such variants."""
    runs = [run for run in read_variants(folder) if run.scores]
    arms = group_arms(runs)
    found: dict[str, tuple[str, RunNoise | None]] = {}
    for measure in {measure.label: measure for measure in [*study_measures(runs), *task_measures(runs)]}.values():
        noises = [noise for arm in arms if (noise := measured_noise(measure, arms, arm)) is not None]
        if noises:
            found[measure.label] = (measure.unit, max(noises, key=lambda noise: noise.degrees))
    return found


def power_of(name: str, unit: str, noise: RunNoise | None, question: Question, comparisons: int) -> MeasurePower:
    """Return one measure."""
    difference, scale = (question.points, 100.0) if unit == "points" else (question.bits, 1.0)
    if noise is None:
        return MeasurePower(
            measure=name, difference=difference, unit=unit, deviation=None, source="no noise known: repeat a variant by seed first"
        )
    asked = sorted({2, 3, 5, question.most_seeds} - {n for n in (2, 3, 5) if n > question.most_seeds})
    power = {seeds: welch_power(difference / scale, noise.deviation, seeds, comparisons) for seeds in asked}
    needed = seeds_needed(difference / scale, noise.deviation, comparisons, POWER, question.most_seeds)
    return MeasurePower(
        measure=name, difference=difference, unit=unit, deviation=noise.deviation * scale, source=noise.source, power=power, seeds=needed
    )  # fmt: skip
