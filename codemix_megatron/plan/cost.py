"""What a model costs: parameters and floating point operations; memory.py has its memory. Plain arithmetic, no torch."""

from dataclasses import dataclass

from codemix_megatron.recipe.schema import Model

__all__ = ["Parameters", "count_parameters", "layer_matrices", "training_flops_per_token"]


@dataclass(frozen=True)
class Parameters:
    """Numbers a model holds; `embedding` counts the padded table once, or twice when untied."""

    total: int
    embedding: int
    per_layer: int

    @property
    def without_embedding(self) -> int:
        """Parameters outside the embedding tables."""
        return self.total - self.embedding


def layer_matrices(model: Model, mlps: int | None = None) -> int:
    """Return the matrix entries of one layer: query, key, value, output, router, gate, up, down; of all experts, or of `mlps` of them."""
    hidden, query, key_value = model.hidden_size, model.num_attention_heads * model.head_size, model.query_groups * model.head_size
    experts = model.num_experts or 0
    mlps = max(1, experts) if mlps is None else mlps
    return 2 * hidden * (query + key_value) + experts * hidden + mlps * (model.first_matrices + 1) * hidden * model.ffn_size


def layer_vectors(model: Model) -> int:
    """Return the numbers of one layer that are in no matrix: norms, biases."""
    heads = model.num_attention_heads + 2 * model.query_groups
    norms = (1 if model.block == "parallel" else 4 if model.norm_position == "both" else 2) * norm_vector(model)
    if model.qk_norm:
        normed = 2 if model.qk_norm_width == "head" else model.num_attention_heads + model.query_groups
        norms += normed * model.head_size
    biases = heads * model.head_size if model.qkv_bias or model.linear_bias else 0
    return norms + biases + (2 * model.hidden_size + model.first_matrices * model.ffn_size if model.linear_bias else 0)


def norm_vector(model: Model) -> int:
    """Return the numbers of one norm of the residual stream."""
    return (2 if model.normalization == "layernorm_with_bias" else 1) * model.hidden_size


def count_parameters(model: Model, vocab_size: int) -> Parameters:
    """Count the parameters of a model with a tokenizer of `vocab_size` ids."""
    per_layer = layer_matrices(model) + layer_vectors(model)
    tables = 1 if model.tie_embeddings else 2
    embedding = tables * model.padded_vocab_size(vocab_size) * model.hidden_size
    return Parameters(total=model.num_layers * per_layer + norm_vector(model) + embedding, embedding=embedding, per_layer=per_layer)


def training_flops_per_token(model: Model, vocab_size: int) -> int:
    """Count forward + backward: 6 per matrix entry that a token goes through (output layer included) and causal attention once.

    A token attends to half the sequence on average: scores and context take 2 x 2 x heads x sequence / 2
    forward, three times that with backward. Recomputation is not counted (model FLOPs, not hardware FLOPs).
    """
    matrices = model.num_layers * layer_matrices(model, model.mlps_per_token) + model.padded_vocab_size(vocab_size) * model.hidden_size
    attention = 6 * model.num_layers * model.num_attention_heads * model.head_size * model.sequence_length
    return 6 * matrices + attention
