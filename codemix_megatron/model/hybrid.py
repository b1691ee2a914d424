"""megatron-core's HybridModel of our layers, each a whole transformer layer in the place of an attention layer.

It is what upstream keeps of GPTModel from 0.19 on. Weights, checkpoints and losses are the same to the bit: the stack below gives them the
names that GPTModel's block gives them, saving and loading, so that a checkpoint of either goes on as the other.
"""

from contextlib import nullcontext

import torch
from megatron.core.dist_checkpointing.utils import replace_prefix_for_sharding
from megatron.core.models.hybrid.hybrid_block import HybridStack, HybridStackSubmodules
from megatron.core.models.hybrid.hybrid_layer_allocation import Symbols
from megatron.core.models.hybrid.hybrid_model import HybridModel
from megatron.core.tensor_parallel import get_cuda_rng_tracker
from megatron.core.transformer import ModuleSpec
from megatron.core.transformer.utils import sharded_state_dict_default

from codemix_megatron.model.z_loss import WithZLoss
from codemix_megatron.recipe.schema import Parallel

__all__ = ["new_hybrid"]


class Hybrid(WithZLoss, HybridModel):
    """HybridModel with z-loss."""

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None) -> dict:
        """Return what a checkpoint holds, without the output layer's extra state, which is empty and which GPTModel leaves out."""
        state = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        state.pop(f"{prefix}output_layer._extra_state", None)
        return state


def new_hybrid(layer: ModuleSpec, norm: type, parallel: Parallel, **options) -> Hybrid:
    """Return a model of this rank's share of layers; `options` are those that GPTModel and HybridModel have in common."""
    stages = parallel.pipeline * parallel.virtual_pipeline
    stage = Symbols.ATTENTION * (options["config"].num_layers // stages)
    stack = ModuleSpec(module=Stack, params={"norm": norm}, submodules=HybridStackSubmodules(attention_layer=layer))
    model = Hybrid(hybrid_stack_spec=stack, hybrid_layer_pattern=Symbols.PIPE.join([stage] * stages), **options)
    # HybridModel does not hand this on to its angles: pairs of neighbouring channels would be turned by the angles of others.
    model.rotary_pos_emb.rotary_interleaved = options["config"].rotary_interleaved
    return model


class Stack(HybridStack):
    """HybridStack with our norm at its end, which is Transformer Engine's there, and the names of GPTModel's block in checkpoints."""

    def __init__(self, config, submodules, norm: type, **options):
        super().__init__(config, submodules, post_layer_norm=False, **options)
        if self.post_process:
            self.post_layer_norm = True
            self.final_norm = norm(config=config, hidden_size=config.hidden_size, eps=config.layernorm_epsilon)

    def forward(self, *args, **options) -> torch.Tensor:
        """Map [sequence, batch, hidden] to the same. Under sequence parallel dropout is drawn from this tensor rank's own stream."""
        with get_cuda_rng_tracker().fork() if self.config.sequence_parallel else nullcontext():
            return super().forward(*args, **options)

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None) -> dict:
        """Return the layers as parts of stacks of all layers, and the last norm as `final_layernorm`."""
        found: dict = {}
        for index, layer in enumerate(self.layers):
            own = f"{prefix}layers.{index}."
            state = layer.sharded_state_dict(own, [(0, layer.layer_number - 1, self.config.num_layers)], metadata)
            replace_prefix_for_sharding(state, own, f"{prefix}layers.")
            found.update(state)
        if self.post_layer_norm:
            own = f"{prefix}final_norm."
            state = sharded_state_dict_default(self.final_norm, own, (), metadata, tp_group=self.tp_group)
            replace_prefix_for_sharding(state, own, f"{prefix}final_layernorm.")
            found.update(state)
        return found
