"""items/TASK-DIGEST.json: what a model scored on every single item of a task; the cache of an evaluation and the ground of comparisons.

The digest is that of the model's files, the task's definition, its data and the limits. `keys` identify items by their
content, so that two runs are compared on the items both have answered.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.atomic import read_json, writing

__all__ = ["ItemScores", "MetricItems", "item_file", "shared_items"]


@dataclass(frozen=True, kw_only=True)
class MetricItems:
    """One metric: its value over all items, and `values` per item where it is a mean of them."""

    value: float
    standard_error: float | None
    values: list[float] | None = None
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class ItemScores:
    """One task of one model. For bits per byte the metrics are `bits` and `bytes` per document."""

    task: str
    keys: list[str]
    metrics: dict[str, MetricItems]
    chance: dict[str, float] = field(default_factory=dict)  # metric -> what guessing scores
    texts: list[str] = field(default_factory=list)  # generations kept for reading and judging, one per item
    about: dict[str, str] = field(default_factory=dict)  # versions and digests
    majority: dict[str, float] = field(default_factory=dict)  # metric -> what the most frequent class scores as the answer to all items
    cut: int | None = None  # items whose prompt lost its beginning; None where nobody counted
    window: int | None = None  # tokens the model saw at once

    def write(self, path) -> Path:
        """Write atomically, in one line per block."""
        plain = asdict(self)
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items())
        with writing(path) as handle:  # as they are: what a model wrote is data
            handle.write("{\n" + lines + "\n}\n")
        return Path(path)

    @classmethod
    def read(cls, path) -> "ItemScores":
        """Read one task's items; raises EvaluationError naming the file and the fault."""
        try:
            plain = read_json(path)
            plain["metrics"] = {name: MetricItems(**metric) for name, metric in plain["metrics"].items()}
            return cls(**plain)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            raise EvaluationError(f"{path}: not a readable items file ({fault}); remove it and run `codemix evaluate` again") from None


def item_file(folder, task: str, digest: str) -> Path:
    """Return where the items of one task of one model are kept."""
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in task)
    return Path(folder) / f"{safe}-{digest[:16]}.json"


def shared_items(ours: ItemScores, theirs: ItemScores) -> tuple[list[int], list[int]]:
    """Return the indices of the items that both have answered, in the same order."""
    indices = {key: index for index, key in enumerate(theirs.keys)}
    pairs = [(index, indices[key]) for index, key in enumerate(ours.keys) if key in indices]
    return [mine for mine, _ in pairs], [yours for _, yours in pairs]
