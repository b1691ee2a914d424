"""One size on one device: seconds of a step, what follows from them, and memory against the plan."""

import importlib.util
import os
import statistics
import time
from dataclasses import dataclass

from child import ENGINE, SIMULATED

__all__ = ["Case", "layers_here", "measure"]

COUNTING = "6 per matrix entry, output layer included, and causal attention once; recomputation not counted"
VOCABULARY, LENGTH, WARM_UP, STEPS = 256_000, 8192, 3, 6  # the sizes have their names with this table
TOY = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "ffn_hidden_size": 128}  # in the place of a size, simulated


@dataclass(frozen=True)
class Case:
    """A size of the paper at a micro batch; a step is two micro batches."""

    size: str
    micro: int


def layers_here() -> str:
    """Return Transformer Engine where it is, else torch."""
    is_there = os.environ.get("TE_SOURCE") if SIMULATED else importlib.util.find_spec(ENGINE[0])
    return "transformer-engine" if is_there else "torch"


def recipe_for(case: Case):
    """Return the recipe of a case, and its vocabulary."""
    from many_layouts import recipe_of

    from codemix_megatron.recipe.shapes import SHAPES

    length, vocabulary = (64, 512) if SIMULATED else (LENGTH, VOCABULARY)
    shape = {**(TOY if SIMULATED else SHAPES[case.size]), "num_query_groups": None, "sequence_length": length, "precision": "bf16"}
    recipe = recipe_of(shape, {"device": "cuda"}, {"global_sequences": 2 * case.micro, "micro_sequences": case.micro})
    return recipe, vocabulary


def measure(case: Case) -> dict:
    """Train some steps; return medians, or that the device's memory was too small."""
    import torch

    try:
        torch.cuda.empty_cache()
        if not SIMULATED:
            torch.cuda.reset_peak_memory_stats()
        return {"micro": case.micro, **steps_of(case)}
    except torch.OutOfMemoryError as fault:
        return {"micro": case.micro, "out_of_memory": str(fault).splitlines()[0]}


def steps_of(case: Case) -> dict:
    """Train some steps and return the figures."""
    import torch
    from carried import tokenizer_metadata

    from codemix_megatron.parallel.ranks import one_rank
    from codemix_megatron.train.batches import Batch
    from codemix_megatron.train.engine import Engine

    recipe, vocabulary = recipe_for(case)
    with one_rank(device="cuda") as ranks:
        engine = Engine(recipe, tokenizer_metadata(vocabulary), 1, ranks)
        draw = torch.Generator().manual_seed(0)
        rows = torch.randint(0, vocabulary, (2 * case.micro, recipe.model.sequence_length + 1), generator=draw).to(ranks.device)
        batch, seconds, losses = Batch(rows, torch.zeros(len(rows), dtype=torch.int64, device=ranks.device)), [], []
        for _ in range(2 if SIMULATED else WARM_UP + STEPS):
            began = time.perf_counter()
            losses.append(engine.train_step(batch, 3e-4).losses.mean)
            seconds.append(time.perf_counter() - began)
        peak = torch.cuda.max_memory_allocated()
    return figures(recipe, vocabulary, statistics.median(seconds[-STEPS:]), peak) | {"losses_first_and_last": [losses[0], losses[-1]]}


def figures(recipe, vocabulary: int, seconds: float, peak: int) -> dict:
    """Return what follows from a step's seconds and the memory at its peak."""
    import torch

    from codemix_megatron.plan.cost import training_flops_per_token
    from codemix_megatron.plan.devices import DEVICES, device_called
    from codemix_megatron.plan.memory import memory_by_stage

    tokens = recipe.batch.global_sequences * recipe.model.sequence_length
    flops = training_flops_per_token(recipe.model, vocabulary) * tokens / seconds
    (plan,) = memory_by_stage(recipe, vocabulary, 1, "transformer_engine" if layers_here() != "torch" else "local")
    properties = torch.cuda.get_device_properties(0)
    key = device_called(properties.name, properties.total_memory)
    return {
        "seconds_per_step": round(seconds, 4),
        "tokens_per_second": round(tokens / seconds),
        "mfu": round(flops / (DEVICES[key].teraflops * 1e12), 3) if key else None,
        "peak_teraflops": DEVICES[key].teraflops if key else None,
        "counting": COUNTING,
        "peak_gib": round(peak / 2**30, 2),
        "planned_gib": round(plan.total / 2**30, 2),
        "memory_over_plan": round(peak / plan.total, 3) if peak else None,
    }
