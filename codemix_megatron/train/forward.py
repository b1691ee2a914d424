"""One micro batch: what the model is given, and what is made of its losses."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from megatron.core import parallel_state
from megatron.core.packed_seq_params import PackedSeqParams

from codemix_megatron.mixture.loss_masks import revealed
from codemix_megatron.model.context_parallel import context_parallel_slice
from codemix_megatron.model.document_attention import document_borders
from codemix_megatron.train.batches import Batch

__all__ = ["Documents", "MicroBatch", "forward_step", "mean_loss", "micro_batches", "within_documents"]


@dataclass(frozen=True)
class Documents:
    """How tokens are kept to their own document: by borders that kernels know, or by a mask of every token against every other."""

    end: int  # the token that ends one
    has_borders: bool  # 16 bits on CUDA


@dataclass(frozen=True)
class MicroBatch:
    """Part of a batch that goes through the model at once; `borders` of its documents where there are any."""

    rows: torch.Tensor | None
    sources: torch.Tensor
    borders: PackedSeqParams | None = None


def micro_batches(batch: Batch, size: int, documents: Documents | None) -> list[MicroBatch]:
    """Cut a batch into parts of `size` rows."""
    parts = range(0, len(batch.sources), size)
    if batch.rows is None:
        return [MicroBatch(None, batch.sources[i : i + size]) for i in parts]
    borders: list = [None] * len(parts)
    if documents is not None and documents.has_borders:
        borders = document_borders(revealed(batch.rows[:, :-1]), documents.end, size)
    return [MicroBatch(batch.rows[i : i + size], batch.sources[i : i + size], of) for i, of in zip(parts, borders, strict=True)]


def forward_step(
    iterator: Iterator[MicroBatch], model: torch.nn.Module, num_sources: int, documents: Documents | None, weight: torch.Tensor | None
):
    """Run one micro batch; returns the per-token losses [sequences, length] and what to make of them.

    `weight` is what the mean over all positions has to be multiplied by; None where nothing is trained.
    """
    batch = next(iterator)
    if batch.rows is None:
        output = model(None, None, None)
        return output, None
    inputs, labels = revealed(batch.rows[:, :-1]), batch.rows[:, 1:]
    positions = torch.arange(inputs.size(1), device=inputs.device).expand_as(inputs)
    inputs, labels, positions = (context_parallel_slice(values) for values in (inputs, labels, positions))
    mask = None if documents is None or documents.has_borders else within_documents(inputs, documents.end)
    # Rows that are not full end in -1, and what is not learned is below: there is nothing to predict there.
    output = model(inputs.clamp(min=0), positions, mask, labels=labels.clamp(min=0), packed_seq_params=batch.borders)
    return output, partial(mean_loss, counted=labels >= 0, sources=batch.sources, num_sources=num_sources, weight=weight)


def within_documents(inputs: torch.Tensor, document_end: int) -> torch.Tensor:
    """Return which tokens may see which, bool [sequences, 1, length, length]: the earlier ones of their own document."""
    ends = (inputs == document_end).int()
    document = ends.cumsum(dim=1) - ends  # a document's end token is still its own
    same = document[:, :, None] == document[:, None, :]
    return same.tril()[:, None]


def mean_loss(output: torch.Tensor, counted: torch.Tensor, sources: torch.Tensor, num_sources: int, weight: torch.Tensor | None):
    """Return the loss to train on, and loss sums and token counts per source, float64 [2, sources + 1].

    The mean of all positions of the micro batch, those that do not count as 0, is what Megatron averages over micro batches and ranks;
    `weight`, all positions of the global batch over those that count, makes a mean over counted tokens of it. It is 1 where all count.
    Context parallel ranks give their part of that mean; Megatron multiplies it by their number before it averages gradients over them.
    """
    if output.dim() == 3:  # z-loss beside the loss: trained on and not told
        both = output.float() * counted[..., None]
        per_token, trained_on = both[..., 0], both.sum(dim=-1)
    else:
        per_token = trained_on = output.float() * counted
    losses = torch.zeros(2, num_sources + 1, dtype=torch.float64, device=output.device)
    losses[0].index_add_(0, sources, per_token.detach().double().sum(dim=1))
    losses[1].index_add_(0, sources, counted.double().sum(dim=1))
    mean = trained_on.mean() / parallel_state.get_context_parallel_world_size()
    return mean if weight is None else mean * weight, {"losses": losses}
