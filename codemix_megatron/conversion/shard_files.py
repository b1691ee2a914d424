"""The files of a checkpoint that any layout loads, written in one process from parts of tensors."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from codemix_megatron.checkpoint.torch_dist import ShardWriter
from codemix_megatron.conversion.checkpoint_source import places
from codemix_megatron.conversion.dimensions import Dimensions
from codemix_megatron.conversion.read_ahead import read_ahead
from codemix_megatron.families.family import Row
from codemix_megatron.records.checksum import file_sha256

__all__ = ["write_shards"]

LINEARS = ("self_attention.linear_qkv", "self_attention.linear_proj", "mlp.linear_fc1", "mlp.linear_fc2")
Parts = Callable[[Row, int | None], Iterator[tuple[int, torch.Tensor]]]


def write_shards(
    folder: Path,
    rows: tuple[Row, ...],
    dimensions: Dimensions,
    parts: Parts,
    progress: Callable[[str, int, int], None],
    unsharded: bytes | None = None,
) -> dict[str, dict]:
    """Write shards and metadata; return the card's bytes and SHA-256 of each file. `unsharded` is the content of common.pt.

    `parts(row, layer)` yields (first row, tensor) of one Megatron tensor, or of one layer of it.
    """
    num_layers = dimensions.model.num_layers
    total = sum(len(row.hugging_face) for row, _ in places(rows, num_layers))
    with ShardWriter(folder) as writer:
        for done, row, layer, first, part in read_ahead(all_parts(rows, num_layers, parts)):
            stack, at = ((), ()) if layer is None else ((num_layers,), (layer,))
            offsets = (*at, first, *[0] * (part.dim() - 1))
            shape = (*stack, *dimensions.megatron_shape(row))
            writer.add(row.stacked_names[-1], shape, offsets, part if layer is None else part[None])
            progress("tensors", done, total)
        for layer in range(num_layers):
            for linear in LINEARS:  # Transformer Engine's room for FP8 statistics, empty; Megatron asks for it by name
                writer.add_object(f"decoder.layers.{linear}._extra_state/shard_{layer}_{num_layers}", [None])
        known = writer.finish(unsharded)
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": known.get(path.name) or file_sha256(path)} for path in sorted(folder.iterdir())
    }


def all_parts(rows: tuple[Row, ...], num_layers: int, parts: Parts) -> Iterator[tuple[int, Row, int | None, int, torch.Tensor]]:
    """Yield the parts of all tensors, each with how many of Hugging Face's tensors are done with it, this one included."""
    done = 0
    for row, layer in places(rows, num_layers):
        done += len(row.hugging_face)
        for first, part in parts(row, layer):
            yield done, row, layer, first, part
