"""Contamination: items of evaluation data that stand, by a 13-gram or as a whole, in what a model was trained on.

The training documents of the prepared corpora are read back as text, so that what is looked at is what was trained on,
after all filters. The rule is that of `filters.decontamination`: an item counts when an informative n-gram of it stands
in a training document, or all of it where it is shorter than a run; copies with line numbers or HTML's escapes count too.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from codemix_megatron.analysis.estimates import estimate_mean
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.tokenizers import tokenizer_of
from codemix_megatron.errors import CorpusError
from codemix_megatron.evaluate.digests import task_digest
from codemix_megatron.filters.contamination import SHORT_WORDS, ContaminationIndex, build_contamination_index
from codemix_megatron.filters.evaluation_items import read_items
from codemix_megatron.inference.progress import Progress, silent
from codemix_megatron.records.atomic import read_json, write_json
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.item_scores import ItemScores
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.scores import TaskScore

__all__ = ["NGRAM_WORDS", "find_overlaps", "with_clean_values"]

NGRAM_WORDS = 13
REPORT_EVERY = 500  # documents


def find_overlaps(
    data: Iterable[Path], corpora: dict[str, CorpusManifest], folder: Path, progress: Progress = silent, writes: bool = True
) -> dict[Path, list[int]]:
    """Return for each data file the items (from 0, a line each) that overlap the training documents of the corpora.

    Kept in FOLDER/contamination by the digests of data and corpora: corpora are read once. Of several ranks one `writes`.
    Raises CorpusError for data that are no JSON lines: their items cannot be told from each other.
    """
    data = sorted(set(data))
    names = {path: file_sha256(path) for path in data}  # two suites may call their files the same
    digest = task_digest(
        "",
        ngram_words=NGRAM_WORDS,
        short_words=SHORT_WORDS,
        data=list(names.values()),
        named_by="sha256",
        corpora=[[m.bin_sha256, m.train_documents] for m in corpora.values()],
    )
    path = folder / "contamination" / f"{digest[:16]}.json"
    if path.is_file():
        kept = read_json(path)
        return {file: kept[names[file]] for file in data}
    counts = {file: count_items(file) for file in data}
    try:
        index = build_contamination_index(data, NGRAM_WORDS)
    except CorpusError:
        return {file: [] for file in data}  # no item is long enough to be looked for
    met = index.items_with(matched_runs(index, corpora, progress))
    found, first = {}, 0
    for file, num_items in counts.items():
        found[file] = [item - first for item in met if first <= item < first + num_items]
        first += num_items
    if writes:
        write_json(path, {names[file]: items for file, items in found.items()})
    return found


def count_items(file: Path) -> int:
    """Return the lines of a data file that hold an item; raises CorpusError for one that is no JSON lines."""
    with open(file, encoding="utf-8-sig", errors="replace") as handle:
        if handle.read(1 << 10).lstrip().startswith("["):
            raise CorpusError(f"{file}: holds an array; contamination is looked for in JSON lines, an item in each")
    return sum(1 for _ in read_items(file, ()))


def matched_runs(index: ContaminationIndex, corpora: dict[str, CorpusManifest], progress: Progress) -> np.ndarray:
    """Return the index's runs, by their indices, that stand in training documents."""
    met = [np.zeros(0, np.int64)]
    for name, manifest in corpora.items():
        reader, tokenizer = IndexedReader(manifest.prefix), tokenizer_of(manifest.tokenizer)
        for number in range(manifest.train_documents):
            met.append(index.shared_runs(tokenizer.decode(tokenizer.without_ends(reader.document(number)))))
            if number % REPORT_EVERY == 0 or number + 1 == manifest.train_documents:
                progress(f"contamination: {name}", number + 1, manifest.train_documents)
                met = [np.unique(np.concatenate(met))]
    return np.unique(np.concatenate(met))


def with_clean_values(scores: list[TaskScore], items: ItemScores, overlapping: list[int]) -> list[TaskScore]:
    """Return scores with the number of overlapping items, and the values and errors without them."""
    bad = {at for at in overlapping if at < len(items.keys)}
    clean = []
    for score in scores:
        values = items.metrics[score.metric].values
        rest = [value for at, value in enumerate(values) if at not in bad] if values else []
        estimate = estimate_mean(rest) if rest else None
        clean.append(
            replace(
                score,
                contaminated=len(bad),
                clean_value=estimate.value if estimate else None,
                clean_standard_error=estimate.standard_error if estimate else None,
            )
        )
    return clean
