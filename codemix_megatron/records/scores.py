"""scores.json: what an exported model scored, one file per export."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.atomic import read_json, write_json

__all__ = ["AggregateScore", "BitsPerByte", "Scores", "TaskScore"]

RIGHT_OR_WRONG = ("acc", "acc_norm", "acc_bytes", "exact_match")  # metrics that are 0 or 1 for each item
WHOLE = 1e-6  # a count of right answers is a whole number, up to rounding


@dataclass(frozen=True, kw_only=True)
class BitsPerByte:
    """Compression of held-out documents of one corpus; lower is better."""

    corpus: str
    value: float
    standard_error: float  # over documents
    documents: int
    tokens: int
    bytes: int
    low: float | None = None  # 95 % bootstrap interval over documents
    high: float | None = None
    item_file: str | None = None  # name under scores/items
    window: int | None = None  # tokens the model saw at once; None in older records


@dataclass(frozen=True, kw_only=True)
class AggregateScore:
    """A mean over tasks or over other aggregates, as a suite declares it."""

    suite: str
    name: str
    value: float
    standard_error: float | None
    parts: list[str]
    missing: list[str] = field(default_factory=list)  # parts that were not scored


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One metric of one task."""

    suite: str
    task: str
    metric: str
    value: float
    standard_error: float | None
    items: int
    chance: float | None = None  # what guessing scores
    low: float | None = None  # 95 % bootstrap interval over items
    high: float | None = None
    group: str = ""  # reasoning, knowledge, code, ... as the suite says
    higher_is_better: bool = True
    is_main: bool = True  # the metric that stands for its task in the suite's means
    item_file: str | None = None  # name under scores/items
    contaminated: int | None = None  # items that overlap the training corpora; None where nobody looked
    clean_value: float | None = None  # without them
    clean_standard_error: float | None = None
    majority: float | None = None  # what the most frequent class scores as the answer to all items
    cut: int | None = None  # items whose prompt lost its beginning; None in older records
    window: int | None = None  # tokens the model saw at once; None in older records

    @property
    def floor(self) -> float | None:
        """What needs no model: the better of guessing and of the most frequent class; None where it is unknown."""
        return max((value for value in (self.chance, self.majority) if value is not None), default=None)

    @property
    def against_chance(self) -> str:
        """Say in words whether the score can be told from what needs no model; empty where that is unknown.

        Right and wrong answers are judged by the exact binomial test, other values by two standard errors.
        """
        if self.floor is None or self.chance is None:
            return ""
        if self.value > self.floor and self.differs_from(self.floor):
            return "above chance"
        return "below chance" if self.value < self.chance and self.differs_from(self.chance) else "not distinguishable from chance"

    def differs_from(self, level: float) -> bool:
        """Say whether the score can be told from a level."""
        right = self.value * self.items
        if self.metric.partition(",")[0] in RIGHT_OR_WRONG and abs(right - round(right)) < WHOLE:
            from scipy.stats import binomtest

            return bool(binomtest(round(right), self.items, level).pvalue < 0.05)
        # All items alike give a standard error of 0; that of guessing is the honest one then.
        error = self.standard_error or (level * (1 - level) / self.items) ** 0.5
        return abs(self.value - level) >= 2 * error


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All scores of one export."""

    model: str  # folder of the export
    step: int
    tokens: int
    bits_per_byte: list[BitsPerByte] = field(default_factory=list)
    tasks: list[TaskScore] = field(default_factory=list)
    aggregates: list[AggregateScore] = field(default_factory=list)
    not_scored: list[str] = field(default_factory=list)  # what was asked for, and why there is no score
    request: str = ""  # digest of what was asked for, of which model
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    trusted: list[str] = field(default_factory=list)  # lines that were open: programs outside a sandbox, tasks' own code

    def write(self, path) -> Path:
        """Write atomically and return the path."""
        write_json(path, asdict(self))
        return Path(path)

    @classmethod
    def read(cls, path) -> "Scores":
        """Read a scores file; raises EvaluationError naming the file and the fault."""
        try:
            plain = read_json(path)
            plain["bits_per_byte"] = [BitsPerByte(**b) for b in plain["bits_per_byte"]]
            plain["tasks"] = [TaskScore(**t) for t in plain["tasks"]]
            plain["aggregates"] = [AggregateScore(**a) for a in plain.get("aggregates", [])]
            return cls(**plain)
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise EvaluationError(f"{path}: not a readable scores file ({fault}); run `codemix evaluate` again") from None
