"""longrope's frequencies, held against those of transformers."""

import pytest
import torch

from codemix_megatron.model.rotary import set_frequencies
from codemix_megatron.recipe.schema import Model, RopeScaling

SHORT, LONG = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], [1.0, 1.5, 2.0, 4.0, 8.0, 16.3]


class Rotary(torch.nn.Module):
    """What set_frequencies looks at of megatron-core's rotary positions."""

    def __init__(self, inverse_frequencies: torch.Tensor):
        super().__init__()
        self.inv_freq = inverse_frequencies

    def forward(self, length: int) -> torch.Tensor:
        """Return the frequencies a sequence of that length turns by."""
        return self.inv_freq


@pytest.mark.parametrize("length", [96, 97])
def test_frequencies_are_those_of_transformers_bit_for_bit(length):
    """A last bit moved logits of random models by 6e-5."""
    from transformers import Phi3Config
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    said = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 96}
    config = Phi3Config(
        hidden_size=64,
        num_attention_heads=4,
        max_position_embeddings=384,
        original_max_position_embeddings=96,
        rope_parameters={**said, "short_factor": SHORT, "long_factor": LONG},
    )
    theirs, _ = ROPE_INIT_FUNCTIONS["longrope"](config, seq_len=length)
    scaling = RopeScaling(kind="longrope", factor=4.0, original_sequence_length=96, short_factors=tuple(SHORT), long_factors=tuple(LONG))
    model = Model(
        num_layers=1, hidden_size=64, num_attention_heads=4, sequence_length=128, rotary_share=0.75, rope_base=10000.0, rope_scaling=scaling
    )
    rotary = Rotary(1.0 / 10000.0 ** (torch.arange(0, 12, 2, dtype=torch.float32) / 12))
    set_frequencies(rotary, model)
    assert torch.equal(rotary(length), theirs)
