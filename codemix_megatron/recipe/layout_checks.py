"""Faults in how a model and its batches divide over ranks."""

from codemix_megatron.recipe.batch_sizes import batch_size_faults
from codemix_megatron.recipe.positive import not_positive
from codemix_megatron.recipe.schema import Parallel, Recipe

__all__ = ["batch_faults", "fp8_faults", "layout_faults", "ranks_fault", "share_faults"]


def layout_faults(recipe: Recipe) -> list[str]:
    """Check that the model divides over the ranks asked for."""
    model, parallel = recipe.model, recipe.parallel
    names = ["tensor", "pipeline", "virtual_pipeline", "context", "data", "threads_per_rank", "timeout_seconds", "heartbeat_seconds"]
    faults = not_positive(parallel, "parallel", names)
    if faults or model.num_attention_heads < 1:
        return faults
    tensor, stages = parallel.tensor, parallel.pipeline * parallel.virtual_pipeline
    for key, value in {
        "num_attention_heads": model.num_attention_heads,
        "num_query_groups": model.query_groups,
        "ffn_hidden_size": model.ffn_size,
        "vocab_padding_multiple": model.vocab_padding_multiple,
    }.items():
        if value % tensor:
            allowed = [t for t in range(1, value + 1) if value % t == 0][:6]
            faults.append(f"parallel.tensor: {tensor} does not divide model.{key} {value}; {allowed} would")
    if model.num_layers % stages:
        what = "pipeline" if parallel.virtual_pipeline == 1 else "pipeline x virtual_pipeline"
        faults.append(f"parallel.pipeline: {what} = {stages} does not divide model.num_layers {model.num_layers}")
    if parallel.virtual_pipeline > 1 and parallel.pipeline == 1:
        faults.append("parallel.virtual_pipeline: needs pipeline of at least 2")
    if parallel.sequence_parallel and model.sequence_length % tensor:
        faults.append(f"parallel.sequence_parallel: tensor {tensor} does not divide model.sequence_length {model.sequence_length}")
    if parallel.sequence_parallel and tensor == 1:
        faults.append("parallel.sequence_parallel: needs tensor of at least 2")
    if parallel.context > 1:
        faults += context_faults(recipe)
    if parallel.overlap and not parallel.distributed_optimizer:
        faults.append("parallel.overlap: needs distributed_optimizer: true")
    return faults


def context_faults(recipe: Recipe) -> list[str]:
    """Check what context parallel ranks ask for: sequences of two parts for each, an early and a late one, and attention as they exchange it."""
    context, model, faults = recipe.parallel.context, recipe.model, []
    if model.sequence_length % (2 * context):
        faults.append(f"parallel.context: 2 x {context} does not divide model.sequence_length {model.sequence_length}")
    if recipe.sequences.attention_within_documents:
        faults.append("parallel.context: sequences.attention_within_documents is not there with it; set one of them back")
    if model.precision != "bf16":
        faults.append(
            f"parallel.context: needs model.precision bf16, found {model.precision}; Transformer Engine has no kernel for it there"
        )
    if model.sliding_window is not None and model.sliding_window < model.sequence_length:
        faults.append("parallel.context: model.sliding_window is not there with it; set one of them back")
    return faults


def fp8_faults(recipe: Recipe) -> list[str]:
    """Check what FP8 matrix products ask of shapes: widths a multiple of 16 on every rank, tokens one of 8."""
    model, tensor = recipe.model, recipe.parallel.tensor
    if model.fp8 == "off" or tensor < 1:
        return []
    faults = [] if model.precision == "bf16" else [f"model.fp8: {model.fp8} needs model.precision bf16, found {model.precision}"]
    widths = {
        "hidden_size": model.hidden_size,
        "ffn_hidden_size": model.ffn_size,
        "head size x query groups": model.head_size * model.query_groups,
    }
    for name, width in widths.items():
        if width % (16 * tensor):
            faults.append(f"model.fp8: {name} {width} is not a multiple of 16 x parallel.tensor {tensor}")
    tokens = recipe.batch.micro_sequences * model.sequence_length
    if tokens % (8 * tensor * recipe.parallel.context):
        faults.append(
            f"model.fp8: {tokens} tokens of a micro batch are not a multiple of 8 on each of {tensor * recipe.parallel.context} ranks"
        )
    return faults


def batch_faults(recipe: Recipe) -> list[str]:
    """Check that the global batch splits into micro batches on every rank."""
    faults = [*batch_size_faults(recipe.batch.stages), *not_positive(recipe.batch, "batch", ["micro_sequences"])]
    return faults or share_faults(recipe, recipe.parallel.data or 1)


def share_faults(recipe: Recipe, data: int) -> list[str]:
    """Check that each size of the global batch splits into micro batches on each of `data` data-parallel ranks."""
    batch, parallel, faults = recipe.batch, recipe.parallel, []
    for size in batch.sizes:
        if size % (batch.micro_sequences * data):
            faults.append(
                f"batch.global_sequences: {size} is not a multiple of micro_sequences {batch.micro_sequences}"
                f" x data parallel {data} = {batch.micro_sequences * data}"
            )
        micro_batches = size // (batch.micro_sequences * data)
        if parallel.virtual_pipeline > 1 and micro_batches % parallel.pipeline:
            faults.append(
                f"batch.global_sequences: {micro_batches} micro batches are not a multiple of pipeline {parallel.pipeline},"
                " as virtual_pipeline needs"
            )
    return faults


def ranks_fault(parallel: Parallel, num_ranks: int) -> str | None:
    """Say why `num_ranks` do not form the layout, or return None when they do."""
    model_ranks, what = parallel.model_ranks, f"tensor {parallel.tensor} x pipeline {parallel.pipeline}"
    what += f" x context {parallel.context}" if parallel.context > 1 else ""
    if parallel.data is not None and num_ranks != model_ranks * parallel.data:
        wanted = model_ranks * parallel.data
        return (
            f"{num_ranks} ranks asked for, the recipe spreads the model over {wanted} ({what} x data {parallel.data});"
            f" use {wanted} ranks or change parallel.data"
        )
    if num_ranks % model_ranks:
        return f"{num_ranks} ranks do not divide into copies of {model_ranks} ({what}); use a multiple of {model_ranks}"
    return None
