"""Recipe -> the model chunks of this rank."""

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer.module import Float16Module

from codemix_megatron.megatron.embedding import share_gradients
from codemix_megatron.megatron.installing import is_active
from codemix_megatron.model.config import transformer_config
from codemix_megatron.model.initial import initialize_weights
from codemix_megatron.model.layers import decoder_spec
from codemix_megatron.model.rotary import scaled_frequencies
from codemix_megatron.recipe.schema import Recipe

__all__ = ["build_model"]


def build_model(recipe: Recipe, vocab_size: int, device: torch.device) -> list[torch.nn.Module]:
    """Return one GPTModel per virtual pipeline stage of this rank, with initial weights. Every rank calls this.

    `vocab_size` is the tokenizer's; the embedding is padded to `model.vocab_padding_multiple`.
    """
    config = transformer_config(recipe, device)
    stages = recipe.parallel.virtual_pipeline
    chunks = [build_chunk(recipe, config, vocab_size, device, stage if stages > 1 else None) for stage in range(stages)]
    initialize_weights(chunks, recipe.seed, recipe.model.init_std, recipe.model.num_layers)
    if recipe.model.precision == "bf16":
        chunks = [Float16Module(config, chunk) for chunk in chunks]
    return chunks


class ScaledGPT(GPTModel):
    """GPTModel whose logits are multiplied by a constant, as Cohere's are."""

    def __init__(self, logit_scale: float, **options):
        super().__init__(**options)
        self.logit_scale = logit_scale

    def _postprocess(self, hidden_states, *args, **kwargs):
        # Scaling what goes into the output layer scales the logits, at a fraction of their size.
        if self.post_process and self.logit_scale != 1:
            hidden_states = hidden_states * self.logit_scale
        return super()._postprocess(hidden_states, *args, **kwargs)


def build_chunk(recipe: Recipe, config, vocab_size: int, device: torch.device, stage: int | None) -> GPTModel:
    """Build one chunk; `stage` is its virtual pipeline stage or None."""
    where = {} if stage is None else {"ignore_virtual": False, "vp_stage": stage}
    chunk = ScaledGPT(
        recipe.model.logit_scale,
        config=config,
        transformer_layer_spec=decoder_spec(config, recipe.model, device, stage),
        vocab_size=recipe.model.padded_vocab_size(vocab_size),
        max_sequence_length=recipe.model.sequence_length,
        pre_process=parallel_state.is_pipeline_first_stage(**where),
        post_process=parallel_state.is_pipeline_last_stage(**where),
        share_embeddings_and_output_weights=recipe.model.tie_embeddings,
        position_embedding_type="rope",
        rotary_base=recipe.model.rope_base,
        vp_stage=stage,
    )
    if recipe.model.rope_scaling:
        chunk.rotary_pos_emb.inv_freq = scaled_frequencies(chunk.rotary_pos_emb.inv_freq, recipe.model.rope_scaling)
    if is_active("embedding gradients"):
        share_gradients(chunk)
    return chunk.to(device)
