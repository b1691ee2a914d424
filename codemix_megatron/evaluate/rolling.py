"""Bits per byte as lm-eval measures them: windows that do not overlap, the text read again, the end of a document not scored.

Ours (compression.py) scores the end-of-document token too and gives every token but the first ones at least half a window of context. On short
documents the two differ by a percent or two; figures of other tools are of this kind.
"""

import numpy as np

from codemix_megatron.evaluate.adapter import harness_model, rolling
from codemix_megatron.evaluate.compression import choose_documents, per_document, refuse_nothing
from codemix_megatron.evaluate.digests import text_keys
from codemix_megatron.evaluate.harness import at_work
from codemix_megatron.inference.progress import Progress, silent
from codemix_megatron.records.item_scores import ItemScores

__all__ = ["rolling_bits_per_byte"]


def rolling_bits_per_byte(
    model,
    corpus: str,
    documents,
    *,
    end_of_document_id: int,
    beginning_of_document_id: int | None = None,
    limit_documents: int = 200,
    limit_bytes: int = 400_000,
    progress: Progress = silent,
    reader=None,
) -> ItemScores:
    """Score the same documents, or beginnings of documents, as `bits_per_byte` does, by lm-eval's rolling log-likelihood of their text.

    What begins a text is the model's own affair there: `beginning_of_document_id` is not looked at.
    """
    reader = reader or model
    chosen = choose_documents(reader, documents, limit_documents=limit_documents, limit_bytes=limit_bytes)
    ids = [document.ids[:-1] if document.ids[-1] == end_of_document_id else document.ids for document in chosen]
    texts = [text for each in ids if (text := reader.decode(each))]
    refuse_nothing(corpus, len(texts))
    with at_work(progress) as aloud:
        adapter = harness_model(model, aloud)
        adapter.begin(f"rolling bits per byte: {corpus}")
        nats = -np.array(rolling(model, texts, adapter))
        tokens = [len(adapter.tok_encode(text)) for text in texts]
    metrics = per_document(nats, [len(text.encode("utf-8", "surrogatepass")) for text in texts], tokens)
    return ItemScores(task=f"rolling_bits_per_byte-{corpus}", keys=text_keys(texts), metrics=metrics, window=model.max_length)
