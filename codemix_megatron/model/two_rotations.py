"""Attention of a model whose layers with a sliding window rotate by a base of their own (Gemma 3)."""

import torch
from megatron.core.transformer.attention import SelfAttention

from codemix_megatron.recipe.schema import Model

__all__ = ["TwoRotations", "own_angles"]


class TwoRotations(SelfAttention):
    """Self-attention that takes its kind's angles of both that the model hands to every layer."""

    def __init__(self, *args, model: Model, **options):
        super().__init__(*args, **options)
        self.has_window = model.has_window(self.layer_number)

    def forward(self, hidden_states: torch.Tensor, attention_mask, *more, rotary_pos_emb=None, **others):
        """Map [sequence, batch, hidden] to the same."""
        own = None if rotary_pos_emb is None else own_angles(rotary_pos_emb, self.has_window)
        return super().forward(hidden_states, attention_mask, *more, rotary_pos_emb=own, **others)


def own_angles(both: torch.Tensor, has_window: bool) -> torch.Tensor:
    """Return the angles [sequence, 1, 1, size] of one kind of layer, of those [sequence, 1, 1, 2 * size] that frequencies of both give.

    megatron-core writes all frequencies twice, so that each half has both kinds. They are kept with what they come from: a rotation keeps
    sine and cosine with its angles.
    """
    known = both.__dict__.setdefault("of_kinds", {})
    if has_window not in known:
        known[has_window] = both.unflatten(-1, (2, 2, -1))[..., int(has_window), :].flatten(-2)
    return known[has_window]
