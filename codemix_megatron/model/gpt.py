"""megatron-core's GPTModel of our layers: the model of versions before 0.19."""

from megatron.core.models.gpt import GPTModel
from megatron.core.transformer import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build

from codemix_megatron.model.z_loss import WithZLoss

__all__ = ["new_gpt"]


class GPT(WithZLoss, GPTModel):
    """GPTModel with z-loss."""


def new_gpt(layer: ModuleSpec, norm: type, **options) -> GPT:
    """Return a model of this rank's share of layers; `options` are those that GPTModel and HybridModel have in common."""
    layers = get_num_layers_to_build(options["config"], vp_stage=options["vp_stage"])
    block = TransformerBlockSubmodules(layer_specs=[layer] * layers, layer_norm=norm)
    return GPT(transformer_layer_spec=block, **options)
