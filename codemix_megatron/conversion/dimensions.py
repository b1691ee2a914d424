"""How large each tensor of a model is on both sides, and how one becomes the other."""

import torch

from codemix_megatron.families.family import Row
from codemix_megatron.recipe.schema import Model

__all__ = ["Dimensions"]


class Dimensions:
    """Sizes of one model; `vocab_size` is Hugging Face's, without padding rows."""

    def __init__(self, model: Model, vocab_size: int):
        self.model, self.vocab_size = model, vocab_size
        heads, groups, size = model.num_attention_heads, model.query_groups, model.head_size
        self.query_key_value = [heads * size, groups * size, groups * size]
        self.sizes = {
            "vocabulary": model.padded_vocab_size(vocab_size),
            "hidden": model.hidden_size,
            "heads": heads * size,
            "head": size,
            "groups": groups * size,
            "query_key_value": sum(self.query_key_value),
            "gate_up": model.first_matrices * model.ffn_size,
            "feed_forward": model.ffn_size,
            "experts": model.num_experts or 0,
        }

    def megatron_shape(self, row: Row) -> tuple[int, ...]:
        """Return the shape of one layer of Megatron's tensor."""
        return tuple(self.sizes[name] for name in row.dimensions)

    def hugging_face_shapes(self, row: Row) -> list[tuple[int, ...]]:
        """Return the shape of each of Hugging Face's tensors, in the order of their names."""
        first, *others = self.megatron_shape(row)
        if len(row.hugging_face) == 1 and row.dimensions[0] != "vocabulary":  # Phi-3 keeps query, key and value in one
            return [(first, *others)]
        cut = {"vocabulary": [self.vocab_size], "query_key_value": self.query_key_value, "gate_up": [first // 2] * 2}
        return [(size, *others) for size in cut.get(row.dimensions[0], [first])]

    def split(self, row: Row, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Cut Megatron's tensor (one layer of it) into Hugging Face's; the parts are views where they can be."""
        kind, parts = row.dimensions[0], self.hugging_face_shapes(row)
        if kind == "query_key_value":
            grouped = tensor.reshape(self.model.query_groups, -1, self.model.head_size, *tensor.shape[1:])
            # Megatron keeps a group together: its queries, its key, its value.
            cut = grouped[:, :-2], grouped[:, -2], grouped[:, -1]
            apart = [part.reshape(size, *tensor.shape[1:]) for part, size in zip(cut, self.query_key_value, strict=True)]
            return apart if len(parts) > 1 else [torch.cat(apart)]
        if kind == "vocabulary":
            return [tensor[: self.vocab_size]]
        return list(tensor.chunk(2)) if kind == "gate_up" and len(parts) > 1 else [tensor]

    def join(self, row: Row, parts: list[torch.Tensor]) -> torch.Tensor:
        """Undo `split`; padding rows of the vocabulary are zero."""
        kind = row.dimensions[0]
        if kind == "query_key_value":
            groups, size = self.model.query_groups, self.model.head_size
            parts = parts if len(parts) > 1 else list(parts[0].split(self.query_key_value))
            return torch.cat([part.reshape(groups, -1, size, *part.shape[1:]) for part in parts], dim=1).reshape(self.megatron_shape(row))
        if kind == "vocabulary":
            return torch.cat([parts[0], parts[0].new_zeros(self.sizes["vocabulary"] - self.vocab_size, *parts[0].shape[1:])])
        return torch.cat(parts) if len(parts) > 1 else parts[0]
