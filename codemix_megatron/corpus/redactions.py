"""What was masked in a corpus: how often, in how many documents, and the first locations of each form with the mask in them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from codemix_megatron.filters.personal_data import is_mask, sample_of_mask
from codemix_megatron.readers.documents import Document
from codemix_megatron.readers.json_lines import name_lines

__all__ = ["Redactions"]

SAMPLES_KEPT = 5


@dataclass
class Redactions:
    """Masks by form, such as `e-mail masked`; samples are [location, text], in the order of the input."""

    masked: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[list[str]]] = field(default_factory=dict)

    def add(self, document: Document) -> None:
        """Count the masks of a document."""
        counted = Counter(what for what in document.rewritten if is_mask(what))
        self.masked += counted
        for what in counted:
            self.documents[what] += 1
            if len(self.samples.setdefault(what, [])) < SAMPLES_KEPT:
                self.samples[what].append([document.identity, sample_of_mask(document.text, what)])

    @classmethod
    def of_parts(cls, parts: Iterable[dict]) -> "Redactions":
        """Return those of all parts of a corpus, lines named where that is cheap."""
        whole = cls()
        for plain in parts:
            for what, found in plain.items():
                whole.masked[what] += found["masked"]
                whole.documents[what] += found["documents"]
                kept = whole.samples.setdefault(what, [])
                kept += found["samples"][: SAMPLES_KEPT - len(kept)]
        for kept in whole.samples.values():
            for sample, location in zip(kept, name_lines([location for location, _ in kept]), strict=True):
                sample[0] = location
        return whole

    def as_plain(self) -> dict[str, dict]:
        """Return form -> masked, documents, samples, the most frequent form first."""
        return {
            what: {"masked": count, "documents": self.documents[what], "samples": self.samples[what]}
            for what, count in self.masked.most_common()
        }
