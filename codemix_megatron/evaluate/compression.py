"""Bits per byte: how well a model compresses the held-out documents of a corpus.

Bits per byte do not depend on the tokenizer, so models with different ones can be compared; a quality
signal that is already smooth at sizes where multiple choice is a coin toss.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.exported import ExportedModel
from codemix_megatron.evaluate.progress import Progress, silent
from codemix_megatron.records.scores import BitsPerByte

__all__ = ["Document", "Window", "bits_per_byte", "choose_documents", "cut_windows", "document_nats"]

CHOICE_SEED = 20240820  # fixed, so that all runs of a study are scored on the same documents
DOCUMENT_SHARE = 8  # a document takes at most 1/8 of the byte limit, so that few long ones do not decide
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Document:
    """Token ids to score, and the UTF-8 bytes of the text they stand for."""

    ids: np.ndarray
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Window:
    """Positions [start, stop) of a document that go through the model together.

    Position 0 is the end-of-document token put in front; position i > 0 is token i - 1. The model at position i
    predicts position i + 1; predictions of the positions from `first` to `stop` count.
    """

    document: int
    start: int
    stop: int
    first: int


def bits_per_byte(
    exported: ExportedModel,
    corpus: str,
    documents,
    *,
    end_of_document_id: int,
    limit_documents: int = 200,
    limit_bytes: int = 400_000,
    progress: Progress = silent,
) -> BitsPerByte:
    """Score held-out documents of one corpus, at most `limit_documents` and about `limit_bytes` of them.

    `documents` are arrays of token ids, each with the end-of-document token at its end; that token is scored
    too, but has no bytes. The value is total nats / ln 2 / total UTF-8 bytes. The standard error is that of a
    ratio estimator over documents (Cochran, Sampling Techniques, 6.4); NaN for a single document.
    Raises EvaluationError when there is nothing to score.
    """
    chosen = choose_documents(exported, documents, limit_documents=limit_documents, limit_bytes=limit_bytes)
    if not sum(document.bytes for document in chosen):
        raise EvaluationError(f"corpus {corpus}: no held-out text; raise evaluation.held_out_share and run `codemix prepare` again")
    ids = [document.ids for document in chosen]
    check_ids(exported, corpus, ids)
    nats = document_nats(exported, ids, end_of_document_id, lambda done, total: progress(f"bits per byte: {corpus}", done, total))
    sizes = np.array([document.bytes for document in chosen], dtype=np.float64)
    value, standard_error = estimate_ratio(nats / math.log(2), sizes)
    return BitsPerByte(
        corpus=corpus,
        value=value,
        standard_error=standard_error,
        documents=len(chosen),
        tokens=sum(map(len, ids)),
        bytes=int(sizes.sum()),
    )


def check_ids(exported: ExportedModel, corpus: str, documents) -> None:
    """Raise EvaluationError when a corpus holds ids the model has no embedding for."""
    largest = max(int(ids.max()) for ids in documents)
    if largest >= exported.vocab_size:
        raise EvaluationError(
            f"corpus {corpus}: token id {largest} is not among the {exported.vocab_size} of {exported.folder};"
            " the corpus was prepared with another tokenizer, prepare it again with that of the run"
        )


def choose_documents(exported: ExportedModel, documents, *, limit_documents: int, limit_bytes: int) -> list[Document]:
    """Return a part of the documents that depends on nothing but them and the limits.

    Documents come in a fixed shuffled order until a limit is reached; of a long one only the beginning is taken.
    """
    documents = [ids for ids in documents if len(ids)]
    if not documents:
        return []
    most = max(limit_bytes // DOCUMENT_SHARE, limit_bytes // len(documents), 1)
    chosen, total = [], 0
    for index in np.random.default_rng(CHOICE_SEED).permutation(len(documents)):
        if len(chosen) >= limit_documents or total >= limit_bytes:
            break
        chosen.append(read_document(exported, documents[index], most))
        total += chosen[-1].bytes
    return chosen


def read_document(exported: ExportedModel, ids: np.ndarray, most_bytes: int) -> Document:
    """Return a document, or its beginning of about `most_bytes`, cut between characters."""
    size = text_bytes(exported, ids[:-1][: most_bytes + 1])  # a token has at least a byte: no need to decode megabytes
    if size <= most_bytes and len(ids) <= most_bytes + 2:
        return Document(ids=ids, bytes=size)
    keep = max(1, min(len(ids), most_bytes + 1) * most_bytes // max(size, 1))
    while keep > 1 and exported.decode(ids[max(0, keep - 4) : keep]).endswith("\N{REPLACEMENT CHARACTER}"):
        keep -= 1
    return Document(ids=ids[:keep], bytes=text_bytes(exported, ids[:keep]))


def text_bytes(exported: ExportedModel, ids) -> int:
    """Return the UTF-8 bytes of the text of token ids."""
    return len(exported.decode(ids).encode("utf-8", errors="surrogatepass"))


def cut_windows(document: int, num_tokens: int, max_length: int) -> list[Window]:
    """Return windows of at most `max_length` positions that score every token exactly once.

    Where a document needs several, each but the first scores the last half of its window, so that every token
    but the first ones sees at least half a window before it.
    """
    stop = min(max_length, num_tokens)
    windows = [Window(document=document, start=0, stop=stop, first=1)]
    while stop < num_tokens:
        first, stop = stop + 1, min(stop + max(1, max_length // 2), num_tokens)
        windows.append(Window(document=document, start=stop - max_length, stop=stop, first=first))
    return windows


def document_nats(exported: ExportedModel, documents, end_of_document_id: int, on_windows=lambda done, total: None) -> np.ndarray:
    """Return the negative log-likelihood of each document in nats, given an end-of-document token before it."""
    sequences = [np.concatenate([[end_of_document_id], np.asarray(ids, dtype=np.int64)]) for ids in documents]
    windows = [w for i, ids in enumerate(documents) for w in cut_windows(i, len(ids), exported.max_length)]
    windows.sort(key=lambda w: w.start - w.stop)  # longest first: little padding, and memory runs out at once or never
    nats, done = np.zeros(len(documents)), 0
    while done < len(windows):
        batch = windows[done : done + exported.rows_that_fit(windows[done].stop - windows[done].start)]
        for window, value in zip(batch, window_nats(exported, sequences, batch), strict=True):
            nats[window.document] += value
        done += len(batch)
        on_windows(done, len(windows))
    return nats


@torch.inference_mode()
def window_nats(exported: ExportedModel, sequences, batch: list[Window]) -> list[float]:
    """Run windows through the model at once; rows are padded at the right, where causal attention cannot see."""
    length = max(w.stop - w.start for w in batch)
    inputs = torch.zeros(len(batch), length, dtype=torch.long)
    targets = torch.full((len(batch), length), IGNORED, dtype=torch.long)
    for row, w in enumerate(batch):
        sequence = torch.from_numpy(sequences[w.document])
        inputs[row, : w.stop - w.start] = sequence[w.start : w.stop]
        targets[row, w.first - 1 - w.start : w.stop - w.start] = sequence[w.first : w.stop + 1]
    logits = exported.model(input_ids=inputs.to(exported.device), use_cache=False).logits.float()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.to(exported.device).flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view_as(targets).double().sum(dim=1).tolist()


def estimate_ratio(numerators: np.ndarray, denominators: np.ndarray) -> tuple[float, float]:
    """Return sum / sum and its standard error over pairs, by the linearised ratio estimator; NaN for one pair."""
    ratio, count = numerators.sum() / denominators.sum(), len(numerators)
    if count < 2:
        return float(ratio), math.nan
    residuals = numerators - ratio * denominators
    return float(ratio), float(math.sqrt(count / (count - 1) * (residuals**2).sum()) / denominators.sum())
