import math
import re

import numpy as np
import pytest
import torch
from tiny_export import MAX_LENGTH, make_text, save_export

from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.compression import bits_per_byte, bits_per_byte_of, choose_documents
from codemix_megatron.evaluate.rolling import rolling_bits_per_byte
from codemix_megatron.inference.document_likelihoods import cut_windows, document_nats
from codemix_megatron.inference.exported import load_exported


def scored(model, documents, **options):
    """Return bits per byte of documents."""
    return bits_per_byte_of(bits_per_byte(model, "text", documents, end_of_document_id=0, **options), "text")


def reference_nats(exported, ids) -> float:
    """Score one document token by token: each from the window that its rule says, in a forward pass of its own."""
    sequence = torch.tensor([0, *map(int, ids)])
    stops = [min(MAX_LENGTH, len(ids))]
    while stops[-1] < len(ids):
        stops.append(min(stops[-1] + MAX_LENGTH // 2, len(ids)))
    total = 0.0
    for target in range(1, len(sequence)):
        stop = next(s for s in stops if target <= s)
        seen = sequence[max(0, stop - MAX_LENGTH) : target][None]
        with torch.no_grad():
            total -= float(torch.log_softmax(exported.model(seen).logits[0, -1].double(), -1)[sequence[target]])
    return total


def test_document_nats_equal_one_token_at_a_time(exported, documents):
    chosen = sorted(documents, key=len)[:20:5]
    assert len(chosen[0]) < MAX_LENGTH and len(chosen[-1]) > 3 * MAX_LENGTH
    found = document_nats(exported, chosen, 0)
    assert found == pytest.approx([reference_nats(exported, ids) for ids in chosen], abs=1e-3, rel=1e-5)


def test_bits_per_byte_is_nats_over_ln2_over_utf8_bytes(exported, documents, texts):
    score = scored(exported, documents, limit_bytes=10**6)
    nats = document_nats(exported, documents, 0)
    assert score.bytes == sum(len(text.encode()) for text in texts)
    assert score.tokens == sum(map(len, documents)) and score.documents == len(texts)
    assert score.value == pytest.approx(nats.sum() / math.log(2) / score.bytes, abs=1e-9)


def test_uniform_model_scores_log2_of_its_vocabulary_per_token(tmp_path, tokenizer_file, documents):
    save_export(tmp_path, tokenizer_file, uniform=True)
    score = scored(load_exported(tmp_path, "cpu"), documents)
    assert score.value == pytest.approx(math.log2(384) * score.tokens / score.bytes, rel=1e-6)


@pytest.mark.parametrize("max_length", [1, 2, 7, 48])
@pytest.mark.parametrize("num_tokens", [1, 2, 6, 7, 8, 48, 49, 73, 500])
def test_windows_score_every_token_once(num_tokens, max_length):
    windows = cut_windows(0, num_tokens, max_length)
    scored = [target for w in windows for target in range(w.first, w.stop + 1)]
    assert scored == list(range(1, num_tokens + 1))
    assert all(0 <= w.start < w.first <= w.stop and w.stop - w.start <= max_length for w in windows)
    assert all(w.first - w.start >= max_length // 2 for w in windows[1:])


def test_batch_size_does_not_change_the_score(exported, documents, monkeypatch):
    together = document_nats(exported, documents[:12], 0)
    monkeypatch.setattr("codemix_megatron.inference.exported.LOGITS_BYTES", 1)
    assert document_nats(exported, documents[:12], 0) == pytest.approx(together, rel=1e-5)


def test_standard_error_matches_resampling(exported, documents):
    score = scored(exported, documents)
    nats = document_nats(exported, documents, 0)
    sizes = np.array([len(exported.decode(ids[:-1]).encode()) for ids in documents])
    rows = np.random.default_rng(0).integers(0, len(documents), (4000, len(documents)))
    resampled = nats[rows].sum(1) / math.log(2) / sizes[rows].sum(1)
    assert score.standard_error == pytest.approx(resampled.std(), rel=0.3)


def test_one_document_has_no_standard_error(exported, documents):
    assert math.isnan(scored(exported, documents[:1]).standard_error)


def test_limits_choose_the_same_documents_every_time(exported, documents):
    first = choose_documents(exported, documents, limit_documents=5, limit_bytes=10**6)
    again = choose_documents(exported, documents, limit_documents=5, limit_bytes=10**6)
    assert len(first) == 5 and all(np.array_equal(a.ids, b.ids) for a, b in zip(first, again, strict=True))
    few = choose_documents(exported, documents, limit_documents=30, limit_bytes=1500)
    assert sum(document.bytes for document in few) < 1500 + 1500 // 8


def test_long_document_gives_its_beginning_cut_between_characters(exported):
    text = make_text(3, 400)
    ids = np.array([*exported.tokenizer.encode(text), 0])
    for most in range(300, 360, 3):
        cut = choose_documents(exported, [ids] * 8, limit_documents=1, limit_bytes=8 * most)[0]
        decoded = exported.decode(cut.ids)
        assert text.startswith(decoded) and cut.bytes == len(decoded.encode()) and 0.8 * most < cut.bytes <= 1.2 * most


def test_short_documents_are_taken_whole(exported, documents, texts):
    chosen = choose_documents(exported, documents, limit_documents=100, limit_bytes=10**6)
    assert sorted(len(d.ids) for d in chosen) == sorted(map(len, documents))


def test_nothing_held_out_is_an_error_that_says_what_to_do(exported):
    for documents in ([], [np.array([0])]):
        with pytest.raises(EvaluationError, match=r"corpus code: no held-out text; raise evaluation\.held_out_share"):
            bits_per_byte(exported, "code", documents, end_of_document_id=0)


def test_ids_of_another_tokenizer_are_refused(exported, documents):
    with pytest.raises(EvaluationError, match=r"token id 900 is not among the 384 of .*another tokenizer"):
        bits_per_byte(exported, "code", [*documents, np.array([900, 0])], end_of_document_id=0)


def test_folder_without_model_is_an_error_that_names_it(tmp_path):
    with pytest.raises(EvaluationError, match=re.escape(str(tmp_path)) + r".*run `codemix export` first"):
        load_exported(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EvaluationError, match=re.escape(str(tmp_path)) + ".*not a readable Hugging Face model"):
        load_exported(tmp_path)


def test_rolling_bits_are_those_of_lm_evals_own_model(exported, documents):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    items = rolling_bits_per_byte(exported, "text", documents, end_of_document_id=0)
    chosen = choose_documents(exported, documents, limit_documents=200, limit_bytes=400_000)
    texts = [exported.decode(document.ids[:-1] if document.ids[-1] == 0 else document.ids) for document in chosen]
    theirs = HFLM(pretrained=exported.model, tokenizer=exported.tokenizer, backend="causal", batch_size=1, softmax_dtype="float32")
    asked = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]
    nats = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
    assert items.metrics["bits"].values == pytest.approx([-value / math.log(2) for value in nats], rel=1e-4)
    assert items.metrics["bytes"].values == [len(text.encode()) for text in texts]
    ours = bits_per_byte(exported, "text", documents, end_of_document_id=0)
    ratio = [sum(each.metrics["bits"].values) / sum(each.metrics["bytes"].values) for each in (ours, items)]
    assert ratio[0] != pytest.approx(ratio[1], rel=1e-3), "two definitions, two numbers"
