"""The paper's parallel block beside transformers' Cohere with the same weights: losses of ten AdamW steps."""

import pytest
import torch
from many_layouts import VOCABULARY, batches, recipe_of

from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.plan.cost import count_parameters
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.train.batches import Batch
from codemix_megatron.train.engine import Engine

pytestmark = pytest.mark.distributed
STEPS, RATE = 10, 1e-2


def cohere_names(weights: dict, model) -> dict:
    """Return Megatron's weights under Cohere's names."""
    named = {
        "model.embed_tokens.weight": weights["embedding.word_embeddings.weight"],
        "model.norm.weight": weights["decoder.final_layernorm.weight"],
    }
    for n in range(model.num_layers):
        ours = {k.removeprefix(f"decoder.layers.{n}."): w for k, w in weights.items() if k.startswith(f"decoder.layers.{n}.")}
        groups = ours["self_attention.linear_qkv.weight"].reshape(model.query_groups, -1, model.head_size, model.hidden_size)
        gate, up = ours["mlp.linear_fc1.weight"].chunk(2)
        theirs = {
            "input_layernorm": ours["input_layernorm.weight"],
            "self_attn.q_proj": groups[:, :-2].reshape(-1, model.hidden_size),
            "self_attn.k_proj": groups[:, -2].reshape(-1, model.hidden_size),
            "self_attn.v_proj": groups[:, -1].reshape(-1, model.hidden_size),
            "self_attn.o_proj": ours["self_attention.linear_proj.weight"],
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": ours["mlp.linear_fc2.weight"],
        }
        named |= {f"model.layers.{n}.{name}.weight": weight for name, weight in theirs.items()}
    return {name: weight.clone() for name, weight in named.items()}


def test_training_follows_cohere_with_the_same_weights(measured):
    from transformers import CohereConfig, CohereForCausalLM

    recipe = recipe_of({"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True, "logit_scale": 0.25}, {}, {})
    model, rows = recipe.model, torch.from_numpy(batches(STEPS))
    with one_rank(device="cpu") as ranks:
        metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0)
        engine = Engine(recipe, metadata, 1, ranks)
        weights = {name: p.detach().clone() for name, p in engine.chunks[0].module.named_parameters()}
        sources = torch.zeros(len(rows[0]), dtype=torch.int64)
        ours = [engine.train_step(Batch(batch, sources), RATE, False) for batch in rows]
        decayed = {g["wd_mult"]: sum(p.numel() for p in g["params"]) for g in engine.optimizer.param_groups}
    assert decayed[0.0] == (model.num_layers + 1) * model.hidden_size, "norms, and nothing else, are not decayed"
    config = CohereConfig(
        vocab_size=VOCABULARY,
        hidden_size=model.hidden_size,
        intermediate_size=model.ffn_size,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_attention_heads,
        num_key_value_heads=model.query_groups,
        logit_scale=model.logit_scale,
        layer_norm_eps=model.normalization_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_base},
        pad_token_id=None,  # a padding token would get no gradient
        eos_token_id=0,
    )
    theirs = CohereForCausalLM(config)
    assert theirs.load_state_dict(cohere_names(weights, model), strict=False).missing_keys == ["lm_head.weight"]
    assert count_parameters(model, VOCABULARY).total == theirs.num_parameters()
    groups = [{"params": [p for p in theirs.parameters() if p.ndim == n], "weight_decay": d} for n, d in ((2, 0.1), (1, 0.0))]
    optimizer, expected = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-8), []
    for batch in rows:
        logits = theirs(batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        expected.append(float(loss.detach()))
    largest = max(abs(a.losses.mean - b) for a, b in zip(ours, expected, strict=True))
    measured(f"losses of {STEPS} steps beside Hugging Face Cohere: at most {largest:.1e} apart (allowed 1e-5)")
    assert largest <= 1e-5
