"""Maximal update parametrisation (Yang et al. 2022, arXiv:2203.03466, table 8) for AdamW, as initial weights and rates alone.

A model m times as wide as the base one has hidden matrices with a standard deviation of 1 / sqrt(m) of the base's and 1 / m of its learning rate; the
embedding and the output layer keep both. Logits are divided by m, which is a final norm whose weight begins at 1 / m and learns at 1 / m of the rate: under
Adam the same as a norm at 1 and a constant behind it, and a model that every Hugging Face architecture can hold. AdamW multiplies decay with the rate, so
hidden matrices are given m times the decay, and keep the base's product. Heads keep their size and become more.
"""

from codemix_megatron.recipe.schema import Recipe

__all__ = ["is_embedding", "is_final_norm", "width_multiple"]


def width_multiple(recipe: Recipe) -> float:
    """Return how many times as wide as the base model a recipe's is, 1 where nothing is transferred."""
    optimizer = recipe.optimizer
    return recipe.model.hidden_size / optimizer.base_width if optimizer.transfer == "mup" and optimizer.base_width else 1.0


def is_embedding(name: str) -> bool:
    """Say whether a parameter of Megatron's has a row for each id: the embedding or an output layer of its own."""
    return name.endswith(("word_embeddings.weight", "output_layer.weight"))


def is_final_norm(name: str) -> bool:
    """Say whether a parameter of Megatron's is the weight of the norm before the output layer."""
    return name.endswith(("final_layernorm.weight", "final_norm.weight"))  # of GPTModel, of HybridModel
