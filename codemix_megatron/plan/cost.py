"""What a model costs: parameters, floating point operations, memory. Plain arithmetic, no torch."""

from dataclasses import dataclass, replace
from typing import get_args, get_type_hints

from codemix_megatron.recipe.schema import Model, Parallel, Recipe

__all__ = ["Parameters", "activations_by_recompute", "count_parameters", "memory_bytes_per_rank", "training_flops_per_token"]


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


def layer_matrices(model: Model) -> int:
    """Return the matrix entries of one layer: query, key, value, output, gate, up, down."""
    hidden, query, key_value = model.hidden_size, model.num_attention_heads * model.head_size, model.query_groups * model.head_size
    return 2 * hidden * (query + key_value) + 3 * hidden * model.ffn_size


def layer_vectors(model: Model) -> int:
    """Return the numbers of one layer that are in no matrix: norms, biases."""
    heads = model.num_attention_heads + 2 * model.query_groups
    norms = (1 if model.block == "parallel" else 2) * model.hidden_size + (2 * model.head_size if model.qk_norm else 0)
    return norms + (heads * model.head_size if model.qkv_bias else 0)


def count_parameters(model: Model, vocab_size: int) -> Parameters:
    """Count the parameters of a model with a tokenizer of `vocab_size` ids."""
    per_layer = layer_matrices(model) + layer_vectors(model)
    tables = 1 if model.tie_embeddings else 2
    embedding = tables * model.padded_vocab_size(vocab_size) * model.hidden_size
    return Parameters(total=model.num_layers * per_layer + model.hidden_size + embedding, embedding=embedding, per_layer=per_layer)


def training_flops_per_token(model: Model, vocab_size: int) -> int:
    """Count forward + backward: 6 per matrix entry (output layer included) and causal attention once.

    A token attends to half the sequence on average: scores and context take 2 x 2 x heads x sequence / 2
    forward, three times that with backward. Recomputation is not counted (model FLOPs, not hardware FLOPs).
    """
    matrices = model.num_layers * layer_matrices(model) + model.padded_vocab_size(vocab_size) * model.hidden_size
    attention = 6 * model.num_layers * model.num_attention_heads * model.head_size * model.sequence_length
    return 6 * matrices + attention


def memory_bytes_per_rank(recipe: Recipe, vocab_size: int, data: int) -> dict[str, int]:
    """Estimate the fullest rank's memory by part: the stage with an embedding, all micro batches in flight."""
    model, parallel = recipe.model, recipe.parallel
    parameters = count_parameters(model, vocab_size)
    layers = -(-model.num_layers // parallel.pipeline)
    own = (layers * parameters.per_layer + parameters.embedding) // parallel.tensor
    weight_bytes = item_bytes(model)
    moment_bytes = 8 + (4 if model.precision == "bf16" else 0)  # two moments, and the fp32 copy beside bf16
    return {
        "weights": own * weight_bytes,
        "gradients": own * 4,
        "optimizer": own * moment_bytes // (data if parallel.distributed_optimizer else 1),
        "activations": activation_bytes(recipe, vocab_size, data),
    }


def item_bytes(model: Model) -> int:
    """Return the bytes of one weight or activation."""
    return 2 if model.precision == "bf16" else 4


def activations_by_recompute(recipe: Recipe, vocab_size: int, data: int) -> dict[str, int]:
    """Return recompute choice -> activation bytes of the fullest rank.

    `selective` computes attention's scores again; no layer of this package keeps them, so it is like `none`.
    """
    choices = get_args(get_type_hints(Parallel)["recompute"])
    recipes = {choice: replace(recipe, parallel=replace(recipe.parallel, recompute=choice)) for choice in choices}
    return {choice: activation_bytes(changed, vocab_size, data) for choice, changed in recipes.items()}


def activation_bytes(recipe: Recipe, vocab_size: int, data: int) -> int:
    """Estimate what backward needs: per token and layer the inputs of each matrix product, and the logits of one micro batch.

    With full recomputation each layer keeps its input alone, and one layer at a time has all.
    """
    model, parallel, batch = recipe.model, recipe.parallel, recipe.batch
    layers = -(-model.num_layers // parallel.pipeline)
    tensor, hidden = parallel.tensor, model.hidden_size
    tokens = model.sequence_length // parallel.context * batch.micro_sequences
    # Residual stream and its norm's output, before attention and again before the MLP; a parallel block has them once.
    shared = (3 if model.block == "parallel" else 5) * hidden // (tensor if parallel.sequence_parallel else 1)
    split = (2 * (model.num_attention_heads + model.query_groups) * model.head_size + 4 * model.ffn_size) // tensor
    micro_batches = batch.global_sequences // (batch.micro_sequences * data)
    in_flight = min(parallel.pipeline, max(1, micro_batches))
    logits = 2 * 4 * tokens * model.padded_vocab_size(vocab_size) // tensor
    kept = layers * in_flight * (hidden if parallel.recompute == "full" else shared + split)
    at_work = shared + split if parallel.recompute == "full" else 0
    return tokens * (kept + at_work) * item_bytes(model) + logits
