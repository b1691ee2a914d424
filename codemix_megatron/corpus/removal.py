"""A corpus without some of its documents: the same ids in the same order, counts and tables of what is left."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.document_table import DocumentLines, DocumentOrigin, read_origins, read_signatures, read_table, write_table
from codemix_megatron.corpus.indexed import IndexedReader, IndexedWriter
from codemix_megatron.corpus.loss_mask_file import count_learned_bits, kept_bits, write_loss_mask
from codemix_megatron.corpus.score_table import kept_scores
from codemix_megatron.corpus.tally import UNKNOWN
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import writing
from codemix_megatron.records.manifest import CorpusManifest, manifest_path

__all__ = ["REMOVED", "find_documents", "remove_documents"]

REMOVED = "removed"
GATHERED_BYTES = 4 << 20
LINES_AT_ONCE = 1 << 14


def find_documents(prefix: str, origins: Sequence[str] = (), documents: Sequence[str] = ()) -> list[DocumentOrigin]:
    """Return the documents of these origins, and those named by number, hash or location; raises CorpusError for a name that fits none."""
    wanted, found, met = set(origins), [], set()
    named = set(documents)
    for document in read_origins(prefix):
        names = named & {str(document.document), document.digest, document.location}
        if document.origin in wanted or names:
            found.append(document)
            met |= names | ({document.origin} & wanted)
    if missing := sorted((wanted | named) - met, key=str):
        raise CorpusError(
            f"{prefix}: no document {', '.join(map(str, missing))}; `codemix inspect {prefix} --licences` lists origins, and with --list FILE"
            " the number, location and hash of every document"
        )
    return found


def remove_documents(prefix: str, removed: Iterable[int], new_prefix: str) -> CorpusManifest:
    """Write a corpus without documents of these numbers; the one it is made from stays. Raises CorpusError when nothing is left."""
    manifest, reader = CorpusManifest.read(prefix), IndexedReader(prefix)
    if manifest_path(new_prefix).exists() or Path(f"{new_prefix}.bin").exists():
        raise CorpusError(f"{new_prefix}: a corpus is there already; give another prefix for the one without these documents")
    kept = np.ones(reader.num_documents, dtype=bool)
    kept[list(removed)] = False
    if not kept.any():
        raise CorpusError(
            f"{prefix}: all {len(kept)} documents would be removed, and nothing left; remove the corpus from the recipe instead"
        )
    with IndexedWriter(new_prefix, reader.dtype) as writer:
        writer.extend(kept_ids(reader, kept), np.asarray(reader.document_lengths)[kept])
        writer.seal()
        writer.publish()
    made = replace(manifest, prefix=new_prefix, bin_sha256=writer.bin_sha256, idx_sha256=writer.idx_sha256, **counts(prefix, reader, kept))
    made = replace(
        made,
        train_documents=int(kept[: manifest.train_documents].sum()),
        dropped={**manifest.dropped, REMOVED: manifest.dropped.get(REMOVED, 0) + int((~kept).sum())},
        input_fingerprint=hashlib.sha256(f"{manifest.input_fingerprint}\0{np.flatnonzero(~kept).tolist()}".encode()).hexdigest(),
    )
    if manifest.loss_mask_sha256:
        lengths = np.asarray(reader.document_lengths, dtype=np.int64)
        made = replace(made, loss_mask_sha256=write_loss_mask(new_prefix, kept_bits(manifest, lengths, kept)))
        made = replace(made, learned_tokens=count_learned_bits(made))
    write_tables(prefix, new_prefix, kept, manifest, made)
    if manifest.scores_sha256:
        return kept_scores(manifest, made, kept)
    made.write()
    return made


def kept_ids(reader: IndexedReader, kept: np.ndarray) -> Iterator[bytes]:
    """Yield the ids of the kept documents, neighbours together, in buffers of a few megabytes."""
    ends = np.concatenate([[0], np.cumsum(np.asarray(reader.document_lengths, dtype=np.int64))])
    step = GATHERED_BYTES // reader.dtype.itemsize
    for begin, end in ends[np.flatnonzero(np.diff(kept, prepend=False, append=False)).reshape(-1, 2)].tolist():
        for start in range(begin, end, step):
            yield reader.tokens(start, min(start + step, end)).tobytes()


def counts(prefix: str, reader: IndexedReader, kept: np.ndarray) -> dict:
    """Return what the manifest counts of the kept documents."""
    lengths, num_train = np.asarray(reader.document_lengths, dtype=np.int64), CorpusManifest.read(prefix).train_documents
    groups: dict[str, dict[str, dict[str, int]]] = {"kinds": {}, "languages": {}, "licences": {}}
    total, train = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for document in read_origins(prefix):
        if not kept[document.document]:
            continue
        counted = np.array([1, document.num_bytes, lengths[document.document]])
        total += counted
        train += counted if document.document < num_train else 0
        for group, name in zip(groups.values(), (document.kind, document.language, document.licence), strict=True):
            sums = group.setdefault(name or UNKNOWN, {"documents": 0, "bytes": 0, "tokens": 0})
            for key, amount in zip(sums, counted.tolist(), strict=True):
                sums[key] += amount
    known = {name: dict(sorted(group.items(), key=lambda item: (-item[1]["bytes"], item[0]))) for name, group in groups.items()}
    known = {name: {} if set(group) <= {UNKNOWN} else group for name, group in known.items()}
    totals = dict(zip(("num_documents", "num_bytes", "num_tokens"), map(int, total), strict=True))
    return {**totals, **known, "train_bytes": int(train[1]), "train_tokens": int(train[2])}


def write_tables(prefix: str, new_prefix: str, kept: np.ndarray, old: CorpusManifest, new: CorpusManifest) -> None:
    """Write the tables that stand beside a corpus, of the kept documents alone."""
    numbers = np.cumsum(kept) - 1
    path = Path(f"{prefix}.languages.npy")
    if path.is_file() and new.languages:
        new_index = np.array([list(new.languages).index(name) if name in new.languages else 0 for name in old.languages], dtype=np.uint16)
        with writing(f"{new_prefix}.languages.npy", "wb") as handle:
            np.save(handle, new_index[np.load(path)[kept[: old.train_documents]]])
    signatures = read_signatures(prefix)
    permutations = None if signatures is None else signatures.shape[1]
    write_table(new_prefix, int(kept.sum()), kept_lines(prefix, kept, numbers, signatures), permutations)


def kept_lines(prefix: str, kept: np.ndarray, numbers: np.ndarray, signatures: np.ndarray | None) -> Iterator[DocumentLines]:
    """Yield the rows and lines of the kept documents."""
    table, lines, begin = read_table(prefix), [], 0
    for count, document in enumerate(read_origins(prefix), 1):
        if kept[document.document]:
            fields = (document.location, document.origin or "", document.licence or "", document.language or "", document.kind)
            lines.append("\t".join(fields) + "\n")
        if count % LINES_AT_ONCE == 0 or count == len(table):
            chosen = kept[table["document"][begin:count]]
            rows = table[begin:count][chosen].copy()
            rows["document"] = numbers[rows["document"]]
            text = "".join(lines).encode("utf-8", "surrogateescape")
            yield DocumentLines(rows, text, None if signatures is None else signatures[begin:count][chosen])
            lines, begin = [], count
