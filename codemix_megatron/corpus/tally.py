"""What one pass over a corpus counted."""

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from codemix_megatron.corpus.documents import BadDocument, Document
from codemix_megatron.corpus.held_out import HeldOutRule, held_out_fraction
from codemix_megatron.records.atomic import writing

__all__ = ["DUPLICATE", "Side", "Tally"]

DUPLICATE = "duplicate"
PLACES_KEPT = 5
UNKNOWN_LANGUAGE = "unknown"


@dataclass
class Side:
    """Counts of the documents trained on, or of those held out; `edge` is the one nearest the other side."""

    num_documents: int = 0
    num_tokens: int = 0
    num_bytes: int = 0
    edge: bytes | None = None


@dataclass
class Tally:
    """Counts of one pass: both sides, languages, and what was left out and where."""

    train: Side = field(default_factory=Side)
    held_out: Side = field(default_factory=Side)
    bad_documents: int = 0
    dropped: Counter = field(default_factory=Counter)
    harmless_reasons: set[str] = field(default_factory=set)
    places: dict[str, list[str]] = field(default_factory=dict)
    languages: dict[str, dict[str, int]] = field(default_factory=dict)
    train_languages: array = field(default_factory=lambda: array("H"))  # of each document trained on, in order of first meeting

    @property
    def num_documents(self) -> int:
        """Documents kept."""
        return self.train.num_documents + self.held_out.num_documents

    @property
    def num_tokens(self) -> int:
        """Tokens kept, end-of-document ids included."""
        return self.train.num_tokens + self.held_out.num_tokens

    @property
    def bad_share(self) -> float:
        """Damaged documents among all that were met."""
        return self.bad_documents / max(1, self.num_documents + self.dropped.total())

    def drop(self, bad: BadDocument) -> None:
        """Count a document that is left out."""
        self.dropped[bad.reason] += 1
        if bad.harmless:
            self.harmless_reasons.add(bad.reason)
        else:
            self.bad_documents += 1
        places = self.places.setdefault(bad.reason, [])
        if len(places) < PLACES_KEPT:
            places.append(bad.place)

    def keep(self, document: Document, digest: bytes, held_out: bool, num_bytes: int, num_tokens: int) -> None:
        """Count a document that was written."""
        side = self.held_out if held_out else self.train
        side.num_documents += 1
        side.num_bytes += num_bytes
        side.num_tokens += num_tokens
        edge = max if held_out else min
        side.edge = digest if side.edge is None else edge(side.edge, digest, key=held_out_fraction)
        counts = self.languages.setdefault(document.language or UNKNOWN_LANGUAGE, {"documents": 0, "bytes": 0, "tokens": 0})
        counts["documents"] += 1
        counts["bytes"] += num_bytes
        counts["tokens"] += num_tokens
        if not held_out:
            self.train_languages.append(list(self.languages).index(document.language or UNKNOWN_LANGUAGE))

    def write_languages(self, prefix: str) -> None:
        """Write the language of each training document beside the corpus, as its place in `known_languages`."""
        names = list(self.known_languages())
        if names:
            place = np.array([names.index(name) for name in self.languages], dtype=np.uint16)
            with writing(f"{prefix}.languages.npy", "wb") as handle:
                np.save(handle, place[np.frombuffer(self.train_languages, dtype=np.uint16)])

    def known_languages(self) -> dict[str, dict[str, int]]:
        """Return counts by language, the largest first; nothing when no document says its language."""
        if set(self.languages) <= {UNKNOWN_LANGUAGE}:
            return {}
        return dict(sorted(self.languages.items(), key=lambda item: (-item[1]["bytes"], item[0])))

    def mended_rule(self, rule: HeldOutRule) -> HeldOutRule | None:
        """Return a rule that leaves neither side empty, or None when the rule at hand did not.

        Only corpora of a few documents need it: the one whose hash is nearest to the other side goes there.
        """
        if self.num_documents and not self.train.num_documents:
            return HeldOutRule(rule.share, never=self.held_out.edge)
        if rule.share > 0 and self.num_documents > 1 and not self.held_out.num_documents:
            return HeldOutRule(rule.share, always=self.train.edge)
        return None

    def describe_dropped(self, *, harmless: bool) -> str:
        """Return the reasons of the damaged documents, or of all, with their first places."""
        listed = []
        for reason, count in self.dropped.most_common():
            if harmless or reason not in self.harmless_reasons:
                places = ", ".join(self.places[reason][:3]) + (", ..." if count > 3 else "")
                listed.append(f"{reason}: {count} ({places})")
        return "; ".join(listed)
