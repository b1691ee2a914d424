"""Device memory of each pipeline stage, part by part. Plain arithmetic, no torch.

What a layer keeps for backward was read off whole steps on simulated CUDA, at two depths and with each dimension of the model changed by itself
(`make check-cuda` holds the sums to within 5 % of its peaks). Row sums of attention and of norms, under half a percent, are left out.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args, get_type_hints

from codemix_megatron.plan.cost import layer_matrices
from codemix_megatron.recipe.schema import Model, Parallel, Recipe

__all__ = ["Layers", "StageMemory", "fullest_stage", "layers_of", "memory_by_recompute", "memory_by_stage"]

Layers = Literal["transformer_engine", "local"]  # whose layers the model is built from

GRADIENT_BYTES = 4  # fp32, whatever the weights are
MOMENT_BYTES = 8  # two moments in fp32
LOGIT_BYTES = {
    "bf16": 6,
    "fp32": 4,
}  # logits, softmax and gradients, as far as they live at once; in fp32 they take the same memory in turn


@dataclass(frozen=True)
class StageMemory:
    """Bytes on one rank of a pipeline stage."""

    stage: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All parts."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def parts(self) -> dict[str, int]:
        """Return part -> bytes."""
        return {name: getattr(self, name) for name in ("weights", "gradients", "optimizer", "activations")}


def layers_of(recipe: Recipe) -> Layers:
    """Return whose layers a run is planned with: Transformer Engine's wherever there may be a GPU."""
    return "local" if recipe.parallel.device == "cpu" else "transformer_engine"


def fullest_stage(recipe: Recipe, vocab_size: int, data: int, layers: Layers | None = None) -> StageMemory:
    """Return the stage that needs most."""
    return max(memory_by_stage(recipe, vocab_size, data, layers), key=lambda stage: stage.total)


def memory_by_recompute(recipe: Recipe, vocab_size: int, data: int, layers: Layers | None = None) -> dict[str, int]:
    """Return recompute choice -> bytes on the fullest rank.

    `selective` computes attention's scores again; no layer of this package keeps them, so it is like `none`.
    """
    choices = get_args(get_type_hints(Parallel)["recompute"])
    recipes = {choice: replace(recipe, parallel=replace(recipe.parallel, recompute=choice)) for choice in choices}
    return {choice: fullest_stage(changed, vocab_size, data, layers).total for choice, changed in recipes.items()}


def memory_by_stage(recipe: Recipe, vocab_size: int, data: int, layers: Layers | None = None) -> list[StageMemory]:
    """Return the memory of each pipeline stage with a tokenizer of `vocab_size` ids and `data` copies of the model."""
    of = StageArithmetic(recipe, vocab_size, data, layers or layers_of(recipe))
    return [of.stage(number) for number in range(recipe.parallel.pipeline)]


class StageArithmetic:
    """The sums of one layout; numbers of a layer are elements per token unless they are called bytes."""

    def __init__(self, recipe: Recipe, vocab_size: int, data: int, layers: Layers):
        self.model, self.parallel, self.layers = recipe.model, recipe.parallel, layers
        self.item = item_bytes(recipe.model)
        self.average_bytes = 4 if recipe.optimizer.average_decay is not None else 0  # of weights over steps, in fp32
        # megatron-core spreads the optimizer over the ranks that hold the same weights: copies of the model, and the parts of its sequences.
        self.sharing = data * recipe.parallel.context if recipe.parallel.distributed_optimizer else 1
        self.tokens = recipe.model.sequence_length // recipe.parallel.context * recipe.batch.micro_sequences
        self.micro_batches = max(1, max(recipe.batch.sizes) // (recipe.batch.micro_sequences * data))
        self.rows = recipe.model.padded_vocab_size(vocab_size) / recipe.parallel.tensor
        self.residual = recipe.model.hidden_size / (recipe.parallel.tensor if recipe.parallel.sequence_parallel else 1)

    def stage(self, number: int) -> StageMemory:
        """Return one stage's memory."""
        weights = self.stage_weights(number)
        moments = MOMENT_BYTES + (4 if self.model.precision == "bf16" else 0) + self.average_bytes  # the fp32 copy beside bf16
        return StageMemory(
            stage=number,
            weights=round(weights * self.item),
            gradients=round(weights * GRADIENT_BYTES),
            optimizer=round(weights * moments / self.sharing),
            activations=round(self.kept_bytes(number) + max(self.backward_bytes(), self.head_bytes(number))),
        )

    def stage_weights(self, number: int) -> float:
        """Return the weights of one rank: its layers, and a table on the first and the last stage (one, or two where there is one stage)."""
        layers = -(-self.model.num_layers // self.parallel.pipeline)
        tables = (number == 0) + (number == self.parallel.pipeline - 1)
        if self.model.tie_embeddings and self.parallel.pipeline == 1:
            tables = 1
        return layers * layer_matrices(self.model) / self.parallel.tensor + tables * self.rows * self.model.hidden_size

    def kept_per_layer(self) -> float:
        """Return what a layer keeps: inputs of its products and norms, and what its activation and rotary positions need.

        Local layers keep query, key, value and the activation's input once more.
        """
        model, more = self.model, 1 if self.layers == "local" else 0
        query, key_value = model.num_attention_heads * model.head_size, model.query_groups * model.head_size
        inner = model.mlps_per_token * (model.first_matrices + 1 + more) * model.ffn_size
        split = (2 + more) * (query + key_value) + inner + (query + key_value if model.qk_norm else 0)
        if model.num_experts:  # each token's copies for its experts, and what they give; probabilities and choice of all experts
            split += 2 * model.mlps_per_token * model.hidden_size + 4 * model.num_experts
        if model.block == "sequential":
            return (6 if model.norm_position == "both" else 4) * self.residual + split / self.parallel.tensor
        # The parallel block gathers its one norm's output once for all products.
        return self.residual + model.hidden_size + split / self.parallel.tensor

    def kept_bytes(self, number: int) -> float:
        """Return what waits for its backward: chunks in flight at the height of the schedule, and each one's output to the next stage."""
        pipeline, virtual = self.parallel.pipeline, self.parallel.virtual_pipeline
        if virtual > 1:
            chunks = 2 * (pipeline - number - 1) + (virtual - 1) * pipeline + 1
        else:
            chunks = min(pipeline - number, self.micro_batches)
        layers = self.model.num_layers / pipeline / virtual
        per_layer = self.residual if self.parallel.recompute == "full" else self.kept_per_layer()
        return chunks * (layers * per_layer + (self.residual if pipeline > 1 else 0)) * self.tokens * self.item

    def backward_bytes(self) -> float:
        """Return what backward through one layer needs beside what is kept; with full recomputation all that the layer would keep."""
        model, tensor = self.model, self.parallel.tensor
        gradients = model.mlps_per_token * (model.first_matrices + 1) * model.ffn_size / tensor * self.tokens * self.item
        if self.layers == "transformer_engine":  # and the gradient of its largest matrix in fp32, before it is added
            gradients += (
                3 * model.hidden_size * self.tokens * self.item + 4 * model.first_matrices * model.ffn_size * model.hidden_size / tensor
            )
        return gradients + (self.kept_per_layer() * self.tokens * self.item if self.parallel.recompute == "full" else 0)

    def head_bytes(self, number: int) -> float:
        """Return what the loss needs on the last stage: logits and their gradients, the final norm."""
        if number != self.parallel.pipeline - 1:
            return 0
        around = 5 if self.layers == "transformer_engine" else 2
        has_table_gradient = self.layers == "transformer_engine" or self.model.precision == "fp32"
        table = 4 * self.rows * self.model.hidden_size if has_table_gradient else 0  # in fp32, before it is added
        logits = LOGIT_BYTES[self.model.precision] * self.tokens * self.rows
        return logits + table + around * self.model.hidden_size * self.tokens * self.item


def item_bytes(model: Model) -> int:
    """Return the bytes of one weight or activation."""
    return 2 if model.precision == "bf16" else 4
