"""What was left out of a corpus and why, and counts of what is in it."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from codemix_megatron.readers.documents import BadDocument

__all__ = ["DUPLICATE", "UNKNOWN", "Counts", "Dropped"]

DUPLICATE = "duplicate"
UNKNOWN = "unknown"
LOCATIONS_KEPT = 5


@dataclass
class Dropped:
    """Documents left out, by reason; `locations` and `examples` hold the first few of each, in the order of the input."""

    counts: Counter = field(default_factory=Counter)
    harmless: set[str] = field(default_factory=set)
    locations: dict[str, list[str]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, bad: BadDocument) -> None:
        """Count one document."""
        self.counts[bad.reason] += 1
        if bad.harmless:
            self.harmless.add(bad.reason)
        keep_first(self.locations, bad.reason, [bad.location])
        if bad.example.strip():
            keep_first(self.examples, bad.reason, [bad.example])

    def add_many(self, reason: str, count: int, locations: list[str]) -> None:
        """Count harmless documents found together; `locations` are the first of them."""
        self.counts[reason] += count
        self.harmless.add(reason)
        keep_first(self.locations, reason, locations)

    def merge(self, later: "Dropped") -> None:
        """Take in what was left out further on in the input."""
        self.counts += later.counts
        self.harmless |= later.harmless
        for mine, theirs in ((self.locations, later.locations), (self.examples, later.examples)):
            for reason, kept in theirs.items():
                keep_first(mine, reason, kept)

    @property
    def num_damaged(self) -> int:
        """Documents left out because the input is damaged."""
        return sum(count for reason, count in self.counts.items() if reason not in self.harmless)

    def describe(self, *, harmless: bool) -> str:
        """Return the reasons of the damaged documents, or of all, with their first locations."""
        listed = []
        for reason, count in self.counts.most_common():
            if harmless or reason not in self.harmless:
                locations = ", ".join(self.locations[reason][:3]) + (", ..." if count > 3 else "")
                listed.append(f"{reason}: {count} ({locations})")
        return "; ".join(listed)

    def as_plain(self) -> dict:
        """Return it as JSON can hold it."""
        return {"counts": dict(self.counts), "harmless": sorted(self.harmless), "places": self.locations, "examples": self.examples}

    @classmethod
    def from_plain(cls, plain: dict) -> "Dropped":
        """Return what `as_plain` gave."""
        return cls(Counter(plain["counts"]), set(plain["harmless"]), plain["places"], plain["examples"])


def keep_first(kept: dict[str, list[str]], reason: str, more: list[str]) -> None:
    """Append to the list of a reason while it is short."""
    mine = kept.setdefault(reason, [])
    mine.extend(more[: LOCATIONS_KEPT - len(mine)])


class Counts:
    """Documents, bytes and tokens by (kind, language, licence), of documents trained on and of all."""

    def __init__(self):
        self.groups: dict[tuple, np.ndarray] = {}  # -> [documents, bytes, tokens]
        self.train = np.zeros(3, dtype=np.int64)

    def add(self, groups: list, records: np.ndarray, held_out: np.ndarray) -> None:
        """Count the records of kept documents; `held_out` says which of them are never trained on."""
        if not len(records):
            return
        rows = np.stack([np.ones(len(records), np.int64), records["num_bytes"], records["num_tokens"]])
        sums = np.stack([np.bincount(records["group"], weights=row, minlength=len(groups)) for row in rows], axis=1).astype(np.int64)
        for group, counted in zip(groups, sums, strict=True):
            if counted[0]:
                key = tuple(group)
                self.groups[key] = self.groups.get(key, 0) + counted
        self.train += rows[:, ~held_out].sum(axis=1)

    @property
    def total(self) -> np.ndarray:
        """Documents, bytes, tokens of all groups."""
        return sum(self.groups.values(), start=np.zeros(3, dtype=np.int64))

    def by(self, index: int, *, default: str | None = None) -> dict[str, dict[str, int]]:
        """Return counts by kind (0), language (1) or licence (2), the largest first; nothing when no document says."""
        summed: dict[str, np.ndarray] = {}
        for key, counted in self.groups.items():
            name = key[index] or default or UNKNOWN
            summed[name] = summed.get(name, 0) + counted
        if set(summed) <= {UNKNOWN}:
            return {}
        ordered = sorted(summed.items(), key=lambda item: (-item[1][1], item[0]))
        return {name: dict(zip(("documents", "bytes", "tokens"), map(int, counted), strict=True)) for name, counted in ordered}
