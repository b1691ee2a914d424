"""A corpus and scorers -> PREFIX.scores.parquet: chunk by chunk, in processes, resumable.

A chunk's columns are a file in `.NAME.scores` beside the corpus until all are there; the same command, stopped at any moment, goes on after
the last of them. Columns that the table has already stay, unless they are made again. What is written is the same however often it stopped.
"""

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.document_table import read_origins
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prefix_lock import PrefixLock
from codemix_megatron.corpus.score_table import read_scores, write_scores
from codemix_megatron.corpus.tokenizers import tokenizer_of
from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.records.atomic import writing
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.scoring.document_bytes import DocumentBytes
from codemix_megatron.scoring.scorer import Columns, Documents, Scorer

__all__ = ["ScoredCorpus", "document_languages", "score_corpus"]

CHUNK_TOKENS = 1 << 21
Advance = Callable[[int], None]  # told how many more tokens are done


class ScoredCorpus:
    """Documents of a prepared corpus, in chunks."""

    def __init__(self, manifest: CorpusManifest, chunk_tokens: int = CHUNK_TOKENS):
        self.manifest, self.reader = manifest, IndexedReader(manifest.prefix)
        self.tokenizer = tokenizer_of(manifest.tokenizer)
        self.decoder, self.languages = DocumentBytes(self.tokenizer), document_languages(manifest)
        ends = np.cumsum(np.asarray(self.reader.document_lengths, dtype=np.int64))
        borders = np.searchsorted(ends, np.arange(chunk_tokens, int(ends[-1]) if len(ends) else 0, chunk_tokens))
        self.borders = np.unique(np.concatenate([[0], borders, [len(ends)]])).tolist()
        self.tokens = np.concatenate([[0], ends])

    @property
    def num_chunks(self) -> int:
        """Chunks."""
        return len(self.borders) - 1

    def chunk_tokens(self, number: int) -> int:
        """Return the tokens of a chunk."""
        return int(self.tokens[self.borders[number + 1]] - self.tokens[self.borders[number]])

    def documents(self, numbers: Sequence[int]) -> Documents:
        """Return documents by number."""
        ids = [self.tokenizer.without_ends(self.reader.document(number)) for number in numbers]
        return Documents(ids, [self.languages[number] for number in numbers], self.decoder)

    def chunk(self, number: int) -> Documents:
        """Return the documents of a chunk."""
        return self.documents(range(self.borders[number], self.borders[number + 1]))


def document_languages(manifest: CorpusManifest) -> list[str]:
    """Return the language of every document, empty where it is not known."""
    languages = [""] * manifest.num_documents
    if Path(f"{manifest.prefix}.documents.npy").is_file():
        for document in read_origins(manifest.prefix):
            if document.document >= 0:
                languages[document.document] = document.language or ""
    elif (path := Path(f"{manifest.prefix}.languages.npy")).is_file():
        names = list(manifest.languages)
        languages[: manifest.train_documents] = [names[index] for index in np.load(path)]
    return languages


def score_corpus(
    manifest: CorpusManifest, scorers: Sequence[Scorer], workers: int = 1, advance: Advance = lambda tokens: None, chunk_tokens: int = CHUNK_TOKENS
) -> CorpusManifest:  # fmt: skip
    """Score every document and write the table; return the manifest that says so. Raises CorpusError."""
    refuse_twice(scorers)
    lock = PrefixLock(manifest.prefix)
    lock.acquire(alone=True)
    try:
        check_file(manifest)
        corpus = ScoredCorpus(manifest, chunk_tokens)
        folder = parts_folder(manifest, scorers, chunk_tokens)
        score_chunks(corpus, scorers, folder, workers, advance)
        columns = gathered(corpus, scorers, folder)
        made_by = {name: scorer.settings for scorer in scorers for name in scorer.columns}
        if manifest.scores_sha256:
            columns = {**read_scores(manifest), **columns}
            made_by = {**manifest.scores, **made_by}
        written = write_scores(manifest, columns, made_by)
        shutil.rmtree(folder.parent)
        return written
    finally:
        lock.release()


def refuse_twice(scorers: Sequence[Scorer]) -> None:
    """Raise CorpusError where two scorers would write one column."""
    names = [name for scorer in scorers for name in scorer.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(f"column {', '.join(twice)}: made by two of the scorers; run them one after the other, or name another --column")


def check_file(manifest: CorpusManifest) -> None:
    """Raise CorpusError when the corpus is not what its manifest says: a manifest written again would make it look as prepared."""
    found = file_sha256(f"{manifest.prefix}.bin")
    if found != manifest.bin_sha256:
        raise CorpusError(
            f"{manifest.prefix}.bin: changed since it was prepared (sha256 {found[:12]}, its manifest says {manifest.bin_sha256[:12]});"
            " put it back or prepare it again"
        )


def parts_folder(manifest: CorpusManifest, scorers: Sequence[Scorer], chunk_tokens: int) -> Path:
    """Return the folder of finished chunks of exactly this work; those of other work are removed."""
    prefix = Path(manifest.prefix)
    work = [manifest.bin_sha256, chunk_tokens, [[scorer.columns, scorer.settings] for scorer in scorers]]
    name = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]
    folder = prefix.with_name(f".{prefix.name}.scores") / name
    for other in folder.parent.iterdir() if folder.parent.is_dir() else ():
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def score_chunks(corpus: ScoredCorpus, scorers: Sequence[Scorer], folder: Path, workers: int, advance: Advance) -> None:
    """Do the chunks that are not done, in this process where there is a model or one worker."""
    waiting = []
    for number in range(corpus.num_chunks):
        if is_done(folder, number):
            advance(corpus.chunk_tokens(number))
        else:
            waiting.append(number)
    if workers < 2 or len(waiting) < 2 or any(scorer.is_model for scorer in scorers):
        for number in waiting:
            write_chunk(corpus, scorers, folder, number)
            advance(corpus.chunk_tokens(number))
        return
    for number in in_processes(Work(corpus.manifest, tuple(scorers), folder, tuple(corpus.borders)), waiting, workers):
        advance(corpus.chunk_tokens(number))


@dataclass(frozen=True)
class Work:
    """What a process needs to do a chunk."""

    manifest: CorpusManifest
    scorers: tuple[Scorer, ...]
    folder: Path
    borders: tuple[int, ...]


def in_processes(work: Work, numbers: list[int], workers: int) -> Iterator[int]:
    """Do chunks in processes; yield each number when it is done."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(numbers)), context, begin_work, (work,)) as pool:
        try:
            for done in as_completed([pool.submit(do_chunk, number) for number in numbers]):
                yield done.result()
        except BrokenProcessPool:
            raise CorpusError(
                "a process that scores was killed, perhaps for want of memory; the same command goes on: try fewer --workers",
                exit_code=MACHINE_FAULT,
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


HERE: list[tuple[ScoredCorpus, Work]] = []  # what a process was started with


def begin_work(work: Work) -> None:
    """Open the corpus in a process that was started."""
    corpus = ScoredCorpus(work.manifest)
    corpus.borders = list(work.borders)
    HERE[:] = [(corpus, work)]


def do_chunk(number: int) -> int:
    """Do one chunk in a process that was started."""
    corpus, work = HERE[0]
    write_chunk(corpus, work.scorers, work.folder, number)
    return number


def write_chunk(corpus: ScoredCorpus, scorers: Sequence[Scorer], folder: Path, number: int) -> None:
    """Score a chunk and write its columns."""
    documents = corpus.chunk(number)
    columns: Columns = {}
    for scorer in scorers:
        columns |= scorer.score(documents)
    with writing(folder / f"{number}.npz", "wb") as handle:
        np.savez(handle, **columns)  # type: ignore[arg-type]


def is_done(folder: Path, number: int) -> bool:
    """Say whether a chunk's file is there."""
    return (folder / f"{number}.npz").is_file()


def gathered(corpus: ScoredCorpus, scorers: Sequence[Scorer], folder: Path) -> Columns:
    """Return the columns of all chunks, in the order of the documents."""
    names = [name for scorer in scorers for name in scorer.columns]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number in range(corpus.num_chunks):
        with np.load(folder / f"{number}.npz", allow_pickle=False) as part:
            for name in names:
                parts[name].append(part[name])
    return {name: np.concatenate(values) if values else np.zeros(0) for name, values in parts.items()}
