"""Reading a prepared corpus again, all of it, and naming exactly what is not as it should be.

Checked of any .bin/.idx pair: the header, that sequences follow each other without gap, that every document ends where the
next begins. With a manifest: checksums, counts, the border between training and held-out documents, counts per kind,
language and licence, and the tokenizer's file. With a vocabulary: every id, and that documents end with the
end-of-document id and hold it nowhere else. With the tokenizer: documents encoded again by the library that defines the ids.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.loss_mask_file import count_learned_bits
from codemix_megatron.corpus.reencoding_check import RareIds, reencode_documents
from codemix_megatron.corpus.score_table import check_score_table
from codemix_megatron.corpus.tokenizers import DocumentTokenizer, tokenizer_of
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata, loss_mask_path, manifest_path

__all__ = ["Checked", "check_corpus", "corpus_prefix"]

BLOCK_BYTES = 16 << 20  # a multiple of every item's size
SUFFIXES = (".manifest.json", ".bin", ".idx")


def corpus_prefix(name: str) -> str:
    """Return the prefix of a corpus named by it or by one of its files; raises CorpusError when neither .bin nor .idx is there."""
    prefix = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
    if not any(Path(prefix + suffix).is_file() for suffix in SUFFIXES):
        raise CorpusError(f"{prefix}: no corpus there (no {prefix}.bin); give the prefix of a .bin/.idx pair")
    return prefix


@dataclass
class Checked:
    """What was read of one corpus, and what is wrong with it; each of `differences` says where and what."""

    prefix: str
    manifest: CorpusManifest | None
    documents: int = 0
    tokens: int = 0
    differences: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)  # what could not be compared, and why
    notes: list[str] = field(default_factory=list)  # what was compared beyond counts and checksums

    def differs(self, where: str, found, expected) -> None:
        """Note a difference where the two are not equal."""
        if found != expected:
            self.differences.append(f"{where}: found {found}, expected {expected}")


def check_corpus(
    prefix: str, tokenizer: DocumentTokenizer | None = None, progress: Callable[[int], None] = lambda num_bytes: None
) -> Checked:
    """Re-read a corpus; `tokenizer` is the one to hold it against, by default that of its manifest."""
    checked = Checked(prefix, None)
    if manifest_path(prefix).is_file():
        try:
            checked.manifest = CorpusManifest.read(prefix, with_files=False)
        except CorpusError as fault:
            checked.differences.append(str(fault))
    else:
        checked.unchecked.append(f"counts and checksums: there is no {manifest_path(prefix)}")
    reader = opened(checked)
    tokenizer_metadata = tokenizer.metadata if tokenizer else checked.manifest.tokenizer if checked.manifest else None
    if tokenizer_metadata is None:
        checked.unchecked.append("ids and document ends: no tokenizer known; name it with --tokenizer")
    if reader is not None:
        check_index(checked, reader)
    rare = RareIds(tokenizer_metadata.vocab_size) if tokenizer_metadata else None
    check_tokens(checked, reader, tokenizer_metadata, progress, rare)
    if checked.manifest:
        check_manifest(checked, checked.manifest, reader)
        check_tokenizer(checked, checked.manifest.tokenizer, tokenizer.metadata if tokenizer else None)
    check_ids(checked, reader, tokenizer, rare)
    return checked


def check_ids(checked: Checked, reader: IndexedReader | None, tokenizer: DocumentTokenizer | None, rare: RareIds | None) -> None:
    """Encode documents again by the library that defines the ids, where nothing else is wrong and the tokenizer is there."""
    if checked.differences or reader is None or rare is None:
        return
    if checked.manifest and checked.manifest.loss_mask_sha256:
        checked.unchecked.append("the ids of conversations: they are encoded turn by turn, which their text does not show")
        return
    if tokenizer is None and checked.manifest and Path(checked.manifest.tokenizer.path).is_file():
        tokenizer = tokenizer_of(checked.manifest.tokenizer)
    if tokenizer is None:
        return
    found = reencode_documents(reader, tokenizer, rare)
    checked.differences += [f"{checked.prefix}.bin: {difference}" for difference in found.differences]
    checked.notes.append(
        f"{found.same} documents, drawn and with the rarest ids, have the ids that {found.library} itself gives their text"
    )
    if found.untold:
        checked.unchecked.append(f"the ids of {found.untold} documents whose text does not determine them")


def opened(checked: Checked) -> IndexedReader | None:
    """Return the reader of a corpus whose header and sizes are valid; note what is not."""
    try:
        reader = IndexedReader(checked.prefix)
    except CorpusError as fault:
        checked.differences.append(str(fault))
        return None
    checked.documents, checked.tokens = reader.num_documents, reader.num_tokens
    return reader


def check_index(checked: Checked, reader: IndexedReader) -> None:
    """Check that sequences follow each other and documents are made of whole ones."""
    lengths = reader.sequence_lengths.astype(np.int64)
    if len(lengths):
        expected = np.concatenate([[0], np.cumsum(lengths)[:-1]]) * reader.dtype.itemsize
        wrong = np.flatnonzero(reader.sequence_offsets != expected)
        if len(wrong):
            first = int(wrong[0])
            found = f"{len(wrong)} of {len(lengths)} sequences are elsewhere; sequence {first} at byte {reader.sequence_offsets[first]}"
            checked.differences.append(f"{reader.idx_path}: {found}, expected {expected[first]}")
        if (lengths <= 0).any():
            first = int(np.argmax(lengths <= 0))
            checked.differences.append(f"{reader.idx_path}: sequence {first} has {lengths[first]} tokens, at least 1 is allowed")
    backwards = np.flatnonzero(np.diff(reader.document_starts) < 0)
    if len(backwards):
        checked.differences.append(f"{reader.idx_path}: document {int(backwards[0]) + 1} begins before the document in front of it")


def check_tokens(
    checked: Checked,
    reader: IndexedReader | None,
    tokenizer_metadata: TokenizerMetadata | None,
    progress: Callable[[int], None],
    rare: RareIds | None,
) -> None:
    """Stream the tokens once: their checksum, the range of ids, the ends of documents."""
    path = Path(f"{checked.prefix}.bin")
    dtype = reader.dtype if reader else np.dtype(checked.manifest.dtype if checked.manifest else np.uint8)
    ends = document_ends(reader) if reader else np.empty(0, np.int64)
    digest, ids = hashlib.sha256(), IdCheck(path, tokenizer_metadata, ends)
    try:
        for position, block in blocks_of(path):
            digest.update(block)
            if tokenizer_metadata is not None and rare is not None and (reader or checked.manifest):
                here = np.frombuffer(block, dtype, count=len(block) // dtype.itemsize)
                ids.take(position // dtype.itemsize, here)
                rare.take(position // dtype.itemsize, here)
            progress(len(block))
    except OSError as fault:
        checked.differences.append(f"{path}: cannot be read ({fault.strerror})")
        return
    checked.differences += ids.findings()
    if checked.manifest:
        checked.differs(f"{path}: sha256", digest.hexdigest(), checked.manifest.bin_sha256)
        index = Path(f"{checked.prefix}.idx")
        if index.is_file():
            checked.differs(f"{index}: sha256", file_sha256(index), checked.manifest.idx_sha256)


def blocks_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (position, bytes) of a file."""
    position = 0
    with open(path, "rb", buffering=0) as handle:
        while block := handle.read(BLOCK_BYTES):
            yield position, block
            position += len(block)


def document_ends(reader: IndexedReader) -> np.ndarray:
    """Return the position behind each document that holds tokens, as the lengths in the index have it."""
    ends = np.cumsum(np.asarray(reader.document_lengths, dtype=np.int64))
    return ends[np.asarray(reader.document_lengths) > 0]


class IdCheck:
    """Looks at ids as they stream by; keeps the first fault of each sort and counts all."""

    def __init__(self, path: Path, tokenizer_metadata: TokenizerMetadata | None, ends: np.ndarray):
        self.path, self.tokenizer_metadata, self.ends = path, tokenizer_metadata, ends
        self.faults: dict[str, tuple[int, str]] = {}  # sort -> how many, the first

    def take(self, position: int, ids: np.ndarray) -> None:
        """Check the ids that begin at a position of the stream."""
        tokenizer_metadata = self.tokenizer_metadata
        assert tokenizer_metadata is not None, "without a manifest ids are not checked"
        outside = np.flatnonzero((ids < 0) | (ids >= tokenizer_metadata.vocab_size))
        self.note(
            "ids outside the vocabulary", outside, position, lambda i: f"id {ids[i]}, allowed are 0 to {tokenizer_metadata.vocab_size - 1}"
        )
        first, last = np.searchsorted(self.ends, [position + 1, position + len(ids) + 1])
        here = self.ends[first:last] - 1 - position
        is_end = np.zeros(len(ids), dtype=bool)
        is_end[here] = True
        is_marked = ids == tokenizer_metadata.end_of_document_id
        expected = tokenizer_metadata.end_of_document_id
        open_ends = np.flatnonzero(is_end & ~is_marked)
        self.note("documents without an end-of-document id", open_ends, position, lambda i: f"ends with {ids[i]}, expected {expected}")
        if self.tokenizer_metadata and self.tokenizer_metadata.beginning_of_document_id is not None and len(self.ends):
            self.check_beginnings(position, ids, self.tokenizer_metadata.beginning_of_document_id)
        if len(self.ends):
            inner = np.flatnonzero(is_marked & ~is_end)
            self.note("end-of-document ids inside documents", inner, position, lambda i: f"id {expected} is not the last")

    def check_beginnings(self, position: int, ids: np.ndarray, expected: int) -> None:
        """Check that each document, and nothing else, begins with the beginning-of-document id."""
        starts = np.concatenate([[0], self.ends[:-1]])
        first, last = np.searchsorted(starts, [position, position + len(ids)])
        is_start = np.zeros(len(ids), dtype=bool)
        is_start[starts[first:last] - position] = True
        is_marked = ids == expected
        bare = np.flatnonzero(is_start & ~is_marked)
        self.note("documents without a beginning-of-document id", bare, position, lambda i: f"begins with {ids[i]}, expected {expected}")
        inner = np.flatnonzero(is_marked & ~is_start)
        self.note("beginning-of-document ids inside documents", inner, position, lambda i: f"id {expected} is not the first")

    def note(self, sort: str, found: np.ndarray, position: int, tell: Callable[[int], str]) -> None:
        """Count faults of one sort."""
        if len(found):
            count, first = self.faults.get(sort, (0, ""))
            if not first:
                token = position + int(found[0])
                document = f", document {int(np.searchsorted(self.ends, token, side='right'))}" if len(self.ends) else ""
                first = f"token {token}{document}: {tell(int(found[0]))}"
            self.faults[sort] = (count + len(found), first)

    def findings(self) -> list[str]:
        """Return one line per sort of fault."""
        return [f"{self.path}: {count} {sort}; the first at {first}" for sort, (count, first) in self.faults.items()]


def check_manifest(checked: Checked, manifest: CorpusManifest, reader: IndexedReader | None) -> None:
    """Compare the manifest with the files and with itself."""
    where = manifest_path(checked.prefix)
    totals = {"documents": manifest.num_documents, "bytes": manifest.num_bytes, "tokens": manifest.num_tokens}
    for name in ("kinds", "languages", "licences"):
        groups = getattr(manifest, name)
        for counted, whole in totals.items() if groups else ():
            checked.differs(f"{where}: {counted} of all {name} together", sum(group[counted] for group in groups.values()), whole)
    if reader is None:
        return
    checked.differs(f"{where}: dtype", manifest.dtype, reader.dtype.name)
    checked.differs(f"{where}: num_documents", manifest.num_documents, reader.num_documents)
    checked.differs(f"{where}: num_tokens", manifest.num_tokens, reader.num_tokens)
    lengths = np.asarray(reader.document_lengths, dtype=np.int64)
    checked.differs(f"{where}: train_tokens", manifest.train_tokens, int(lengths[: manifest.train_documents].sum()))
    check_loss_mask(checked, manifest)
    checked.differences += [fault] if (fault := check_score_table(manifest)) else []
    check_languages(checked, manifest, lengths[: manifest.train_documents])


def check_loss_mask(checked: Checked, manifest: CorpusManifest) -> None:
    """Compare which tokens are learned with the checksum and the count."""
    if not manifest.loss_mask_sha256:
        return
    path = Path(loss_mask_path(checked.prefix))
    try:
        checked.differs(f"{path}: sha256", file_sha256(path), manifest.loss_mask_sha256)
        checked.differs(f"{path}: bytes", path.stat().st_size, -(-manifest.num_tokens // 8))
        checked.differs(f"{manifest_path(checked.prefix)}: learned_tokens", manifest.learned_tokens, count_learned_bits(manifest))
    except OSError as fault:
        checked.differences.append(f"{path}: cannot be read ({fault.strerror})")


def check_languages(checked: Checked, manifest: CorpusManifest, lengths: np.ndarray) -> None:
    """Recount the languages of training documents; the manifest counts held-out ones too, so it holds at least as many."""
    path = Path(f"{checked.prefix}.languages.npy")
    if not manifest.languages:
        return
    try:
        languages = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as fault:
        checked.differences.append(f"{path}: cannot be read ({fault})")
        return
    names = list(manifest.languages)
    if languages.shape != lengths.shape or (len(languages) and languages.max() >= len(names)):
        found = f"{len(languages)} entries up to {languages.max(initial=0)}"
        checked.differences.append(f"{path}: found {found}, expected {len(lengths)}, one per training document, below {len(names)}")
        return
    documents = np.bincount(languages, minlength=len(names))
    tokens = np.bincount(languages, weights=lengths, minlength=len(names)).astype(np.int64)
    for name, has_documents, has_tokens in zip(names, documents.tolist(), tokens.tolist(), strict=True):
        counted = manifest.languages[name]
        if has_documents > counted["documents"] or has_tokens > counted["tokens"]:
            told = f"{counted['documents']} documents and {counted['tokens']} tokens of {name}"
            checked.differences.append(
                f"{manifest_path(checked.prefix)}: {told}, but {has_documents} and {has_tokens} of it are trained on alone"
            )


def check_tokenizer(checked: Checked, promised: TokenizerMetadata, given: TokenizerMetadata | None) -> None:
    """Compare the tokenizer's file with the manifest."""
    if given is not None:
        checked.differs(f"{given.path}: sha256", given.sha256, promised.sha256)
        checked.differs(f"{given.path}: end-of-document id", given.end_of_document_id, promised.end_of_document_id)
    elif Path(promised.path).is_file():
        found = hashlib.sha256(Path(promised.path).read_bytes()).hexdigest()
        checked.differs(f"{promised.path}: sha256", found, promised.sha256)
    else:
        checked.unchecked.append(f"the tokenizer: {promised.path} is not there; name it with --tokenizer")
