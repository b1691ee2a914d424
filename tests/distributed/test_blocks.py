"""The paper's parallel block, and the sequential one, on every layout: losses against a single rank, reductions counted."""

import numpy as np
import pytest
import torch
from many_layouts import VOCABULARY, masked_batches, recipe_of, train_on
from plain_llama import by_llama_names, llama_of, masked_loss, train_plainly

from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.train.batches import Batch
from codemix_megatron.train.engine import Engine

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]  # one start of ranks trains all layouts

PAPER = {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True, "logit_scale": 0.25}
STRETCHED = {"kind": "llama3", "factor": 4, "low_frequency_factor": 1, "high_frequency_factor": 4, "original_sequence_length": 16}
# What Llama's relatives add, all at once: biases and norms are the parameters whose gradients tensor ranks have to sum.
RELATIVES = {"qkv_bias": True, "qk_norm": True, "head_dim": 32, "sliding_window": 8, "rope_scaling": STRETCHED, "tie_embeddings": False}
# What comes out of attention and MLP normed and scaled, queries and keys normed over the heads of all ranks, layers of two kinds.
OUTPUT_NORMED = {"norm_position": "after", "qk_norm": True, "qk_norm_width": "all", "sliding_window": 8, "full_attention_interval": 2,
                 "no_rope_interval": 4, "embedding_multiplier": 2.0, "residual_multiplier": 0.5, "attention_scale": 0.3}  # fmt: skip
# Normed on both sides of attention and MLP, layers with a window rotating by another base, scores and logits below a cap.
BOTH_NORMED = {"norm_position": "both", "zero_centered_norm": True, "activation": "geglu", "qk_norm": True, "sliding_window": 8,
               "full_attention_interval": 2, "rope_base": 1e6, "window_rope_base": 1e4, "embedding_multiplier": 8.0, "attention_softcap": 5.0,
               "logit_softcap": 8.0}  # fmt: skip
BIASED = {"linear_bias": True, "activation": "gelu", "normalization": "layernorm_with_bias"}
EXPERTS = {"num_experts": 4, "experts_per_token": 2, "expert_balance": 0.1, "qk_norm": True}
BLOCKS = {
    "sequential": {},
    "parallel": PAPER,
    "relatives'": RELATIVES,
    "output-normed": OUTPUT_NORMED,
    "both-normed": BOTH_NORMED,
    "biased": BIASED,
    "experts'": EXPERTS,
}
LAYOUTS = {
    "tensor 2": {"tensor": 2},
    "tensor 2, sequence parallel": {"tensor": 2, "sequence_parallel": True},
    "pipeline 2": {"pipeline": 2},
    "pipeline 2 x virtual 2": {"pipeline": 2, "virtual_pipeline": 2},
    "data 2, overlapped": {"overlap": True},
    "data 2, whole optimizer on each": {"distributed_optimizer": False},
    "tensor 2, recomputed attention": {"tensor": 2, "recompute": "selective"},
    "tensor 2, recomputed layers": {"tensor": 2, "sequence_parallel": True, "recompute": "full"},
}
# Norms of 4.6 after a step of 0.01: the third step of the relatives is steep enough to blow up rounding a thousandfold.
NORM_TOLERANCE = {
    "sequential": 1e-4,
    "parallel": 1e-4,
    "relatives'": 1e-3,
    "output-normed": 1e-4,
    "both-normed": 1e-4,
    "biased": 1e-4,
    "experts'": 1e-4,
}
LAYOUTS_OF_RELATIVES = ("tensor 2", "tensor 2, sequence parallel", "pipeline 2 x virtual 2")
LAYOUTS_OF_EXPERTS = ("tensor 2, sequence parallel", "pipeline 2 x virtual 2", "data 2, overlapped", "tensor 2, recomputed layers")

STEPS = 3  # the first shows gradients, the second the update, the third what a wrong moment would do
MASKED = {"masked": True, "optimizer": {"weight_decay": 0.0}}
MASKED_LAYOUTS = ("tensor 2", "tensor 2, sequence parallel", "pipeline 2", "pipeline 2 x virtual 2", "data 2, overlapped")


def layouts_of(block: str) -> list[str]:
    """Return the layouts a block is trained on."""
    if block == "experts'":
        return list(LAYOUTS_OF_EXPERTS)
    return list(LAYOUTS if block in ("sequential", "parallel") else LAYOUTS_OF_RELATIVES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Losses of the blocks on one rank and on their two-rank layouts."""
    folder = tmp_path_factory.mktemp("blocks")
    single = {block: {"model": model} for block, model in BLOCKS.items()} | {"masked": MASKED}
    jobs = {f"{block}, {name}": {"model": BLOCKS[block], "parallel": LAYOUTS[name]} for block in BLOCKS for name in layouts_of(block)}
    jobs |= {f"masked, {name}": {**MASKED, "parallel": LAYOUTS[name]} for name in MASKED_LAYOUTS}
    jobs["masked, data 2, one row at a time"] = {**MASKED, "batch": {"micro_sequences": 1}}
    one, two = ({name: {**job, "steps": STEPS} for name, job in each.items()} for each in (single, jobs))
    return train_on(1, one, folder), train_on(2, two, folder)


@pytest.mark.parametrize("block", BLOCKS)
def test_losses_and_norms_equal_the_single_rank_on_every_layout(trained, block, measured):
    single, spread = trained
    largest = 0.0
    for name in layouts_of(block):
        found = spread[f"{block}, {name}"]
        assert found["losses"] == pytest.approx(single[block]["losses"], abs=1e-5), name
        assert found["norms"] == pytest.approx(single[block]["norms"], rel=NORM_TOLERANCE[block]), name
        largest = max(largest, *(abs(a - b) for a, b in zip(found["losses"], single[block]["losses"], strict=True)))
    measured(f"{block} block on {len(layouts_of(block))} two-rank layouts: losses at most {largest:.1e} from one rank (allowed 1e-5)")


def test_parallel_block_reduces_once_per_layer_and_direction_instead_of_twice(trained, measured):
    """Four layers, four micro batches: 2 x 2 reductions less per layer are gone, one way forward and one backward."""
    _, spread = trained
    twice, once = (spread[f"{block}, tensor 2"]["all_reduces"] for block in ("sequential", "parallel"))
    layers, micro_batches = 4, 4
    measured(f"all-reduces of a step at TP2: {twice} with the sequential block, {once} with the parallel one")
    assert twice - once == layers * micro_batches * 2


def test_a_loss_mask_gives_the_mean_over_learned_tokens_of_the_global_batch_on_every_layout(trained, measured):
    """Judged by plain PyTorch; micro batches and ranks count unevenly, one row not at all, and rows are packed with padding."""
    single, spread = trained
    with one_rank(device="cpu") as ranks:
        recipe = recipe_of({}, {}, {})
        engine = Engine(recipe, TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0), 1, ranks)
        plain = llama_of(engine, recipe.model, VOCABULARY)
    ids, is_learned, _ = masked_batches(STEPS)
    losses, norms = train_plainly(plain, [(torch.from_numpy(i), torch.from_numpy(m[:, 1:])) for i, m in zip(ids, is_learned, strict=True)])
    found = {"one rank": single["masked"]} | {name: job for name, job in spread.items() if name.startswith("masked")}
    assert len(found) == 2 + len(MASKED_LAYOUTS)
    for name, job in found.items():
        assert job["losses"] == pytest.approx(losses, abs=1e-5), name
        assert job["norms"] == pytest.approx(norms, rel=1e-4), name
    largest = max(abs(a - b) for job in found.values() for a, b in zip(job["losses"], losses, strict=True))
    measured(f"masked losses of {STEPS} steps on {len(found)} layouts: at most {largest:.1e} from plain PyTorch (allowed 1e-5)")


def test_gradients_under_a_loss_mask_are_those_of_plain_pytorch_and_a_masked_prompt_has_none():
    ids, is_learned, rows = masked_batches(1)
    with one_rank(device="cpu") as ranks:
        recipe = recipe_of({}, {}, {})
        engine = Engine(recipe, TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0), 1, ranks)
        plain = llama_of(engine, recipe.model, VOCABULARY)
        found = gradients_of(engine, rows[0])
        without_masked_row = gradients_of(engine, np.concatenate([rows[0, 1:], rows[0, :1] * 0 - 1]))
    masked_loss(plain, torch.from_numpy(ids[0]), torch.from_numpy(is_learned[0, :, 1:])).backward()
    expected = {name: weight.grad for name, weight in plain.named_parameters()}
    for name, gradient in by_llama_names(found, recipe.model, VOCABULARY).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7, msg=name)
    for name, gradient in found.items():  # row 0 has no answer
        torch.testing.assert_close(without_masked_row[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def gradients_of(engine, rows: np.ndarray) -> dict:
    """Return the gradients of a batch, by Megatron's names."""
    for chunk in engine.chunks:
        chunk.train()
        chunk.zero_grad_buffer()
    engine.run_schedule(Batch(torch.from_numpy(rows), torch.zeros(len(rows), dtype=torch.int64)), forward_only=False)
    return {name: weight.main_grad.clone() for name, weight in engine.chunks[0].module.named_parameters()}
