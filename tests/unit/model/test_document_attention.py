"""Documents in one row get the logits they would get alone, through the borders that kernels of variable length take."""

from dataclasses import replace

import pytest
import torch
from many_layouts import VOCABULARY, recipe_of

from codemix_megatron.errors import RecipeError
from codemix_megatron.model import config, document_attention
from codemix_megatron.model.build import build_model
from codemix_megatron.model.document_attention import document_borders
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.recipe.schema import Sequences
from codemix_megatron.train.batches import Batch
from codemix_megatron.train.forward import Documents, micro_batches, within_documents

END = 0
ROWS = torch.tensor([[3, 9, 4, END, 8, 2, 7, 7, END, 5, 6, 1], [1, 2, END, END, 4, 5, 6, 7, 8, 9, 1, END]])


def one_by_one(query, key, value, borders, longest, dropout, scale, window):
    """Stand in for FlashAttention, which is for CUDA: plain attention of one stretch after the other."""
    parts = []
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        assert last - first <= longest
        q, k, v = (of[first:last].transpose(0, 1) for of in (query, key, value))
        k, v = (of.repeat_interleave(len(q) // len(of), 0) for of in (k, v))
        scores = (q @ k.transpose(1, 2)) * (scale or q.size(-1) ** -0.5)
        seen = torch.ones(last - first, last - first, dtype=torch.bool).tril()
        seen = seen if window is None else seen.triu(1 - window)
        parts.append((scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts)


def test_borders_count_through_the_rows_of_a_micro_batch_and_every_row_begins_a_document():
    together, apart = document_borders(ROWS, END, 2), document_borders(ROWS, END, 1)
    assert [of.cu_seqlens_q.tolist() for of in together] == [[0, 4, 9, 12, 15, 16, 24]]
    assert [of.cu_seqlens_q.tolist() for of in apart] == [[0, 4, 9, 12], [0, 3, 4, 12]]
    assert all(of.cu_seqlens_kv is of.cu_seqlens_q and of.max_seqlen_q == 12 for of in (*together, *apart))


@pytest.mark.parametrize("model", [{}, {"block": "parallel", "rotary_interleaved": True}, {"sliding_window": 3, "qk_norm": True}])
def test_logits_by_borders_are_those_by_mask_and_those_of_each_document_alone(monkeypatch, model):
    monkeypatch.setattr(document_attention, "flash_attention", one_by_one)
    with one_rank(device="cpu"), torch.no_grad():
        (gpt,) = build_model(recipe_of(model, {}, {}), VOCABULARY, torch.device("cpu"))
        gpt.eval()
        positions = torch.arange(ROWS.size(1)).expand_as(ROWS)
        (borders,) = document_borders(ROWS, END, 2)
        by_borders = gpt(ROWS, positions, None, packed_seq_params=borders)
        by_mask = gpt(ROWS, positions, within_documents(ROWS, END))
        alone = gpt(ROWS[:1, 4:9], positions[:1, :5], None)
    torch.testing.assert_close(by_borders, by_mask, rtol=0, atol=1e-5)
    torch.testing.assert_close(by_borders[0, 4:9], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("has_borders", [True, False])
def test_micro_batches_have_borders_where_kernels_know_them(has_borders):
    batch = Batch(torch.cat([ROWS, ROWS[:, :1]], dim=1), torch.zeros(2, dtype=torch.int64))
    parts = micro_batches(batch, 1, Documents(END, has_borders))
    assert [part.borders is not None for part in parts] == [has_borders] * 2
    assert torch.equal(torch.cat([part.rows for part in parts]), batch.rows)


@pytest.mark.parametrize(
    ("engine", "model", "words"),
    [
        (False, {"attention_softcap": 50.0, "precision": "bf16"}, "no kernel keeps documents apart with model.attention_softcap"),
        (True, {}, "Transformer Engine keeps documents apart in bf16; set model.precision=bf16"),
    ],
)
def test_what_no_kernel_keeps_apart_on_cuda_is_refused_by_name(monkeypatch, engine, model, words):
    monkeypatch.setattr(config, "active_engines", lambda: {"transformer_engine": engine})
    recipe = replace(recipe_of(model, {}, {}), sequences=Sequences(attention_within_documents=True))
    with pytest.raises(RecipeError, match=words):
        config.require_engines(recipe, torch.device("cuda"))
