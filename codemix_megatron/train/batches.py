"""Global batches for this rank: who reads, who gets them from a neighbour, and reading one step ahead."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state

from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.sequence_reader import SequenceReader
from codemix_megatron.parallel.ranks import Ranks
from codemix_megatron.plan.batches import BatchShape
from codemix_megatron.train.timing import timed

__all__ = ["Batch", "Batches", "data_parallel_slice"]


@dataclass(frozen=True)
class Batch:
    """This rank's share of a global batch.

    `rows` is int64 [own rows, length + 1] on the rank's device, None on pipeline stages that need no tokens; `sources` int64
    [own rows]. A row is a sequence of model.sequence_length, or one of the `parts` it is cut into where a phase has shorter ones.
    """

    rows: torch.Tensor | None
    sources: torch.Tensor
    parts: int = 1


def cut_rows(rows: np.ndarray, parts: int) -> np.ndarray:
    """Cut each of [rows, length + 1] into `parts` that overlap by a token, [rows x parts, length / parts + 1]."""
    length = (rows.shape[1] - 1) // parts
    positions = np.arange(parts)[:, None] * length + np.arange(length + 1)
    return rows[:, positions].reshape(len(rows) * parts, length + 1)


def data_parallel_slice(values, ranks: Ranks):
    """Return the part of a global batch's array that this data-parallel rank trains on."""
    size = len(values) // ranks.data
    begin = parallel_state.get_data_parallel_rank() * size
    return values[begin : begin + size]


class Batches:
    """Reads with the first tensor rank of the stages that need tokens and hands the rows to the other tensor ranks.

    The next step's rows are read on a thread while this step computes (pread releases the interpreter lock). `shape_at` gives the
    shape of the batch that begins at a position.
    """

    def __init__(self, mixture: Mixture, reader: SequenceReader, shape_at: Callable[[int], BatchShape], ranks: Ranks, every_stage: bool):
        self.mixture, self.reader, self.shape_at, self.ranks = mixture, reader, shape_at, ranks
        self.needs_rows = every_stage or ranks.is_first_stage or ranks.is_loss_stage
        self.is_reader = self.needs_rows and parallel_state.get_tensor_model_parallel_rank() == 0
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self.ahead: tuple[int, Future] | None = None

    @timed("data")
    def at(self, first: int) -> Batch:
        """Return the batch that begins at position `first` of the run. Every rank calls this, in the same order."""
        shape, (sources, rows) = self.shape_at(first), self.fetched(first)
        following = first + shape.sequences
        if following < len(self.mixture):
            self.ahead = following, self.thread.submit(self.fetch, following)
        return self.share(rows, sources, shape.parts)

    def share(self, rows: np.ndarray | None, sources: np.ndarray, parts: int = 1) -> Batch:
        """Move rows to the device and to the other tensor ranks. `rows` counts on reading ranks only."""
        device = self.ranks.device
        on_device = torch.from_numpy(sources).to(device)
        if not self.needs_rows:
            return Batch(None, on_device, parts)
        shape = (len(sources), self.reader.sequence_length // parts + 1)
        if self.is_reader:
            assert rows is not None
            ids = torch.from_numpy(rows.astype(np.int64))
            ids = ids.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else ids
        else:
            ids = torch.empty(shape, dtype=torch.int64, device=device)
        if parallel_state.get_tensor_model_parallel_world_size() > 1:
            group = parallel_state.get_tensor_model_parallel_group()
            dist.broadcast(ids, parallel_state.get_tensor_model_parallel_src_rank(), group=group)
        return Batch(ids, on_device, parts)

    def fetched(self, first: int):
        """Return what was read ahead, or read it now."""
        if self.ahead is not None and self.ahead[0] == first:
            return self.ahead[1].result()
        return self.fetch(first)

    def fetch(self, first: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Locate this rank's positions and read them if this rank reads; cut them where the phase has shorter sequences."""
        shape = self.shape_at(first)
        located = self.mixture.locate(data_parallel_slice(np.arange(first, first + shape.sequences), self.ranks))
        rows = self.reader.read(located.source, located.sequence, located.epoch) if self.is_reader else None
        if shape.parts == 1:
            return located.source, rows
        return np.repeat(located.source, shape.parts), None if rows is None else cut_rows(rows, shape.parts)

    def close(self) -> None:
        """End the reading thread."""
        self.thread.shutdown(cancel_futures=True)
