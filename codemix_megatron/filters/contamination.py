"""Evaluation sets as an index of word runs: which documents share text with them, and with which items.

The index is a .npz file: `hashes` uint64 [runs], ascending and without repeats; `items` int32 [pairs], the places in `names` of the
items that hold run i, first to last, at starts[i] to starts[i + 1]; `names`, such as humaneval.jsonl:12; `ngram_words`. Items of
fewer words than a run are in `names` but have no run: nothing tells them from chance.
"""

import functools
import glob
import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.word_hashes import normalized, run_hashes, word_hashes
from codemix_megatron.recipe.filtering import Decontamination
from codemix_megatron.records.atomic import writing

__all__ = ["ContaminationIndex", "build_contamination_index", "load_contamination_index", "read_items"]

LEAST_NAMED_WORDS = 4  # different words with at least two letters that a run must hold
NAMED_WORD = re.compile(rb"[a-z\x80-\xff]{2}")
BITS_PER_RUN = 16
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, eq=False)
class ContaminationIndex:
    """Runs of `ngram_words` words of evaluation items, by hash."""

    hashes: np.ndarray
    starts: np.ndarray
    items: np.ndarray
    names: tuple[str, ...]
    ngram_words: int

    @functools.cached_property
    def bits(self) -> np.ndarray:
        """A Bloom filter of two bits per run, in bytes: most runs of a document fail here, for less than a search."""
        count = max(10, (len(self.hashes) * BITS_PER_RUN).bit_length())
        flags = np.zeros(1 << count, dtype=bool)
        flags[self.hashes & np.uint64(len(flags) - 1)] = True
        flags[self.hashes >> np.uint64(64 - count)] = True
        return np.packbits(flags, bitorder="little")

    def may_hold(self, found: np.ndarray) -> np.ndarray:
        """Return the runs that pass the Bloom filter."""
        count = (len(self.bits) * 8).bit_length() - 1
        for place in (lambda runs: runs & np.uint64((1 << count) - 1), lambda runs: runs >> np.uint64(64 - count)):
            bit = place(found)
            found = found[(self.bits[bit >> np.uint64(3)] >> (bit & np.uint64(7)).astype(np.uint8)) & np.uint8(1) == 1]
        return found

    @property
    def sha256(self) -> str:
        """Identity of what the index finds."""
        digest = hashlib.sha256(f"{self.ngram_words}\0".encode() + "\0".join(self.names).encode())
        digest.update(self.hashes.tobytes())
        return digest.hexdigest()

    @property
    def num_items_without_runs(self) -> int:
        """Items too short to be looked for."""
        return len(self.names) - len(np.unique(self.items))

    def shared_runs(self, text: str) -> np.ndarray:
        """Return the place in `hashes` of each run of words that a text shares with an item, in the text's order."""
        found = self.may_hold(run_hashes(word_hashes(text), self.ngram_words))
        if not len(found):
            return np.zeros(0, np.int64)
        place = np.minimum(np.searchsorted(self.hashes, found), len(self.hashes) - 1)
        return place[self.hashes[place] == found]

    def items_of(self, run: int) -> list[str]:
        """Return the names of the items that hold a run."""
        return [self.names[item] for item in self.items[self.starts[run] : self.starts[run + 1]]]

    def contaminated_items(self, texts: Iterable[str]) -> list[str]:
        """Return the names of all items that share a run with one of the texts, such as the documents a model was trained on."""
        runs = np.unique(np.concatenate([np.zeros(0, np.int64), *(np.unique(self.shared_runs(text)) for text in texts)]))
        return sorted({name for run in runs.tolist() for name in self.items_of(run)}, key=self.names.index)

    def write(self, path) -> None:
        """Write the index as .npz, whole or not at all."""
        with writing(path, "wb") as handle:
            np.savez(
                handle, hashes=self.hashes, starts=self.starts, items=self.items, names=np.array(self.names), ngram_words=self.ngram_words
            )

    @classmethod
    def read(cls, path) -> "ContaminationIndex":
        """Read an index; raises CorpusError when the file is none."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                names = tuple(map(str, stored["names"]))
                return cls(stored["hashes"], stored["starts"], stored["items"], names, int(stored["ngram_words"]))
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as fault:
            raise CorpusError(f"{path}: no index of evaluation sets ({fault}); build it again, or name the sets themselves") from None


def load_contamination_index(spec: Decontamination) -> ContaminationIndex:
    """Return the index of the evaluation sets a recipe names; raises CorpusError when one is missing or empty."""
    if len(spec.against) == 1 and spec.against[0].endswith(".npz"):
        index = ContaminationIndex.read(spec.against[0])
        if index.ngram_words != spec.ngram_words:
            raise CorpusError(f"{spec.against[0]}: made of runs of {index.ngram_words} words, ngram_words asks for {spec.ngram_words}")
        return index
    return build_contamination_index(spec.against, spec.ngram_words, spec.keys)


def build_contamination_index(against, ngram_words: int = 13, keys: tuple[str, ...] = ()) -> ContaminationIndex:
    """Return the index of evaluation sets: JSON lines (an item per line), other text files (one item each), globs.

    Of a JSON item every string counts, at any depth, each by itself; `keys` names the top-level ones that do.
    """
    names: list[str] = []
    runs: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    for path in evaluation_files(against):
        for number, texts in read_items(path, keys):
            found = [informative_ngrams(text, ngram_words) for text in texts if len(text) >= 2 * ngram_words - 1]
            runs += found
            owners += [np.full(len(hashes), len(names), dtype=np.int32) for hashes in found]
            names.append(f"{path.name}:{number}" if number else path.name)
    pairs = np.zeros(sum(map(len, runs)), dtype=[("hash", np.uint64), ("item", np.int32)])
    if not len(pairs):
        raise CorpusError(
            f"{', '.join(map(str, against))}: {len(names)} items, none of {ngram_words} words; lower ngram_words or name other files"
        )
    pairs["hash"], pairs["item"] = np.concatenate(runs), np.concatenate(owners)
    pairs = np.unique(pairs)
    hashes, first = np.unique(pairs["hash"], return_index=True)
    return ContaminationIndex(hashes, np.append(first, len(pairs)), pairs["item"].copy(), tuple(names), ngram_words)


def informative_ngrams(text: str, ngram_words: int) -> np.ndarray:
    """Return the hashes of the runs that tell an item from others: `1, 2, 3, ...` stands in every corpus."""
    runs = run_hashes(word_hashes(text), ngram_words)
    words = [word if NAMED_WORD.match(word) else None for word in normalized(text).split()] if len(runs) else []
    telling = [len({*words[begin : begin + ngram_words]} - {None}) >= LEAST_NAMED_WORDS for begin in range(len(runs))]
    return runs[np.array(telling, dtype=bool)]


def evaluation_files(against) -> list[Path]:
    """Return the files behind paths and globs, in a stable order; raises CorpusError for one that matches nothing."""
    files = []
    for named in map(str, against):
        matches = [named] if Path(named).is_file() else sorted(glob.glob(named, recursive=True))
        found = [Path(match) for match in matches if Path(match).is_file()]
        if not found:
            raise CorpusError(f"{named}: no evaluation set there; name JSON lines, text files, or one index (.npz)")
        if any(path.suffix == ".npz" for path in found):
            raise CorpusError(f"{named}: an index stands alone; name it by itself, or the files it was built from")
        files += found
    return files


def read_items(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, texts) of each item of a file; line 0 stands for the whole of it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise CorpusError(
            f"{path}: cannot be read ({getattr(fault, 'strerror', None) or fault}); mend it or take it out of `against`"
        ) from None
    if path.suffix.lower() not in JSON_LINES_SUFFIXES:
        yield 0, [text]
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                raise CorpusError(f"{path}:{number}: broken JSON; evaluation sets are read whole or not at all, mend it") from None
            if keys and isinstance(record, dict):
                record = {key: record.get(key) for key in keys}
            yield number, list(strings_of(record))


def strings_of(value) -> Iterator[str]:
    """Yield every string inside a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)
