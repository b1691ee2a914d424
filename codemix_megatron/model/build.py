"""Recipe -> the model chunks of this rank."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import Float16Module

from codemix_megatron.megatron.change import is_here
from codemix_megatron.megatron.embedding import share_gradients
from codemix_megatron.megatron.installing import is_active
from codemix_megatron.megatron.switches import is_left_out
from codemix_megatron.model.config import transformer_config
from codemix_megatron.model.initial import initialize_weights
from codemix_megatron.model.layers import layer_and_norm
from codemix_megatron.model.rotary import set_frequencies
from codemix_megatron.recipe.schema import Model, Recipe
from codemix_megatron.recipe.transfer import width_multiple

__all__ = ["build_model", "is_hybrid", "new_chunk"]


def build_model(recipe: Recipe, vocab_size: int, device: torch.device) -> list[torch.nn.Module]:
    """Return one language model per virtual pipeline stage of this rank, with initial weights. Every rank calls this.

    `vocab_size` is the tokenizer's; the embedding is padded to `model.vocab_padding_multiple`.
    """
    config = transformer_config(recipe, device)
    stages = recipe.parallel.virtual_pipeline
    chunks = [build_chunk(recipe, config, vocab_size, device, stage if stages > 1 else None) for stage in range(stages)]
    initialize_weights(chunks, recipe.seed, recipe.model, width_multiple(recipe))
    if recipe.model.precision == "bf16":
        chunks = [Float16Module(config, chunk) for chunk in chunks]
    return chunks


def is_hybrid() -> bool:
    """Say whether models are megatron-core's HybridModel, as since 0.19; before it, or with CODEMIX_WITHOUT="hybrid model", GPTModel."""
    return is_here(">=0.19") and not is_left_out("hybrid model")


def build_chunk(recipe: Recipe, config: TransformerConfig, vocab_size: int, device: torch.device, stage: int | None) -> Any:
    """Build one chunk, without weights worth keeping; `stage` is its virtual pipeline stage or None."""
    with wide_norms_asked_for(config, recipe.model):
        chunk = new_chunk(recipe, config, vocab_size, device, stage)
    chunk.z_loss = recipe.optimizer.z_loss
    scale_embeddings_and_logits(chunk, recipe.model)
    set_frequencies(chunk.rotary_pos_emb, recipe.model)
    if is_active("embedding gradients"):
        share_gradients(chunk)
    return chunk.to(device)


def new_chunk(recipe: Recipe, config: TransformerConfig, vocab_size: int, device: torch.device, stage: int | None) -> Any:
    """Return a HybridModel or a GPTModel as megatron-core makes it of our layers."""
    where = {} if stage is None else {"ignore_virtual": False, "vp_stage": stage}
    layer, norm = layer_and_norm(config, recipe.model, device)
    options = {
        "config": config,
        "vocab_size": recipe.model.padded_vocab_size(vocab_size),
        "max_sequence_length": recipe.model.sequence_length,
        "pre_process": parallel_state.is_pipeline_first_stage(**where),
        "post_process": parallel_state.is_pipeline_last_stage(**where),
        "share_embeddings_and_output_weights": recipe.model.tie_embeddings,
        "position_embedding_type": "rope",
        "rotary_base": recipe.model.rope_base,
        "rotary_percent": recipe.model.rotary_share,
        "vp_stage": stage,
    }
    if is_hybrid():
        from codemix_megatron.model.hybrid import new_hybrid  # each where it is there: later versions will have no GPTModel

        return new_hybrid(layer, norm, recipe.parallel, **options)
    from codemix_megatron.model.gpt import new_gpt

    return new_gpt(layer, norm, **options)


@contextmanager
def wide_norms_asked_for(config: TransformerConfig, model: Model) -> Iterator[None]:
    """Have norms over all heads built: megatron-core since 0.19 refuses them unless its configuration names norms of queries.

    Only while layers are built: by that key it sums the gradients of such norms over tensor ranks, and these are split among them.
    """
    before, config.qk_layernorm = config.qk_layernorm, model.qk_norm
    try:
        yield
    finally:
        config.qk_layernorm = before


def scale_embeddings_and_logits(chunk: Any, model: Model) -> None:
    """Multiply what comes from the embedding and what goes into the output layer by constants, as Granite's and Cohere's models do.

    And squeeze logits below a cap, as Gemma 2 does. Scaling what goes into the output layer scales the logits, at a fraction of their size.
    """
    if chunk.pre_process and model.embedding_multiplier != 1:
        chunk.embedding.register_forward_hook(lambda module, given, embedded: embedded * model.embedding_multiplier)
    if chunk.post_process and model.logit_scale != 1:
        chunk.output_layer.register_forward_pre_hook(lambda module, given: (given[0] * model.logit_scale, *given[1:]))
    if chunk.post_process and (cap := model.logit_softcap) is not None:
        chunk.output_layer.register_forward_hook(lambda module, given, out: (cap * torch.tanh(out[0] / cap), *out[1:]))
