"""What stands beside .bin and .idx of a corpus: the language of each document, what it is and where it came from, which tokens are learned."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.document_table import TABLE, DocumentLines, write_table
from codemix_megatron.corpus.finishing import COPY_BYTES, Finishing
from codemix_megatron.corpus.loss_mask_file import write_loss_mask as write_bits
from codemix_megatron.corpus.part_encoding import one_line
from codemix_megatron.corpus.tally import UNKNOWN
from codemix_megatron.records.atomic import writing
from codemix_megatron.records.manifest import loss_mask_path, scores_path

__all__ = ["write_documents", "write_languages", "write_loss_mask"]

LINES_AT_ONCE = 1 << 15


def write_languages(finishing: Finishing, prefix: str) -> None:
    """Write the language of each training document beside the corpus, as its index in the manifest's `languages`."""
    known, path = list(finishing.counts.by(1)), Path(f"{prefix}.languages.npy")
    if not known:
        path.unlink(missing_ok=True)  # of what stood here before
        return
    num_train = int(finishing.counts.train[0])
    languages = np.zeros(num_train, dtype=np.uint16)
    for number, records in finishing.blocks():
        names = [language or UNKNOWN for _, language, _ in finishing.parts[number].groups]
        index_of_group = np.array([known.index(name) if name in known else 0 for name in names], dtype=np.uint16)
        numbers = finishing.numbers[finishing.rows(number)]
        chosen = (numbers >= 0) & (numbers < num_train)
        languages[numbers[chosen]] = index_of_group[records["group"][chosen]]
    with writing(path, "wb") as handle:
        np.save(handle, languages)


def write_loss_mask(finishing: Finishing, prefix: str) -> dict:
    """Write which tokens of conversations are learned beside the corpus; return what the manifest says of it."""
    for stale in (loss_mask_path(prefix), scores_path(prefix)):  # of what stood here before
        Path(stale).unlink(missing_ok=True)
    numbers = [number for number, _ in finishing.blocks() if finishing.folder.file(number, "loss_mask").is_file()]
    if not numbers:
        return {}
    lengths = np.zeros(finishing.num_written, dtype=np.int64)
    for number, records in finishing.blocks():
        written = finishing.numbers[finishing.rows(number)]
        lengths[written[written >= 0]] = records["num_tokens"][written >= 0]
    starts, path = np.cumsum(lengths) - lengths, finishing.folder.path / "loss_mask"
    try:
        together = np.memmap(path, dtype=np.uint8, mode="w+", shape=(max(1, int(lengths.sum())),))
        for number in numbers:
            copy_bits(finishing, number, together, starts)
        train_tokens = int(lengths[: int(finishing.counts.train[0])].sum())
        blocks = (together[begin : begin + COPY_BYTES] for begin in range(0, int(lengths.sum()), COPY_BYTES))
        return {"loss_mask_sha256": write_bits(prefix, blocks), "learned_tokens": int(together[:train_tokens].sum(dtype=np.int64))}
    finally:
        path.unlink(missing_ok=True)


def copy_bits(finishing: Finishing, number: int, together: np.ndarray, starts: np.ndarray) -> None:
    """Copy what a part says of its documents to where they stand in the corpus."""
    bits = np.fromfile(finishing.folder.file(number, "loss_mask"), dtype=np.uint8)
    ends = np.cumsum(finishing.folder.records(number)["num_tokens"], dtype=np.int64)
    for written, begin, end in zip(
        finishing.numbers[finishing.rows(number)].tolist(), [0, *ends[:-1].tolist()], ends.tolist(), strict=True
    ):
        if written >= 0:
            together[starts[written] : starts[written] + end - begin] = bits[begin:end]


def write_documents(finishing: Finishing, prefix: str) -> None:
    """Write what each document is and where it came from beside the corpus."""
    spec = finishing.near_duplicates
    pieces = itertools.chain.from_iterable(document_lines(finishing, block) for block in finishing.blocks())
    write_table(prefix, finishing.num_written, pieces, spec.permutations if spec else None)


def document_lines(finishing: Finishing, block: tuple[int, np.ndarray]) -> Iterator[DocumentLines]:
    """Yield the rows, lines and signatures of the documents of a part that were written, some at a time: a part may hold millions."""
    number, records = block
    locations = finishing.folder.identities(number, finishing.files[number])
    signatures = finishing.signatures(number, finishing.near_duplicates) if finishing.near_duplicates else None
    for begin in range(0, len(records), LINES_AT_ONCE):
        here = slice(begin, begin + LINES_AT_ONCE)
        some = None if signatures is None else signatures[here]
        yield lines_of(finishing, number, records[here], finishing.numbers[finishing.rows(number)][here], locations, some)


def lines_of(
    finishing: Finishing, number: int, records: np.ndarray, numbers: np.ndarray, locations: Iterator, signatures: np.ndarray | None
) -> DocumentLines:
    """Return the same of some documents of a part, whose locations are the next of `locations`."""
    written = numbers >= 0
    rows = np.empty(int(written.sum()), dtype=TABLE)
    rows["digest"], rows["document"], rows["num_bytes"] = records["digest"][written], numbers[written], records["num_bytes"][written]
    groups = [
        "\t".join(one_line(word or "").replace("\t", " ") for word in (licence, language, kind))
        for kind, language, licence in finishing.parts[number].groups
    ]
    identities = itertools.compress(itertools.islice(locations, len(records)), written.tolist())
    lines = [
        f"{location}\t{origin}\t{groups[group]}\n"
        for (location, origin), group in zip(identities, records["group"][written].tolist(), strict=True)
    ]
    text = "".join(lines).encode("utf-8", "surrogateescape")
    return DocumentLines(rows, text, None if signatures is None else signatures[written])
