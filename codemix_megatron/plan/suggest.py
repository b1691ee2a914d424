"""Layouts that fit a device, fastest first: a search over tensor, pipeline, micro batch and recomputation with time and memory estimated.

Times are for ranking, not for promises: FLOPs at a share of the device's peak, the pipeline's bubble, collectives over published bandwidths.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.cost import count_parameters, layer_matrices, training_flops_per_token
from codemix_megatron.plan.devices import DEVICES, ROOM_TO_SPARE, check_device
from codemix_megatron.plan.memory import StageMemory, fullest_stage, item_bytes
from codemix_megatron.recipe.layout_checks import layout_faults, share_faults
from codemix_megatron.recipe.schema import Parallel, Recipe

__all__ = ["Suggestion", "suggest_layouts"]

DEVICES_PER_NODE = 8
# Bytes per second one device sends to the others of its node (NVLink, data sheets, one direction), else PCIe 4.0 x16; and to other nodes, 400 Gbit/s.
WITHIN_NODE = {"a100": 300e9, "a100-40": 300e9, "h100": 450e9, "h200": 450e9, "b200": 900e9, "mi300x": 448e9}
PCIE, BETWEEN_NODES = 32e9, 50e9
BACKWARD_SHARE = 2 / 3  # of a step's computing, behind which gradients are reduced
RECOMPUTE: tuple[Literal["none", "full"], ...] = ("none", "full")
TENSOR_RANKS, MICRO_BATCHES = (1, 2, 4, 8), (1, 2, 4, 8, 16)
ALIKE = 1.02  # times within this are the same, and fewer model ranks, then larger micro batches, come first


@dataclass(frozen=True)
class Suggestion:
    """A layout that fits: keys of the recipe, the fullest stage's memory, and what a step is estimated to take."""

    parallel: Parallel
    micro_sequences: int
    memory: StageMemory
    seconds_per_step: float
    exposed_share: float  # of the step, in which a device waits for others

    def overrides(self) -> list[str]:
        """Return the layout as `a.b=c`, ready for a command line."""
        p = self.parallel
        keys = {"tensor": p.tensor, "sequence_parallel": str(p.sequence_parallel).lower(), "pipeline": p.pipeline, "recompute": p.recompute}
        return [*(f"parallel.{key}={value}" for key, value in keys.items()), f"batch.micro_sequences={self.micro_sequences}"]


def suggest_layouts(recipe: Recipe, vocab_size: int, ranks: int, device: str, mfu: float) -> list[Suggestion]:
    """Return the layouts on `ranks` devices that fit, fastest first; raises RecipeError when none does, with the one that comes closest."""
    check_device(device, mfu)
    allowed = ROOM_TO_SPARE * DEVICES[device].memory_gigabytes * 1e9
    found = [suggestion(changed, vocab_size, ranks, device, mfu) for changed in candidates(recipe, ranks)]
    if not found:
        raise RecipeError(f"no layout of {ranks} ranks divides the model and {recipe.batch.sizes} sequences a batch", where="--suggest")
    fitting = [one for one in found if one.memory.total <= allowed]
    if not fitting:
        least = min(found, key=lambda one: one.memory.total)
        raise RecipeError(
            f"no layout fits: the smallest needs {least.memory.total / 2**30:.1f} GiB of {allowed / 2**30:.1f} on {device}"
            f" ({' '.join(least.overrides())}); take more ranks, a smaller model, or shorter sequences",
            where="--suggest",
        )
    fastest = min(one.seconds_per_step for one in fitting)
    return sorted(fitting, key=lambda one: order(one, fastest))


def order(one: Suggestion, fastest: float) -> tuple:
    """Return the key by which suggestions are sorted."""
    steps = 0.0 if one.seconds_per_step <= ALIKE * fastest else one.seconds_per_step
    return steps, one.parallel.model_ranks, one.parallel.recompute != "none", -one.micro_sequences, one.seconds_per_step


def candidates(recipe: Recipe, ranks: int) -> Iterator[Recipe]:
    """Yield the recipe at every layout its model and batch divide into; context and virtual stages stay as the recipe has them."""
    for layout, micro in product(layouts(recipe, ranks), MICRO_BATCHES):
        changed = replace(recipe, parallel=layout, batch=replace(recipe.batch, micro_sequences=micro))
        if not layout_faults(changed) and not share_faults(changed, ranks // layout.model_ranks):
            yield changed


def layouts(recipe: Recipe, ranks: int) -> Iterator[Parallel]:
    """Yield the ways to spread copies of the model over `ranks`."""
    for tensor, pipeline, recompute in product(TENSOR_RANKS, divisors(recipe.model.num_layers), RECOMPUTE):
        layout = replace(
            recipe.parallel,
            tensor=tensor,
            pipeline=pipeline,
            recompute=recompute,
            data=None,
            sequence_parallel=tensor > 1,
            virtual_pipeline=recipe.parallel.virtual_pipeline if pipeline > 1 else 1,
        )
        if ranks % layout.model_ranks == 0:
            yield layout


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, small ones first."""
    return [n for n in range(1, number + 1) if number % n == 0]


def suggestion(recipe: Recipe, vocab_size: int, ranks: int, device: str, mfu: float) -> Suggestion:
    """Estimate one layout."""
    model, parallel, batch = recipe.model, recipe.parallel, recipe.batch
    data = ranks // parallel.model_ranks
    sequences = batch.sizes[-1]  # of a schedule the one that holds longest
    micro_batches = sequences // (batch.micro_sequences * data)
    tokens = sequences * model.sequence_length
    computing = training_flops_per_token(model, vocab_size) * tokens / ranks / (DEVICES[device].teraflops * 1e12 * mfu)
    if parallel.recompute == "full":  # the layers' forward once more
        forward = 2 * model.num_layers * layer_matrices(model) * tokens / ranks
        computing += forward / (DEVICES[device].teraflops * 1e12 * mfu)
    bubble = computing * (parallel.pipeline - 1) / (parallel.virtual_pipeline * micro_batches)
    waiting = bubble + tensor_seconds(recipe, tokens / data, device) + data_seconds(recipe, vocab_size, data, device, computing)
    memory = fullest_stage(recipe, vocab_size, data, "transformer_engine")
    return Suggestion(parallel, batch.micro_sequences, memory, computing + waiting, waiting / (computing + waiting))


def tensor_seconds(recipe: Recipe, tokens: float, device: str) -> float:
    """Return the seconds that one copy's all-reduces take: two a layer forward and two backward, half as many in the parallel block."""
    model, tensor = recipe.model, recipe.parallel.tensor
    if tensor == 1:
        return 0
    times = 2 if model.block == "parallel" else 4
    layers = model.num_layers / recipe.parallel.pipeline
    sent = times * layers * tokens * model.hidden_size * item_bytes(model) * 2 * (tensor - 1) / tensor
    return sent / WITHIN_NODE.get(device, PCIE)


def data_seconds(recipe: Recipe, vocab_size: int, data: int, device: str, computing: float) -> float:
    """Return the seconds of reducing gradients and gathering weights that computing does not hide."""
    if data == 1:
        return 0
    own = count_parameters(recipe.model, vocab_size).total / recipe.parallel.tensor / recipe.parallel.pipeline
    sent = own * (4 + item_bytes(recipe.model)) * (data - 1) / data
    is_one_node = data * recipe.parallel.model_ranks <= DEVICES_PER_NODE
    seconds = sent / (WITHIN_NODE.get(device, PCIE) if is_one_node else BETWEEN_NODES)
    return max(0.0, seconds - BACKWARD_SHARE * computing)
