"""Recipe -> the model chunks of this rank."""

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import reduce_from_tensor_model_parallel_region
from megatron.core.transformer.module import Float16Module

from codemix_megatron.megatron.embedding import share_gradients
from codemix_megatron.megatron.installing import is_active
from codemix_megatron.model.config import transformer_config
from codemix_megatron.model.initial import initialize_weights
from codemix_megatron.model.layers import decoder_spec
from codemix_megatron.model.rotary import scaled_frequencies
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.recipe.transfer import width_multiple

__all__ = ["build_model"]


def build_model(recipe: Recipe, vocab_size: int, device: torch.device) -> list[torch.nn.Module]:
    """Return one GPTModel per virtual pipeline stage of this rank, with initial weights. Every rank calls this.

    `vocab_size` is the tokenizer's; the embedding is padded to `model.vocab_padding_multiple`.
    """
    config = transformer_config(recipe, device)
    stages = recipe.parallel.virtual_pipeline
    chunks = [build_chunk(recipe, config, vocab_size, device, stage if stages > 1 else None) for stage in range(stages)]
    initialize_weights(chunks, recipe.seed, recipe.model.init_std, recipe.model.num_layers, width_multiple(recipe))
    if recipe.model.precision == "bf16":
        chunks = [Float16Module(config, chunk) for chunk in chunks]
    return chunks


class ScaledGPT(GPTModel):
    """GPTModel whose embeddings and logits are multiplied by constants, as Granite's and Cohere's are; its loss may have z-loss beside it."""

    def __init__(self, embedding_multiplier: float, logit_scale: float, z_loss: float, **options):
        super().__init__(**options)
        self.embedding_multiplier, self.logit_scale, self.z_loss = embedding_multiplier, logit_scale, z_loss

    def compute_language_model_loss(self, labels, logits):
        """Return losses [batch, length]; while training with z-loss, [batch, length, 2] with that in the second place."""
        if not (self.z_loss and self.training):
            return super().compute_language_model_loss(labels, logits)
        wanted = label_logits(labels, logits)  # first: the loss is computed in the logits' place
        losses = super().compute_language_model_loss(labels, logits)
        return torch.stack([losses, self.z_loss * (losses + wanted) ** 2], dim=-1)

    def _preprocess(self, *args, **kwargs):
        hidden_states, *others = super()._preprocess(*args, **kwargs)
        if self.pre_process and self.embedding_multiplier != 1:
            hidden_states = hidden_states * self.embedding_multiplier
        return hidden_states, *others

    def _postprocess(self, hidden_states, *args, **kwargs):
        # Scaling what goes into the output layer scales the logits, at a fraction of their size.
        if self.post_process and self.logit_scale != 1:
            hidden_states = hidden_states * self.logit_scale
        return super()._postprocess(hidden_states, *args, **kwargs)


class Picked(torch.autograd.Function):
    """torch.gather along the last dimension, which keeps no logits: Megatron's cross entropy overwrites them."""

    @staticmethod
    def forward(ctx, logits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return logits[..., places]."""
        ctx.save_for_backward(places)
        ctx.size = logits.size(-1)
        return logits.gather(-1, places[..., None])[..., 0]

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        """Return the gradient of the logits."""
        (places,) = ctx.saved_tensors
        return gradient.new_zeros(*places.shape, ctx.size).scatter_(-1, places[..., None], gradient[..., None]), None


def label_logits(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the logit of each label, float32 [batch, length], of logits [length, batch, vocabulary / tensor ranks].

    A loss is log Z less this, so that the two make up log Z, the logarithm of softmax's denominator, without another pass over the logits.
    """
    own = logits.size(-1)
    places = labels.transpose(0, 1) - parallel_state.get_tensor_model_parallel_rank() * own
    is_here = (places >= 0) & (places < own)
    found = Picked.apply(logits, places.clamp(0, own - 1)).float() * is_here
    return reduce_from_tensor_model_parallel_region(found).transpose(0, 1)


def build_chunk(recipe: Recipe, config, vocab_size: int, device: torch.device, stage: int | None) -> GPTModel:
    """Build one chunk; `stage` is its virtual pipeline stage or None."""
    where = {} if stage is None else {"ignore_virtual": False, "vp_stage": stage}
    chunk = ScaledGPT(
        recipe.model.embedding_multiplier,
        recipe.model.logit_scale,
        recipe.optimizer.z_loss,
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
        unscaled, scaling = chunk.rotary_pos_emb.inv_freq, recipe.model.rope_scaling
        chunk.rotary_pos_emb.inv_freq = scaled_frequencies(unscaled, scaling, recipe.model.rope_base)
    if is_active("embedding gradients"):
        share_gradients(chunk)
    return chunk.to(device)
