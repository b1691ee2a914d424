"""win-rate.json: how often one model's answers were preferred over another's."""

from dataclasses import asdict, dataclass
from pathlib import Path

from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.atomic import read_json, write_json

__all__ = ["WinRate"]

SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """Verdicts over prompts, each asked in both orders; a tie is a judge that changed its mind with the order."""

    ours: str
    theirs: str
    judge: str
    prompts: int
    wins: int
    losses: int
    ties: int
    unreadable: int  # prompts without a verdict in one of the orders; they do not count
    first_preferred: float | None  # share of verdicts for whichever answer stood first: 0.5 for a judge without a favourite position
    p_value: float  # of the sign test over wins and losses
    judge_prompt_sha256: str
    low: float | None = None  # 95 % interval of the win rate over prompts; None in older records
    high: float | None = None
    length_controlled: float | None = None  # what a logistic regression gives for answers of equal length
    length_controlled_low: float | None = None
    length_controlled_high: float | None = None
    longer_by: float | None = None  # mean characters that ours has more

    @property
    def counted(self) -> int:
        """Prompts with two readable verdicts."""
        return self.wins + self.losses + self.ties

    @property
    def win_rate(self) -> float | None:
        """Wins and half the ties, as a share of what counts: the paper's `53.3 %`."""
        return (self.wins + self.ties / 2) / self.counted if self.counted else None

    @property
    def words(self) -> str:
        """Say whether one of the two is preferred."""
        if self.p_value >= SIGNIFICANCE:
            return "not distinguishable"
        return "ours preferred" if self.wins > self.losses else "theirs preferred"

    def write(self, path) -> Path:
        """Write atomically and return the path."""
        write_json(path, asdict(self))
        return Path(path)

    @classmethod
    def read(cls, path) -> "WinRate":
        """Read a record; raises EvaluationError naming the file and the fault."""
        try:
            return cls(**read_json(path))
        except (OSError, ValueError, TypeError) as fault:
            raise EvaluationError(f"{path}: not a readable win rate ({fault}); run `codemix judge` again") from None
