"""Evaluation sets as an index of word runs: which documents share text with them, and with which items.

The index is a .npz file: `hashes` uint64 [runs], ascending and without repeats; `items` int32 [runs], the place in
`names` of the first item that holds the run; `names`, such as humaneval.jsonl:12; `ngram_words`. Items of
fewer words than a run are in `names` but have no run: nothing tells them from chance.
"""

import functools
import glob
import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.word_hashes import normalized, run_hashes, word_hashes
from codemix_megatron.errors import CorpusError
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
        """Items too short to be looked for, and those whose every run an earlier item has too."""
        return len(self.names) - len(np.unique(self.items))

    def shared_items(self, text: str) -> np.ndarray:
        """Return, for each run of words that a text shares with an item, the item's place in `names`; in the text's order."""
        found = self.may_hold(run_hashes(word_hashes(text), self.ngram_words))
        if not len(found) or not len(self.hashes):
            return np.zeros(0, np.int32)
        place = np.minimum(np.searchsorted(self.hashes, found), len(self.hashes) - 1)
        return self.items[place[self.hashes[place] == found]]

    def write(self, path) -> None:
        """Write the index as .npz, whole or not at all."""
        with writing(path, "wb") as handle:
            np.savez(handle, hashes=self.hashes, items=self.items, names=np.array(self.names), ngram_words=self.ngram_words)

    @classmethod
    def read(cls, path) -> "ContaminationIndex":
        """Read an index; raises CorpusError when the file is none."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                names = tuple(map(str, stored["names"]))
                return cls(stored["hashes"].astype(np.uint64), stored["items"].astype(np.int32), names, int(stored["ngram_words"]))
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
    names, runs, owners = [], [], []
    for path in evaluation_files(against):
        for number, texts in read_items(path, keys):
            found = [telling_runs(text, ngram_words) for text in texts if len(text) >= 2 * ngram_words - 1]
            runs += found
            owners += [np.full(len(hashes), len(names), dtype=np.int32) for hashes in found]
            names.append(f"{path.name}:{number}" if number else path.name)
    hashes, first = np.unique(np.concatenate(runs), return_index=True) if runs else (np.zeros(0, np.uint64), np.zeros(0, int))
    if not len(hashes):
        raise CorpusError(f"{', '.join(map(str, against))}: {len(names)} items, none of {ngram_words} words; lower ngram_words or name other files")
    return ContaminationIndex(hashes, np.concatenate(owners)[first], tuple(names), ngram_words)


def telling_runs(text: str, ngram_words: int) -> np.ndarray:
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
        raise CorpusError(f"{path}: cannot be read ({getattr(fault, 'strerror', None) or fault}); mend it or take it out of `against`") from None
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
