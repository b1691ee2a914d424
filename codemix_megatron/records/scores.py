"""scores.json: what an exported model scored, one file per export."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.atomic import read_json, write_json

__all__ = ["BitsPerByte", "Scores", "TaskScore"]


@dataclass(frozen=True, kw_only=True)
class BitsPerByte:
    """Compression of held-out documents of one corpus; lower is better."""

    corpus: str
    value: float
    standard_error: float  # over documents
    documents: int
    tokens: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One metric of one lm-eval task."""

    suite: str
    task: str
    metric: str
    value: float
    standard_error: float | None
    items: int
    chance: float | None = None  # what guessing scores

    @property
    def against_chance(self) -> str:
        """Say in words whether the score can be told from guessing, by two standard errors; empty where chance is unknown."""
        if self.chance is None:
            return ""
        # All items alike give a standard error of 0; that of guessing is the honest one then.
        error = self.standard_error or (self.chance * (1 - self.chance) / self.items) ** 0.5
        if abs(self.value - self.chance) < 2 * error:
            return "not distinguishable from chance"
        return "above chance" if self.value > self.chance else "below chance"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All scores of one export."""

    model: str  # folder of the export
    step: int
    tokens: int
    bits_per_byte: list[BitsPerByte] = field(default_factory=list)
    tasks: list[TaskScore] = field(default_factory=list)
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

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
            return cls(**plain)
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise EvaluationError(f"{path}: not a readable scores file ({fault}); run `codemix evaluate` again") from None
