"""All parts of a corpus -> PREFIX.bin and PREFIX.idx: duplicates out, held-out documents last, order shuffled where asked."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from codemix_megatron.corpus.held_out import HeldOutRule, held_out_fractions
from codemix_megatron.corpus.indexed import IndexedWriter
from codemix_megatron.corpus.other_corpora import OtherCorpus
from codemix_megatron.corpus.parts import FinishedPart, PartsFolder
from codemix_megatron.corpus.shuffling import write_shuffled
from codemix_megatron.corpus.tally import DUPLICATE, LOCATIONS_KEPT, Counts, Dropped
from codemix_megatron.filters.duplicates_by_duckdb import find_duplicates_by_duckdb, find_near_duplicates_by_duckdb
from codemix_megatron.filters.exact_duplicates import find_duplicates
from codemix_megatron.filters.near_duplicates import NEAR_DUPLICATE, find_near_duplicates
from codemix_megatron.filters.ray_workers import find_duplicates_by_ray, find_near_duplicates_by_ray
from codemix_megatron.readers.json_lines import name_lines
from codemix_megatron.recipe.filtering import NearDuplicates
from codemix_megatron.records.manifest import EncoderMetadata

__all__ = ["DECIDERS", "Finishing"]

COPY_BYTES = 4 << 20
COPIED_SIGNATURES = 1 << 15
# What decides which documents are copies: exact ones, near ones. All decide the same.
DECIDERS = {
    "memory": (find_duplicates, find_near_duplicates),
    "duckdb": (find_duplicates_by_duckdb, find_near_duplicates_by_duckdb),
    "ray": (find_duplicates_by_ray, find_near_duplicates_by_ray),
}
KEPT, REPEATED, NEARLY_REPEATED, SHARED = range(4)  # statuses of a document; from SHARED on two for each other corpus, exact and near


@dataclass
class Finishing:
    """A corpus whose parts are all done. Takes 16 bytes of memory per document, and about 100 MB whatever their number."""

    folder: PartsFolder
    parts: list[FinishedPart]
    files: list[tuple]  # of each part
    every_document: bool = False
    near_duplicates: NearDuplicates | None = None
    dropped: Dropped = field(default_factory=Dropped)
    counts: Counts = field(default_factory=Counts)
    rewritten: Counter = field(default_factory=Counter)
    others: list[OtherCorpus] = field(default_factory=list)  # whose documents are left out
    duplicates_by: str = "memory"  # what decides which documents are copies; see DECIDERS

    def __post_init__(self):
        self.starts = np.cumsum([0, *(part.num_documents for part in self.parts)])
        self.status = np.full(int(self.starts[-1]), KEPT, dtype=np.uint8)
        self.held_out = np.zeros(len(self.status), dtype=bool)
        self.numbers = np.full(len(self.status), -1, dtype=np.int64)  # of documents written, in the corpus
        self.num_written = 0

    @property
    def kept(self) -> np.ndarray:
        """Say of each document whether it is written."""
        return self.status == KEPT

    @property
    def encoder(self) -> EncoderMetadata:
        """Which library made the ids of all parts."""
        encoders = [EncoderMetadata(**part.encoder) for part in self.parts]
        differing = sorted({character for metadata in encoders for character in metadata.differing})
        return replace(encoders[0], differing=differing, reference_documents=sum(metadata.reference_documents for metadata in encoders))

    @property
    def unknown(self) -> tuple[dict[str, int], list[str]]:
        """What the tokenizer has no token for: how many documents hold it, how much is lost; and the first locations."""
        summed = {key: sum(part.unknown[key] for part in self.parts) for key in ("documents", "lost")}
        locations = [location for part in self.parts for location in part.unknown_places][:LOCATIONS_KEPT]
        return (summed, name_lines(locations)) if summed["documents"] else ({}, [])

    def decide(self, rule: HeldOutRule) -> None:
        """Decide which documents are kept and which of them are held out, and count both."""
        if not self.every_document:
            digests = (records["digest"] for _, records in self.blocks())
            self.status[DECIDERS[self.duplicates_by][0](digests, len(self.status), self.folder.path)] = REPEATED
            self.drop_shared()
            if self.near_duplicates:
                self.drop_near_duplicates(self.near_duplicates)
            rule = self.corrected(rule)
        for number, part in enumerate(self.parts):
            self.dropped.merge(Dropped.from_plain(part.dropped))
            self.drop_repeated(number)
            self.rewritten.update(part.rewritten)
        self.dropped.locations = {reason: name_lines(locations) for reason, locations in self.dropped.locations.items()}
        for number, records in self.blocks():
            rows = self.rows(number)
            kept = self.status[rows] == KEPT
            self.held_out[rows] = rule.holds_each(records["digest"]) & kept
            self.counts.add(self.parts[number].groups, records[kept], self.held_out[rows][kept])

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number and the records of each part that has documents."""
        for number, part in enumerate(self.parts):
            if part.num_documents:
                yield number, self.folder.records(number)

    def rows(self, number: int) -> slice:
        """Return where the documents of a part stand among all."""
        return slice(int(self.starts[number]), int(self.starts[number + 1]))

    def drop_shared(self) -> None:
        """Drop documents whose text stands in another corpus."""
        for index, other in enumerate(self.others):
            digests = other.digests()
            for number, records in self.blocks():
                status = self.status[self.rows(number)]
                status[digests.holds_each(records["digest"]) & (status == KEPT)] = SHARED + 2 * index

    def drop_near_duplicates(self, spec: NearDuplicates) -> None:
        """Drop documents nearly alike to one that comes before them or stands in another corpus, exact copies left aside."""
        path = self.folder.path / "signatures"
        theirs = [signatures for other in self.others for signatures in [other.signatures(spec)]]
        ends = np.cumsum([0 if signatures is None else len(signatures) for signatures in theirs], dtype=np.int64)
        num_fixed = int(ends[-1]) if len(ends) else 0
        try:
            with open(path, "wb") as handle:
                for signatures in theirs:
                    for begin in range(0, 0 if signatures is None else len(signatures), COPIED_SIGNATURES):
                        assert signatures is not None
                        handle.write(signatures[begin : begin + COPIED_SIGNATURES].tobytes())
                for number, _ in self.blocks():
                    handle.write(self.signatures(number, spec)[self.status[self.rows(number)] == KEPT])
            together = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint8)
            original = DECIDERS[self.duplicates_by][1](together, spec, num_fixed, self.folder.path)[num_fixed:]
        finally:
            path.unlink(missing_ok=True)
        kept = np.flatnonzero(self.status == KEPT)
        self.status[kept[original >= num_fixed]] = NEARLY_REPEATED
        of_others = np.flatnonzero((original >= 0) & (original < num_fixed))
        self.status[kept[of_others]] = SHARED + 1 + 2 * np.searchsorted(ends, original[of_others], side="right")

    def signatures(self, number: int, spec: NearDuplicates) -> np.ndarray:
        """Return the signatures of the documents of a part, uint8 [documents, permutations]."""
        return np.fromfile(self.folder.file(number, "signatures"), dtype=np.uint8).reshape(-1, spec.permutations)

    def reasons(self) -> Iterator[tuple[int, str]]:
        """Yield the statuses of documents that are not kept, and how they are counted."""
        yield from ((REPEATED, DUPLICATE), (NEARLY_REPEATED, NEAR_DUPLICATE))
        for index, other in enumerate(self.others):
            yield from ((SHARED + 2 * index, f"{DUPLICATE} of {other.name}"), (SHARED + 1 + 2 * index, f"{NEAR_DUPLICATE} of {other.name}"))

    def drop_repeated(self, number: int) -> None:
        """Count the documents of a part that are not kept."""
        statuses = self.status[self.rows(number)]
        for status, reason in self.reasons() if (statuses != KEPT).any() else ():
            repeated = np.flatnonzero(statuses == status)
            if len(repeated):
                locations = [self.folder.identity(number, row, self.files[number]) for row in repeated[:LOCATIONS_KEPT].tolist()]
                self.dropped.add_many(reason, len(repeated), locations)

    def corrected(self, rule: HeldOutRule) -> HeldOutRule:
        """Return a rule that leaves neither side empty: the document nearest to an empty side goes there.

        Only corpora of a few documents need it.
        """
        total, num_held, lowest, highest = 0, 0, None, None
        for number, records in self.blocks():
            digests = records["digest"][self.status[self.rows(number)] == KEPT]
            if not len(digests):
                continue
            fractions = held_out_fractions(digests)
            total, num_held = total + len(digests), num_held + int((fractions < rule.share).sum())
            low, high = int(fractions.argmin()), int(fractions.argmax())
            lowest = min(filter(None, (lowest, (fractions[low], bytes(digests[low])))))
            highest = max(filter(None, (highest, (fractions[high], bytes(digests[high])))))
        if total and num_held == total:
            assert highest is not None
            return HeldOutRule(rule.share, never=highest[1])
        if rule.share > 0 and total > 1 and not num_held:
            assert lowest is not None
            return HeldOutRule(rule.share, always=lowest[1])
        return rule

    def write(self, writer: IndexedWriter, shuffle_seed: int | None) -> None:
        """Write the documents trained on, then the held-out ones, so that both sides are one range of tokens."""
        num_bytes = sum(part.num_tokens for part in self.parts) * self.folder.dtype.itemsize
        for selected in (self.kept & ~self.held_out, self.held_out):
            if shuffle_seed is None:
                self.write_in_order(writer, selected)
            else:
                pieces = ((r, int(self.starts[n]), self.part_tokens(n), selected[self.rows(n)]) for n, r in self.blocks())
                for rows in write_shuffled(writer, pieces, shuffle_seed, self.folder, num_bytes):
                    self.number(rows)

    def number(self, rows: np.ndarray) -> None:
        """Note that these documents were written, in this order."""
        self.numbers[rows] = np.arange(self.num_written, self.num_written + len(rows))
        self.num_written += len(rows)

    def write_in_order(self, writer: IndexedWriter, selected: np.ndarray) -> None:
        """Append the selected documents in the order of the input."""
        for number, records in self.blocks():
            chosen = selected[self.rows(number)]
            if chosen.any():
                writer.extend(self.runs(number, records["num_tokens"], chosen), records["num_tokens"][chosen])
                self.number(np.flatnonzero(chosen) + int(self.starts[number]))

    def runs(self, number: int, lengths: np.ndarray, chosen: np.ndarray) -> Iterator[bytes]:
        """Yield the ids of the chosen documents of a part, neighbours together, in buffers of a few megabytes."""
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]) * self.folder.dtype.itemsize
        edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).reshape(-1, 2)
        with open(self.folder.file(number, "tokens"), "rb", buffering=0) as tokens:
            for begin, end in starts[edges].tolist():
                tokens.seek(begin)
                for left in range(end - begin, 0, -COPY_BYTES):
                    yield tokens.read(min(COPY_BYTES, left))

    def part_tokens(self, number: int) -> np.ndarray:
        """Return all ids of a part, a view into its file."""
        return np.memmap(self.folder.file(number, "tokens"), dtype=self.folder.dtype, mode="r")

    def interleave(self, writer: IndexedWriter, partitions: int) -> None:
        """Write documents 0, n, 2n, ..., then 1, n + 1, ...: the order in which Megatron's tool joins n partitions."""
        ordinals = np.arange(len(self.status)) % partitions
        for partition in range(partitions):
            self.write_in_order(writer, ordinals == partition)
