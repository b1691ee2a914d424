"""The files of a checkpoint that any layout loads, written in one process from parts of tensors."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from codemix_megatron.checkpoint.torch_dist import ShardWriter
from codemix_megatron.conversion.dimensions import Dimensions
from codemix_megatron.conversion.read_ahead import read_ahead
from codemix_megatron.families.family import Row, StackIndex, indexed_rows
from codemix_megatron.records.checksum import file_sha256

__all__ = ["write_shards"]

LINEARS = ("self_attention.linear_qkv", "self_attention.linear_proj")
OF_MLP = ("linear_fc1", "linear_fc2")
Parts = Callable[[Row, StackIndex], Iterator[tuple[int, torch.Tensor]]]


def write_shards(
    folder: Path,
    rows: tuple[Row, ...],
    dimensions: Dimensions,
    parts: Parts,
    progress: Callable[[str, int, int], None],
    unsharded: bytes | None = None,
) -> dict[str, dict]:
    """Write shards and torch's metadata; return bytes and SHA-256 of each file for the checkpoint's. `unsharded` is the content of common.pt.

    `parts(row, index)` yields (first row, tensor) of one Megatron tensor, or of one layer or expert of it.
    """
    model = dimensions.model
    counts = model.num_layers, model.num_experts or 0
    total = sum(len(row.hugging_face) for row, _ in indexed_rows(rows, *counts))
    with ShardWriter(folder) as writer:
        for done, row, index, first, part in read_ahead(all_parts(rows, counts, parts)):
            offsets = (*index, first, *[0] * (part.dim() - 1))
            shape = (*row.stack(*counts), *dimensions.megatron_shape(row))
            writer.add(row.stacked_names[-1], shape, offsets, part.reshape(*[1] * len(index), *part.shape))
            progress("tensors", done, total)
        for name in extra_states(*counts):
            writer.add_object(name, [None])
        known = writer.finish(unsharded)
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": known.get(path.name) or file_sha256(path)} for path in sorted(folder.iterdir())
    }


def extra_states(num_layers: int, num_experts: int) -> Iterator[str]:
    """Yield the names of Transformer Engine's room for FP8 statistics, which is empty; Megatron asks for it by name."""
    for layer in range(num_layers):
        for linear in (*LINEARS, *([] if num_experts else [f"mlp.{name}" for name in OF_MLP])):
            yield f"decoder.layers.{linear}._extra_state/shard_{layer}_{num_layers}"
        for expert in range(num_experts):
            for name in OF_MLP:
                yield f"decoder.layers.mlp.experts.experts.{name}._extra_state/shard_{layer}.{expert}_{num_layers}.{num_experts}"


def all_parts(rows: tuple[Row, ...], counts: tuple[int, int], parts: Parts) -> Iterator[tuple[int, Row, StackIndex, int, torch.Tensor]]:
    """Yield the parts of all tensors, each with how many of Hugging Face's tensors are done with it, this one included.

    `counts` are the numbers of layers and experts.
    """
    done = 0
    for row, index in indexed_rows(rows, *counts):
        done += len(row.hugging_face)
        for first, part in parts(row, index):
            yield done, row, index, first, part
