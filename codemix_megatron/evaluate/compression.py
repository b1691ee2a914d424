"""Bits per byte: how well a model compresses the held-out documents of a corpus.

Bits per byte do not depend on the tokenizer, so models with different ones can be compared; a quality
signal that is already smooth at sizes where multiple choice is a coin toss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codemix_megatron.analysis.estimates import estimate_ratio
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.digests import text_keys
from codemix_megatron.inference.document_likelihoods import document_nats
from codemix_megatron.inference.progress import Progress, silent
from codemix_megatron.records.item_scores import ItemScores, MetricItems
from codemix_megatron.records.scores import BitsPerByte

__all__ = ["Document", "bits_per_byte", "bits_per_byte_of", "choose_documents"]

CHOICE_SEED = 20240820  # fixed, so that all runs of a study are scored on the same documents
DOCUMENT_SHARE = 8  # a document takes at most 1/8 of the byte limit, so that few long ones do not decide


@dataclass(frozen=True, kw_only=True)
class Document:
    """Token ids to score, and the UTF-8 bytes of the text they stand for."""

    ids: np.ndarray
    bytes: int


def bits_per_byte(
    model,
    corpus: str,
    documents,
    *,
    end_of_document_id: int,
    beginning_of_document_id: int | None = None,
    limit_documents: int = 200,
    limit_bytes: int = 400_000,
    progress: Progress = silent,
    reader: Any = None,
) -> ItemScores:
    """Score held-out documents of one corpus, at most `limit_documents` and about `limit_bytes` of them.

    `documents` are arrays of token ids, each with the end-of-document token at its end; that token is scored
    too, but has no bytes. The token that begins documents, where there is one, is given and not scored. `reader` reads
    documents for a model with another tokenizer than the corpus's.

    Returns bits, bytes and tokens per document. Raises EvaluationError when there is nothing to score.
    """
    reader = reader or model
    chosen = choose_documents(reader, documents, limit_documents=limit_documents, limit_bytes=limit_bytes)
    refuse_nothing(corpus, sum(document.bytes for document in chosen))
    ids = [document.ids if reader is model else reader.ids(document.ids) for document in chosen]
    check_ids(model, corpus, ids)
    before = end_of_document_id if beginning_of_document_id is None else beginning_of_document_id
    first = before if reader is model else model.prefix_id
    nats = document_nats(model, ids, first, lambda done, total: progress(f"bits per byte: {corpus}", done, total))
    metrics = per_document(nats, [document.bytes for document in chosen], [len(each) for each in ids])
    keys = text_keys(reader.decode(document.ids) for document in chosen)
    return ItemScores(task=f"bits_per_byte-{corpus}", keys=keys, metrics=metrics, window=model.max_length)


def refuse_nothing(corpus: str, amount: int) -> None:
    """Raise EvaluationError when a corpus has no held-out text to score."""
    if not amount:
        raise EvaluationError(f"corpus {corpus}: no held-out text; raise evaluation.held_out_share and run `codemix prepare` again")


def per_document(nats: np.ndarray, sizes: Sequence[int], tokens: Sequence[int]) -> dict[str, MetricItems]:
    """Return bits, bytes and tokens as metrics: their sums, and the values of each document."""
    counts: dict[str, Sequence[float] | np.ndarray] = {"bits": nats / math.log(2), "bytes": sizes, "tokens": tokens}
    return {
        name: MetricItems(value=float(np.sum(values)), standard_error=None, values=[float(v) for v in values], higher_is_better=False)
        for name, values in counts.items()
    }


def bits_per_byte_of(items: ItemScores, corpus: str, item_file: str | None = None) -> BitsPerByte:
    """Return total bits / total bytes of scored documents, with the errors of a ratio; the standard error of one document is NaN."""
    bits, sizes = items.metrics["bits"].values or [], items.metrics["bytes"].values or []
    estimate = estimate_ratio(bits, sizes)
    return BitsPerByte(
        corpus=corpus,
        value=estimate.value,
        standard_error=math.nan if estimate.standard_error is None else estimate.standard_error,
        documents=estimate.items,
        tokens=int(sum(items.metrics["tokens"].values or [])),
        bytes=int(sum(sizes)),
        low=estimate.low,
        high=estimate.high,
        item_file=item_file,
        window=items.window,
    )


def check_ids(model, corpus: str, documents) -> None:
    """Raise EvaluationError when a corpus holds ids the model has no embedding for."""
    largest = max(int(ids.max()) for ids in documents)
    if largest >= model.vocab_size:
        raise EvaluationError(
            f"corpus {corpus}: token id {largest} is not among the {model.vocab_size} of {model.folder};"
            " the corpus was prepared with another tokenizer, prepare it again with that of the run"
        )


def choose_documents(model, documents, *, limit_documents: int, limit_bytes: int) -> list[Document]:
    """Return a part of the documents that depends on nothing but them and the limits.

    Documents come in a fixed shuffled order until a limit is reached; of a long one only the beginning is taken.
    """
    documents = [ids for ids in documents if len(ids)]
    if not documents:
        return []
    most = max(limit_bytes // DOCUMENT_SHARE, limit_bytes // len(documents), 1)
    chosen: list = []
    total = 0
    for index in np.random.default_rng(CHOICE_SEED).permutation(len(documents)):
        if len(chosen) >= limit_documents or total >= limit_bytes:
            break
        chosen.append(read_document(model, documents[index], most))
        total += chosen[-1].bytes
    return chosen


def read_document(model, ids: np.ndarray, most_bytes: int) -> Document:
    """Return a document, or its beginning of about `most_bytes`, cut between characters."""
    size = text_bytes(model, ids[:-1][: most_bytes + 1])  # a token has at least a byte: no need to decode megabytes
    if size <= most_bytes and len(ids) <= most_bytes + 2:
        return Document(ids=ids, bytes=size)
    keep = max(1, min(len(ids), most_bytes + 1) * most_bytes // max(size, 1))
    while keep > 1 and model.decode(ids[max(0, keep - 4) : keep]).endswith("\N{REPLACEMENT CHARACTER}"):
        keep -= 1
    return Document(ids=ids[:keep], bytes=text_bytes(model, ids[:keep]))


def text_bytes(model, ids) -> int:
    """Return the UTF-8 bytes of the text of token ids."""
    return len(model.decode(ids).encode("utf-8", errors="surrogatepass"))
