"""Evaluation sets as an index of word runs: which documents share text with them, and with which items.

The index is a .npz file: `hashes` uint64 [runs], ascending and without repeats; `items` int32 [pairs], the indices in `names` of the
items that hold run i, first to last, at starts[i] to starts[i + 1]; `names`, such as humaneval.jsonl:12; `ngram_words`. A text of
fewer words is looked for whole when it has `short_words`: `short_hashes` uint64 [texts], ascending, of all its words, their number
in `short_lengths`, its item in `short_items`, and in `short_heads` the hash of its first `short_words`. Items without either are in
`names` alone: nothing tells them from chance.
"""

import functools
import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.copied_forms import forms_of
from codemix_megatron.filters.evaluation_items import evaluation_files, read_items
from codemix_megatron.filters.word_hashes import normalized, run_hashes, word_hashes
from codemix_megatron.recipe.filtering import Decontamination
from codemix_megatron.records.atomic import writing

__all__ = ["SHORT_WORDS", "ContaminationIndex", "ShortTexts", "build_contamination_index", "load_contamination_index"]

LEAST_NAMED_WORDS = 4  # different words with at least two letters that a run must hold
NAMED_WORD = re.compile(rb"[a-z\x80-\xff]{2}")
BITS_PER_RUN = 16
SHORT_WORDS = 8  # as GPT-3's authors, who looked for 8 to 13 words (arXiv:2005.14165, appendix C)
SHORT_ARRAYS = ("words", "hashes", "lengths", "items", "heads")


@dataclass(frozen=True, eq=False)
class ShortTexts:
    """Texts of evaluation items that are shorter than a run, looked for whole."""

    words: int = 0  # the fewest a text has; 0 looks for none
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    items: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    heads: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    @functools.cached_property
    def sorted_heads(self) -> np.ndarray:
        """The different beginnings, ascending."""
        return np.unique(self.heads)

    @functools.cached_property
    def bits(self) -> np.ndarray:
        """A Bloom filter of the beginnings."""
        return bloom_filter(self.heads)

    def found(self, words: np.ndarray) -> list[int]:
        """Return the indices of the texts that stand, whole, among the words of a document."""
        if not len(self.hashes):
            return []
        runs = run_hashes(words, self.words)
        begins, _ = matches(self.sorted_heads, self.bits, runs)
        met: dict[int, None] = {}
        for begin in map(int, begins):
            for length in set(self.lengths[self.heads == runs[begin]].tolist()):
                for whole in run_hashes(words[begin : begin + length], length):  # one, or none where the document ends before
                    first, last = (int(np.searchsorted(self.hashes, whole, side)) for side in ("left", "right"))
                    met |= dict.fromkeys(range(first, last))
        return list(met)


@dataclass(frozen=True, eq=False)
class ContaminationIndex:
    """Runs of `ngram_words` words of evaluation items, by hash."""

    hashes: np.ndarray
    starts: np.ndarray
    items: np.ndarray
    names: tuple[str, ...]
    ngram_words: int
    short: ShortTexts

    @functools.cached_property
    def bits(self) -> np.ndarray:
        """A Bloom filter of the runs."""
        return bloom_filter(self.hashes)

    @property
    def sha256(self) -> str:
        """Identity of what the index finds."""
        digest = hashlib.sha256(f"{self.ngram_words}\0".encode() + "\0".join(self.names).encode())
        for array in (self.hashes, self.short.hashes, self.short.lengths):
            digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def num_items_without_runs(self) -> int:
        """Items too short to be looked for."""
        return len(self.names) - len(np.union1d(self.items, self.short.items))

    @property
    def least_words(self) -> int:
        """Words an item has to have to be looked for."""
        return min(self.ngram_words, self.short.words or self.ngram_words)

    def suites(self) -> dict[str, dict[str, int]]:
        """Return for each evaluation set its items, those looked for by n-grams, those only as a whole, and those not looked for."""
        by_runs, as_whole = set(self.items.tolist()), set(self.short.items.tolist())
        counted: dict[str, dict[str, int]] = {}
        for item, name in enumerate(self.names):
            suite, _, line = name.rpartition(":")
            counts = counted.setdefault(suite if line.isdigit() else name, {"items": 0, "by_runs": 0, "as_a_whole": 0, "not_looked_for": 0})
            counts["items"] += 1
            counts["by_runs" if item in by_runs else "as_a_whole" if item in as_whole else "not_looked_for"] += 1
        return counted

    def shared_runs(self, text: str) -> np.ndarray:
        """Return the index in `hashes` of each n-gram that a text shares with an item, in the text's order.

        Indices behind the last run are short texts that it holds. Of a copy with line numbers or HTML's escapes, both forms are looked at.
        """
        shared = [self.shared_by(word_hashes(form)) for form in forms_of(text)]
        return max(shared, key=len)

    def shared_by(self, words: np.ndarray) -> np.ndarray:
        """Return the same for the words of one form of a text."""
        _, index = matches(self.hashes, self.bits, run_hashes(words, self.ngram_words))
        return np.concatenate([index, np.array(self.short.found(words), dtype=np.int64) + len(self.hashes)])

    def items_of(self, run: int) -> list[str]:
        """Return the names of the items that hold a run."""
        return [self.names[item] for item in self.items_with([run])]

    def items_with(self, runs: Iterable[int]) -> list[int]:
        """Return the indices of the items that hold one of the runs."""
        found: set[int] = set()
        for run in map(int, runs):
            if run >= len(self.hashes):
                found.add(int(self.short.items[run - len(self.hashes)]))
            else:
                found.update(self.items[self.starts[run] : self.starts[run + 1]].tolist())
        return sorted(found)

    def contaminated_items(self, texts: Iterable[str]) -> list[str]:
        """Return the names of all items that share a run with one of the texts, such as the documents a model was trained on."""
        runs = np.unique(np.concatenate([np.zeros(0, np.int64), *(np.unique(self.shared_runs(text)) for text in texts)]))
        return [self.names[item] for item in self.items_with(runs)]

    def write(self, path) -> None:
        """Write the index as .npz, complete or absent."""
        with writing(path, "wb") as handle:
            np.savez(
                handle, hashes=self.hashes, starts=self.starts, items=self.items, names=np.array(self.names), ngram_words=self.ngram_words,
                **{f"short_{name}": getattr(self.short, name) for name in SHORT_ARRAYS},
            )  # fmt: skip

    @classmethod
    def read(cls, path) -> "ContaminationIndex":
        """Read an index; raises CorpusError when the file is none."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                names = tuple(map(str, stored["names"]))
                short = ShortTexts()
                if "short_words" in stored:  # an index of before has none
                    short = ShortTexts(int(stored["short_words"]), *(stored[f"short_{name}"] for name in SHORT_ARRAYS[1:]))
                return cls(stored["hashes"], stored["starts"], stored["items"], names, int(stored["ngram_words"]), short)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as fault:
            raise CorpusError(f"{path}: no index of evaluation sets ({fault}); build it again, or name the sets themselves") from None


def bloom_filter(hashes: np.ndarray) -> np.ndarray:
    """Return a Bloom filter of two bits per hash, in bytes: most runs of a document fail here, for less than a search."""
    count = max(10, (len(hashes) * BITS_PER_RUN).bit_length())
    flags = np.zeros(1 << count, dtype=bool)
    flags[hashes & np.uint64(len(flags) - 1)] = True
    flags[hashes >> np.uint64(64 - count)] = True
    return np.packbits(flags, bitorder="little")


def matches(hashes: np.ndarray, bits: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the runs that are among ascending hashes, and where there; `bits` is the hashes' Bloom filter."""
    count = (len(bits) * 8).bit_length() - 1
    passing = np.flatnonzero(bit_of(bits, runs & np.uint64((1 << count) - 1)))
    passing = passing[bit_of(bits, runs[passing] >> np.uint64(64 - count)).astype(bool)]
    if not len(passing):  # as without any hashes
        return passing, passing
    index = np.minimum(np.searchsorted(hashes, runs[passing]), len(hashes) - 1)
    found = hashes[index] == runs[passing]
    return passing[found], index[found]


def bit_of(bits: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the bit at each index, 0 or 1."""
    return (bits[index >> np.uint64(3)] >> (index & np.uint64(7)).astype(np.uint8)) & np.uint8(1)


def load_contamination_index(spec: Decontamination) -> ContaminationIndex:
    """Return the index of the evaluation sets a recipe names; raises CorpusError when one is missing or empty."""
    if len(spec.against) == 1 and spec.against[0].endswith(".npz"):
        index = ContaminationIndex.read(spec.against[0])
        check_index(index, spec)
        return index
    return build_contamination_index(spec.against, spec.ngram_words, spec.keys, spec.short_words)


def check_index(index: ContaminationIndex, spec: Decontamination) -> None:
    """Raise CorpusError for an index that was made otherwise than the recipe says, which could not be heeded any more."""
    path = spec.against[0]
    if index.ngram_words != spec.ngram_words:
        raise CorpusError(f"{path}: made of runs of {index.ngram_words} words, ngram_words asks for {spec.ngram_words}")
    if index.short.words != spec.short_words:
        raise CorpusError(
            f"{path}: made with short_words {index.short.words}, which the recipe says is {spec.short_words}; build it again, or set"
            f" short_words: {index.short.words}"
        )
    if spec.keys:
        raise CorpusError(f"{path}: decontamination.keys ({', '.join(spec.keys)}) count when an index is built; leave them out beside one")


def build_contamination_index(
    against: Iterable, ngram_words: int = 13, keys: tuple[str, ...] = (), short_words: int = SHORT_WORDS
) -> ContaminationIndex:
    """Return the index of evaluation sets: JSON lines (an item per line), other text files (one item each), globs.

    Of a JSON item every string counts, at any depth, each by itself; `keys` names the top-level ones that do. Strings of fewer than
    `ngram_words` words are looked for whole when they have `short_words`.
    """
    names: list[str] = []
    runs, owners, short = [], [], []
    for path in evaluation_files(against):
        for number, texts in read_items(path, keys):
            for text in (form for whole in texts for form in forms_of(whole)):
                found = informative_ngrams(text, ngram_words)
                runs.append(found)
                owners.append(np.full(len(found), len(names), dtype=np.int32))
                short += [(whole, length, len(names), head) for whole, length, head in whole_text(text, ngram_words, short_words)]
            names.append(f"{path.name}:{number}" if number else path.name)
    pairs = np.zeros(sum(map(len, runs)), dtype=[("hash", np.uint64), ("item", np.int32)])
    if not len(pairs) and not short:
        least = min(ngram_words, short_words or ngram_words)
        raise CorpusError(
            f"{', '.join(map(str, against))}: {len(names)} items, none of {least} words that distinguish it from others;"
            " lower short_words or ngram_words, or name other files"
        )
    if len(pairs):
        pairs["hash"], pairs["item"] = np.concatenate(runs), np.concatenate(owners)
    pairs = np.unique(pairs)
    hashes, first = np.unique(pairs["hash"], return_index=True)
    starts = np.append(first, len(pairs))
    return ContaminationIndex(hashes, starts, pairs["item"].copy(), tuple(names), ngram_words, short_texts(short, short_words))


def short_texts(short: list[tuple[int, int, int, int]], words: int) -> ShortTexts:
    """Return (hash, length, item, head) of texts shorter than a run as arrays, by hash."""
    kinds = [("hash", np.uint64), ("length", np.int32), ("item", np.int32), ("head", np.uint64)]
    table = np.unique(np.array(short, dtype=kinds)) if short else np.zeros(0, dtype=kinds)
    return ShortTexts(words, *(table[name].copy() for name, _ in kinds))


def whole_text(text: str, ngram_words: int, short_words: int) -> Iterator[tuple[int, int, int]]:
    """Yield (hash, words, hash of its first words) of a text shorter than a run, when it is long enough and distinguishes an item from others."""
    words = word_hashes(text)
    if short_words and short_words <= len(words) < ngram_words and len(informative_ngrams(text, len(words))):
        yield int(run_hashes(words, len(words))[0]), len(words), int(run_hashes(words, short_words)[0])


def informative_ngrams(text: str, ngram_words: int) -> np.ndarray:
    """Return the hashes of the n-grams that distinguish an item from others: `1, 2, 3, ...` stands in every corpus."""
    runs = run_hashes(word_hashes(text), ngram_words)
    words = [word if NAMED_WORD.match(word) else None for word in normalized(text).split()] if len(runs) else []
    telling = [len({*words[begin : begin + ngram_words]} - {None}) >= LEAST_NAMED_WORDS for begin in range(len(runs))]
    return runs[np.array(telling, dtype=bool)]
