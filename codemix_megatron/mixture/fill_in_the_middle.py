"""Fill-in-the-middle while reading: some documents of a window become prefix, suffix, middle (Bavarian et al. 2022).

As in StarCoder and Megatron-LM, each document of a window is rewritten by itself, at cuts drawn among its characters:

    PSM: <prefix> PREFIX <suffix> SUFFIX <middle> MIDDLE        SPM: <prefix> <suffix> SUFFIX <middle> PREFIX MIDDLE

A document keeps its position and its length: the end of the suffix gives way to the three sentinels and to what the cuts cost in
tokens, so that everything counted by position - plans, journals, audits - stays true. Cuts leave about eight tokens for that;
the few documents whose suffix is still too short, and those of fewer than 16 tokens, are left as they are. What happens to a
window depends on seed, source, epoch and sequence alone: a resume needs no state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.tokenizers import SENTINEL_FAMILIES, DocumentTokenizer, recipe_tokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.mixture.permutation import source_key
from codemix_megatron.readers.repositories import FILE_SEPARATOR
from codemix_megatron.recipe.languages import canonical_language
from codemix_megatron.recipe.schema import FillInTheMiddle, Recipe
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["MiddleFiller", "Sentinels", "arranged", "middle_filler"]

SHORTEST_DOCUMENT = 16  # tokens inside the window
LEAST_SUFFIX = 8  # tokens, roughly: three sentinels, and what the cuts cost
BROKEN = "\ufffd"  # what bytes decode to that are no whole character
PROBE = 'def f(a, b):\n    return {"a b": a +  b}  # x\n'


@dataclass(frozen=True)
class Sentinels:
    """Ids of the three tokens."""

    prefix: int
    middle: int
    suffix: int


def middle_filler(recipe: Recipe, manifests: dict[str, CorpusManifest]) -> "MiddleFiller | None":
    """Return what rewrites rows of these sources in their order, None where no corpus of the recipe asks for it.

    Raises CorpusError when the tokenizer is not that of the corpora, lacks the sentinels or cannot cut as asked for.
    """
    specs = [recipe.corpora[name].fill_in_the_middle for name in manifests]
    if not any(specs):
        return None
    tokenizer = recipe_tokenizer(recipe.tokenizer)
    for name, manifest in manifests.items():
        if manifest.tokenizer.sha256 != tokenizer.metadata.sha256:
            raise CorpusError(
                f"corpora.{name}.fill_in_the_middle: {recipe.tokenizer.path} is not the tokenizer the corpus was prepared with"
            )
    return MiddleFiller(recipe.seed, manifests, specs, tokenizer)


def find_sentinels(tokenizer: DocumentTokenizer, names: tuple[str, ...], where: str) -> Sentinels:
    """Return the ids of the named tokens, or of the first family the tokenizer has; raises CorpusError when one is missing."""
    for family in [names] if names else SENTINEL_FAMILIES:
        ids = [tokenizer.token_id(name) for name in family]
        known = [i for i in ids if i is not None]
        if len(known) == len(ids):
            return Sentinels(*known)
    missing = [name for name in names if tokenizer.token_id(name) is None]
    found = f"no token {', '.join(missing)}" if missing else f"none of {'; '.join(', '.join(family) for family in SENTINEL_FAMILIES)}"
    raise CorpusError(
        f"{where}: {tokenizer.metadata.path} has {found}; name its tokens in `sentinels` (before prefix, middle, suffix), or train a"
        " tokenizer with them as special tokens"
    )


def check_cuts(tokenizer: DocumentTokenizer, where: str) -> None:
    """Raise CorpusError when pieces of a text, encoded by themselves, do not decode to the text."""
    for cut in range(1, len(PROBE)):
        pieces = tokenizer.encode_batch([PROBE[:cut], PROBE[cut:]])
        if tokenizer.decode(np.concatenate(pieces)) != PROBE:
            raise CorpusError(
                f"{where}.cut: {tokenizer.metadata.path} adds something at the beginning of a piece (as sentencepiece models add a space), so"
                " that pieces cut between characters do not make up the document; set cut: token"
            )


@dataclass
class Rewriting:
    """One document of a row that is to be rewritten."""

    row: int
    begin: int
    end: int
    is_spm: bool
    cuts: np.ndarray  # two numbers in [0, 1)
    at_tokens: bool
    sentinels: Sentinels


class MiddleFiller:
    """Rewrites documents of rows; see the module."""

    def __init__(self, seed: int, manifests: dict[str, CorpusManifest], specs: list[FillInTheMiddle | None], tokenizer: DocumentTokenizer):
        self.seed, self.specs, self.tokenizer = seed, specs, tokenizer
        self.keys = [int(source_key(seed, f"fill in the middle of {name}")) for name in manifests]
        self.sentinels, self.languages = [], []
        self.file_separator = tokenizer.token_id(FILE_SEPARATOR)
        for (name, manifest), spec in zip(manifests.items(), specs, strict=True):
            where = f"corpora.{name}.fill_in_the_middle"
            self.sentinels.append(find_sentinels(tokenizer, spec.sentinels, where) if spec else None)
            self.languages.append(DocumentRates(manifest, spec, where) if spec and spec.languages else None)
            if spec and spec.cut == "character":
                check_cuts(tokenizer, where)

    def rewrite(self, rows: np.ndarray, source: np.ndarray, sequence: np.ndarray, epoch: np.ndarray, pieces: Callable) -> None:
        """Rewrite documents of [rows, positions] in place; padding positions hold -1."""
        drawn = []
        for row, (s, n, e) in enumerate(zip(source.tolist(), sequence.tolist(), epoch.tolist(), strict=True)):
            if self.specs[s] is not None:
                drawn += self.draw(rows[row], row, s, n, e, pieces)
        for rewriting, (before, middle, after) in zip(drawn, self.cut(rows, drawn), strict=True):
            new = arranged(before, middle, after, rewriting.sentinels, rewriting.is_spm, rewriting.end - rewriting.begin)
            if new is not None:
                rows[rewriting.row, rewriting.begin : rewriting.end] = new

    def draw(self, ids: np.ndarray, row: int, source: int, sequence: int, epoch: int, pieces: Callable) -> list[Rewriting]:
        """Return the documents of one row that are to be rewritten, and how."""
        spec, rates, sentinels = self.specs[source], self.languages[source], self.sentinels[source]
        assert spec is not None and sentinels is not None
        random = np.random.default_rng([self.keys[source], epoch, sequence])
        begins, tokens = pieces(source, sequence) if rates else (None, None)
        drawn: list[Rewriting] = []
        for begin, end in documents_of(ids, self.tokenizer.end_of_document_id, self.file_separator):
            chance, order, *cuts = random.random(4)
            rate = spec.rate
            if ids[begin] == self.tokenizer.metadata.beginning_of_document_id:
                begin += 1  # it stays where it is
            if rates and begins is not None and tokens is not None:
                piece = int(np.searchsorted(begins, begin, side="right")) - 1
                rate = rates.at(int(tokens[piece] + begin - begins[piece]))
            if chance < rate and end - begin >= SHORTEST_DOCUMENT:
                is_spm, sorted_cuts = order < spec.spm_share, np.sort(cuts) * (1 - LEAST_SUFFIX / (end - begin))
                drawn.append(Rewriting(row, begin, end, is_spm, sorted_cuts, spec.cut == "token", sentinels))
        return drawn

    def cut(self, rows: np.ndarray, drawn: list[Rewriting]) -> list[list[np.ndarray]]:
        """Return the ids of prefix, middle and suffix of each document; all pieces are encoded together."""
        found: list = []
        texts: list[str] = []
        for rewriting in drawn:
            ids = rows[rewriting.row, rewriting.begin : rewriting.end]
            text = BROKEN if rewriting.at_tokens else self.tokenizer.decode(ids)
            if BROKEN in text:  # a character is cut by the window's edge, and its bytes would be lost
                found.append(np.split(ids.copy(), (rewriting.cuts * (len(ids) + 1)).astype(int)))
            else:
                first, second = (rewriting.cuts * (len(text) + 1)).astype(int)
                found.append(len(texts))
                texts += [text[:first], text[first:second], text[second:]]
        encoded = self.tokenizer.encode_batch(texts) if texts else []
        return [parts if isinstance(parts, list) else encoded[parts : parts + 3] for parts in found]


def arranged(prefix, middle, suffix, sentinels: Sentinels, is_spm: bool, length: int) -> np.ndarray | None:
    """Return `length` ids in the order of PSM or SPM, the end of the suffix cut off; None when it is too short, or nothing has to go."""
    surplus = 3 + len(prefix) + len(middle) + len(suffix) - length
    if not 0 <= surplus <= len(suffix):
        return None
    suffix = suffix[: len(suffix) - surplus]
    order: tuple = ([sentinels.prefix], prefix, [sentinels.suffix], suffix, [sentinels.middle], middle)
    if is_spm:
        order = ([sentinels.prefix, sentinels.suffix], suffix, [sentinels.middle], prefix, middle)
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in order])


def documents_of(ids: np.ndarray, end_of_document_id: int, file_separator: int | None = None) -> list[tuple[int, int]]:
    """Return (begin, end) of each document of a row, without its end-of-document id and padding positions.

    The files of a repository, parted by the separator's id, are documents by themselves.
    """
    is_edge = (ids == end_of_document_id) | (ids.astype(np.int64) < 0)
    edges = np.flatnonzero(is_edge if file_separator is None else is_edge | (ids == file_separator))
    begins, ends = np.concatenate([[0], edges + 1]), np.concatenate([edges, [len(ids)]])
    return [(int(begin), int(end)) for begin, end in zip(begins, ends, strict=True) if end > begin]


class DocumentRates:
    """The rate of the document at any token of a corpus, by its language."""

    def __init__(self, manifest: CorpusManifest, spec: FillInTheMiddle, where: str):
        path = Path(f"{manifest.prefix}.languages.npy")
        if not path.is_file():
            raise CorpusError(f"{where}.languages: {path} is missing: no document of the corpus says its language; set `rate` alone")
        rates = {canonical_language(name): rate for name, rate in spec.languages.items()}
        self.rates = [rates.get(canonical_language(name), spec.rate) for name in manifest.languages]
        self.language = np.load(path, mmap_mode="r")
        self.index = IndexedReader(manifest.prefix)

    def at(self, token: int) -> float:
        """Return the rate of the document that holds a token of the training part."""
        offset = token * self.index.dtype.itemsize
        return self.rates[self.language[int(np.searchsorted(self.index.sequence_offsets, offset, side="right")) - 1]]
