"""Logits of a model spread over ranks, at the positions somebody asks for, without training anything."""

from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region

from codemix_megatron.model.context_parallel import context_parallel_slice, of_all_parts, own_positions

__all__ = ["SpreadLogits", "length_multiple"]

CUDA_LENGTHS = 64


class SpreadLogits:
    """Forward passes through the chunks of all ranks. Every rank of a copy of the model calls every method, alike."""

    def __init__(self, chunks: list[torch.nn.Module], vocab_size: int, device: torch.device):
        self.chunks, self.vocab_size, self.device = chunks, vocab_size, device
        self.schedule = get_forward_backward_func()
        # The interleaved schedule wants as many micro batches as stages, or a multiple.
        self.parts = parallel_state.get_pipeline_model_parallel_world_size() if len(chunks) > 1 else 1
        self.share, self.shares = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        for chunk in chunks:
            chunk.eval()

    @torch.no_grad()  # not inference_mode: what megatron-core keeps of a pass, rotary angles, is used by training after it
    def at(self, rows: np.ndarray, wanted: list[list[int]]) -> torch.Tensor | None:
        """Return float32 logits [positions, vocabulary] on the last pipeline stage, None on others.

        `rows` is int64 [rows, length], padded at the right, where causal attention cannot see; `wanted` has the positions of
        each row whose next token is asked for, and the logits come in that order. The padding of the vocabulary is cut off.
        """
        size = -(-len(rows) // self.parts)
        sharing = parallel_state.get_tensor_model_parallel_world_size() * parallel_state.get_context_parallel_world_size()
        multiple = length_multiple(self.device, sharing)
        blank = np.zeros((size * self.parts, -(-rows.shape[1] // multiple) * multiple), dtype=np.int64)
        blank[: len(rows), : rows.shape[1]] = rows
        wanted = [*wanted, *[[]] * (len(blank) - len(rows))]
        parts = [(blank[i : i + size], wanted[i : i + size]) for i in range(0, len(blank), size)]
        found = self.schedule(
            forward_step_func=partial(ask, device=self.device),
            data_iterator=[iter(parts) for _ in self.chunks] if len(self.chunks) > 1 else iter(parts),
            model=self.chunks if len(self.chunks) > 1 else self.chunks[0],
            num_microbatches=len(parts),
            seq_length=blank.shape[1],
            micro_batch_size=size,
            decoder_seq_length=blank.shape[1],
            forward_only=True,
            collect_non_loss_data=True,
        )
        return torch.cat(found)[:, : self.vocab_size] if found else None

    def to_all_stages(self, values: torch.Tensor | None, shape: tuple, dtype: torch.dtype) -> torch.Tensor:
        """Return on every stage what the last one holds."""
        if parallel_state.get_pipeline_model_parallel_world_size() == 1:
            assert values is not None
            return values
        values = torch.empty(shape, dtype=dtype, device=self.device) if values is None else values.contiguous()
        source = parallel_state.get_pipeline_model_parallel_last_rank()
        dist.broadcast(values, source, group=parallel_state.get_pipeline_model_parallel_group())
        return values

    def gather(self, values) -> list:
        """Return what each copy of the model holds, on every rank."""
        every = [None] * self.shares
        dist.all_gather_object(every, values, group=parallel_state.get_data_parallel_group())
        return every


def length_multiple(device: torch.device, sharing: int) -> int:
    """Return what the length of rows has to be a multiple of: of the tensor x context ranks among which it is split, two parts for each of these.

    On CUDA few lengths are to come up, for each new one is planned again (cuDNN's attention, the allocator), and FP8 products want
    multiples of 16 on every rank.
    """
    return sharing * (CUDA_LENGTHS if device.type == "cuda" else 1)


def ask(iterator, model, device: torch.device):
    """Run one micro batch; the last stage keeps the logits of the positions asked for."""
    rows, wanted = next(iterator)
    inputs = torch.from_numpy(rows).to(device)
    length = inputs.shape[1]
    positions = torch.arange(length, device=device).expand_as(inputs)
    output = model(context_parallel_slice(inputs), context_parallel_slice(positions), None)
    asked = torch.tensor([row * length + position for row, of in enumerate(wanted) for position in of], dtype=torch.long, device=device)
    is_own, own = own_positions(asked, length)

    def keep(logits, non_loss_data=True):
        return of_all_parts(gather_from_tensor_model_parallel_region(logits.flatten(0, 1)[own].float()), is_own)

    return output, keep
