"""One part of a corpus: documents read, filtered, tokenized and written, in memory that does not depend on its size."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from codemix_megatron.corpus.encoders import Encoder
from codemix_megatron.corpus.held_out import DIGEST_BYTES, text_digest
from codemix_megatron.corpus.input_contents import InputReading
from codemix_megatron.corpus.input_identity import check_unchanged
from codemix_megatron.corpus.parts import RECORD, FinishedPart, PartsFolder, PartWriter
from codemix_megatron.corpus.redactions import Redactions
from codemix_megatron.corpus.tally import DUPLICATE, LOCATIONS_KEPT, Dropped
from codemix_megatron.corpus.turn_encoding import TurnEncoding
from codemix_megatron.corpus.unknown_text import NO_TOKENS, UnknownText
from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.filters import Filters
from codemix_megatron.filters.near_duplicates import document_signature
from codemix_megatron.readers.documents import EMPTY, BadDocument, Document, InputFile, Position
from codemix_megatron.recipe.filtering import NearDuplicates
from codemix_megatron.records.manifest import EncoderMetadata

__all__ = ["Advance", "PartEncoding", "encode_part"]

BATCH_DOCUMENTS = 4096
BATCH_CHARACTERS = 2 << 20
DIGESTS_REMEMBERED = 1 << 19  # duplicates inside a part are not tokenized; later ones are found when the corpus is finished
# Tokenizers need 40 bytes and more per byte of a run they cannot cut: 50 MB of base64 would take gigabytes and minutes.
LONGEST_RUN_BYTES = 1 << 20
LONGEST_RUN = f"more than {LONGEST_RUN_BYTES:,} bytes without white space"
COPIED_ONE_BY_ONE = 200  # ids of a document, on average: from there a copy each is faster than a mask over all ids
LARGEST_SPACE = 32  # the white space of ASCII is at and below this

Advance = Callable[[int, int, int], None]  # bytes read, documents, tokens since the last call


@dataclass(frozen=True)
class PartEncoding:
    """What all parts of a corpus have in common; may be pickled."""

    folder: PartsFolder
    parts: list[tuple[InputFile, ...]]
    encoder: Encoder
    end_of_document_id: int | None  # None writes none
    kind: str
    filters: Filters | None = None
    near_duplicates: NearDuplicates | None = None  # how documents nearly alike are told; None tells none
    every_document: bool = False  # keep empty texts and duplicates, as Megatron's tool does
    encoder_metadata: EncoderMetadata = field(default_factory=lambda: EncoderMetadata(library=""))
    unknown: UnknownText = field(default_factory=UnknownText)  # to its tokenizer
    beginning_of_document_id: int | None = None  # None writes none
    turns: TurnEncoding | None = None  # of documents with turns
    has_loss_mask: bool = False  # of conversations, of which some tokens are learned

    def encode(self, number: int, advance: Advance) -> None:
        """Do one part."""
        encode_part(self, number, advance)


def encode_part(work: PartEncoding, number: int, advance: Advance) -> None:
    """Write the files of one part; raises CorpusError when an input cannot be read or changes meanwhile, OSError when the disk is full."""
    with PartWriter(work.folder, number) as writer:
        progress = PartProgress(work, number, writer)
        for batch in progress.batches(advance):
            progress.write(batch)
        check_unchanged(work.parts[number])
        progress.finish()


class PartProgress:
    """Counts and open files of a part that is being written."""

    def __init__(self, work: PartEncoding, number: int, writer: PartWriter):
        self.work, self.writer, self.files = work, writer, work.parts[number]
        self.dropped = Dropped()
        self.rewritten: Counter[str] = Counter()
        self.redactions = Redactions()
        self.groups: dict[tuple, int] = {}
        self.part = FinishedPart()
        self.seen: set[bytes] = set()
        work.encoder.begin_part()

    def batches(self, advance: Advance) -> Iterator[list[tuple[str, Document, bytes, bytes]]]:
        """Yield (identity, document, digest, UTF-8) of the documents to keep, in lists the tokenizer can share out."""
        batch, characters, told = [], 0, np.zeros(3, dtype=np.int64)
        for index, file in enumerate(self.files):
            reading = InputReading(file)
            position, prefix = Position(hashed=reading.hashed), str(file.path)
            for document in file.read(position):
                kept = self.examine(document)
                if kept is None:
                    continue
                batch.append((shortened(kept[0].identity, index, prefix, kept[0].origin), *kept))
                characters += len(kept[0].text)
                if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                    yield batch
                    batch, characters = [], 0
                    read = sum(done.num_bytes for done in self.files[:index]) + min(position.bytes_read, file.num_bytes)
                    told = self.report_progress(advance, told, read)
            self.part.inputs.append(reading.finish())
        if batch:
            yield batch
        self.report_progress(advance, told, sum(file.num_bytes for file in self.files))

    def report_progress(self, advance: Advance, told: np.ndarray, num_bytes: int) -> np.ndarray:
        """Report what came since the last time."""
        now = np.array([num_bytes, self.part.num_documents, self.part.num_tokens])
        advance(*(now - told).tolist())
        return now

    def examine(self, document: Document | BadDocument) -> tuple[Document, bytes, bytes] | None:
        """Return (document, digest, UTF-8) of a document to keep; count any other."""
        if isinstance(document, BadDocument):
            if document.reason != EMPTY or not self.work.every_document:
                self.drop(document)
                return None
            document = Document(document.example, document.location)
        if self.work.filters:
            document = self.work.filters.apply(document)
            if isinstance(document, BadDocument):
                self.drop(document)
                return None
        data = document.text.encode()
        if len(data) > LONGEST_RUN_BYTES and longest_run(data) > LONGEST_RUN_BYTES:
            self.drop(BadDocument(document.identity, LONGEST_RUN, harmless=True))
            return None
        digest = text_digest(data) if not self.work.every_document else bytes(DIGEST_BYTES)
        if not self.work.every_document:
            if digest in self.seen:
                self.drop(BadDocument(document.identity, DUPLICATE, harmless=True))
                return None
            if len(self.seen) < DIGESTS_REMEMBERED:
                self.seen.add(digest)
        return document, digest, data

    def drop(self, bad: BadDocument) -> None:
        """Count a document that is left out; note the location of each damaged one."""
        self.dropped.add(bad)
        if not bad.harmless:
            reason = one_line(bad.reason).replace("\t", " ")  # chat templates and plugins say what they like
            self.writer.write("damaged", f"{one_line(bad.location)}\t{reason}\n".encode("utf-8", "surrogateescape"))

    def write(self, batch: list[tuple[str, Document, bytes, bytes]]) -> None:
        """Tokenize a batch and append it to the files."""
        ids, lengths, is_learned = self.encoded(batch)
        batch, lengths = self.with_tokens(batch, ids, lengths)
        if not batch:
            return
        identities, documents, digests, texts = zip(*batch, strict=True)
        sizes = [len(data) for data in texts]
        if is_learned is not None:
            self.writer.write("loss_mask", learned_with_ends(is_learned, lengths, self.work))
        tokens, lengths = with_ends(ids, lengths, self.work.end_of_document_id, self.work.folder.dtype, self.work.beginning_of_document_id)
        records = np.empty(len(batch), dtype=RECORD)
        records["digest"] = np.frombuffer(b"".join(digests), dtype="V16")
        records["num_bytes"], records["num_tokens"] = sizes, lengths
        records["group"] = [self.group(document) for document in documents]
        self.writer.write("tokens", tokens)
        self.writer.write("records", records)
        self.writer.write("identities", "".join(identities).encode("utf-8", "surrogateescape"))
        if self.work.near_duplicates:
            signatures = b"".join(document_signature(document.text, self.work.near_duplicates) for document in documents)
            self.writer.write("signatures", signatures)
        for document in documents:
            if document.rewritten:
                self.rewritten.update(document.rewritten)
                self.redactions.add(document)
        self.part.num_documents += len(batch)
        self.part.num_tokens += len(tokens)
        self.part.num_bytes += sum(sizes)

    def encoded(self, batch: list) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the ids of a batch end to end, how many each document has and, of conversations, which of them are learned."""
        documents = [document for _, document, _, _ in batch]
        if self.work.turns is None:
            return *self.work.encoder.encode_flat([document.text for document in documents], [data for *_, data in batch]), None
        encoded = self.work.turns.encode(documents, self.work.encoder)
        return encoded.ids, encoded.lengths, encoded.is_learned if self.work.has_loss_mask else None

    def with_tokens(self, batch: list, ids: np.ndarray, lengths: np.ndarray) -> tuple[list, np.ndarray]:
        """Return the documents that have tokens, and their numbers; count those without, and those of which something is lost."""
        lost = self.work.unknown.count([document.text for _, document, _, _ in batch], ids, lengths, is_plain=self.work.encoder.is_plain)
        kept = np.ones(len(batch), dtype=bool) if self.work.every_document else lengths > 0
        for index in np.flatnonzero(~kept).tolist():
            self.drop(BadDocument(batch[index][1].identity, NO_TOKENS, harmless=True))
        lossy = np.flatnonzero(kept & (lost > 0)).tolist()
        self.part.unknown["documents"] += len(lossy)
        self.part.unknown["lost"] += int(lost[lossy].sum())
        self.part.unknown_places += [batch[index][1].identity for index in lossy][: LOCATIONS_KEPT - len(self.part.unknown_places)]
        if kept.all():
            return batch, lengths
        return [entry for entry, is_kept in zip(batch, kept, strict=True) if is_kept], lengths[kept]

    def group(self, document: Document) -> int:
        """Return the number of a document's kind, language and licence."""
        key = (document.kind or self.work.kind, document.language, document.licence)
        return self.groups.setdefault(key, len(self.groups))

    def finish(self) -> None:
        """Give the files their names."""
        self.part.groups = [list(group) for group in self.groups]
        self.part.dropped, self.part.rewritten = self.dropped.as_plain(), dict(self.rewritten)
        self.part.redactions = self.redactions.as_plain()
        num_by_reference, differing = self.work.encoder.findings()
        self.part.encoder = asdict(replace(self.work.encoder_metadata, reference_documents=num_by_reference, differing=differing))
        self.writer.finish(self.part)


def with_ends(
    ids: np.ndarray, lengths: np.ndarray, end: int | None, dtype: np.dtype, begin: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids in the dtype of the file, with the id that begins and the id that ends each document that has ids, and the new lengths."""
    largest = int(ids.max(initial=0)) if len(ids) else 0
    if largest > np.iinfo(dtype).max or (len(ids) and int(ids.min()) < 0):
        raise CorpusError(f"token ids {ids.min()} to {ids.max()} do not fit {dtype}; the tokenizer is damaged")
    if end is None and begin is None:
        return ids.astype(dtype, copy=False), lengths
    before, behind = int(begin is not None), int(end is not None)
    has_ids = lengths > 0
    lengths = lengths + (before + behind) * has_ids
    stops = np.cumsum(lengths)[has_ids]
    starts = stops - lengths[has_ids]
    tokens = np.empty(int(lengths.sum()), dtype=dtype)
    of_text = np.ones(len(tokens), dtype=bool)
    for number, positions in ((begin, starts), (end, stops - 1)):
        if number is not None:
            tokens[positions] = number
            of_text[positions] = False
    if len(ids) <= COPIED_ONE_BY_ONE * len(stops):
        tokens[of_text] = ids
        return tokens, lengths
    position = 0
    for start, stop in zip((starts + before).tolist(), (stops - behind).tolist(), strict=True):
        tokens[start:stop] = ids[position : position + stop - start]
        position += stop - start
    return tokens, lengths


def learned_with_ends(is_learned: np.ndarray, lengths: np.ndarray, work: PartEncoding) -> np.ndarray:
    """Return of each id of a file whether it is learned: what begins a document is not, what ends it is where its last id is."""
    begin = None if work.beginning_of_document_id is None else 0
    mask, whole = with_ends(is_learned.astype(np.uint8), lengths, 0, np.dtype(np.uint8), begin)
    ends = np.cumsum(whole)[whole > 0] - 1
    mask[ends] = mask[ends - 1]
    return mask


def longest_run(data: bytes) -> int:
    """Return the length of the longest stretch without ASCII white space."""
    spaces = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) <= LARGEST_SPACE)
    return int(np.diff(spaces, prepend=-1, append=len(data)).max()) - 1


def shortened(identity: str, index: int, prefix: str, origin: str | None) -> str:
    """Return a line that says which file of the part and where in it, and what the document says of its origin."""
    rest = identity[len(prefix) :] if identity.startswith(prefix) else f"\t{identity}"
    known = one_line(origin).replace("\t", " ") if origin else ""
    return f"{index}\t{one_line(rest)}\t{known}\n"


def one_line(text: str) -> str:
    """Return text with line ends spelled out; file names may hold them."""
    return text.replace("\n", "\\n") if "\n" in text else text
