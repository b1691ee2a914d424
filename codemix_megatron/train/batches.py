"""Global batches for this rank: who reads, who gets them from a neighbour, and reading one step ahead."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state

from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.sequence_reader import SequenceReader
from codemix_megatron.parallel.ranks import Ranks
from codemix_megatron.train.timing import timed

__all__ = ["Batch", "Batches", "data_parallel_slice"]


@dataclass(frozen=True)
class Batch:
    """This rank's share of a global batch.

    `rows` is int64 [own sequences, sequence_length + 1] on the rank's device, None on pipeline stages that
    need no tokens; `sources` int64 [own sequences].
    """

    rows: torch.Tensor | None
    sources: torch.Tensor


def data_parallel_slice(values, ranks: Ranks):
    """Return the part of a global batch's array that this data-parallel rank trains on."""
    size = len(values) // ranks.data
    begin = parallel_state.get_data_parallel_rank() * size
    return values[begin : begin + size]


class Batches:
    """Reads with the first tensor rank of the stages that need tokens and hands the rows to the other tensor ranks.

    The next step's rows are read on a thread while this step computes (pread releases the interpreter lock).
    """

    def __init__(self, mixture: Mixture, reader: SequenceReader, global_sequences: int, ranks: Ranks, every_stage: bool):
        self.mixture, self.reader, self.global_sequences, self.ranks = mixture, reader, global_sequences, ranks
        self.needs_rows = every_stage or ranks.is_first_stage or ranks.is_loss_stage
        self.is_reader = self.needs_rows and parallel_state.get_tensor_model_parallel_rank() == 0
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self.ahead: tuple[int, Future] | None = None

    @timed("data")
    def at(self, first: int) -> Batch:
        """Return the batch that begins at position `first` of the run. Every rank calls this, in the same order."""
        sources, rows = self.fetched(first)
        following = first + self.global_sequences
        if following < len(self.mixture):
            self.ahead = following, self.thread.submit(self.fetch, following)
        return self.share(rows, sources)

    def share(self, rows: np.ndarray | None, sources: np.ndarray) -> Batch:
        """Move rows to the device and to the other tensor ranks. `rows` counts on reading ranks only."""
        device = self.ranks.device
        on_device = torch.from_numpy(sources).to(device)
        if not self.needs_rows:
            return Batch(None, on_device)
        shape = (len(sources), self.reader.sequence_length + 1)
        if self.is_reader:
            assert rows is not None
            ids = torch.from_numpy(rows.astype(np.int64))
            ids = ids.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else ids
        else:
            ids = torch.empty(shape, dtype=torch.int64, device=device)
        if parallel_state.get_tensor_model_parallel_world_size() > 1:
            group = parallel_state.get_tensor_model_parallel_group()
            dist.broadcast(ids, parallel_state.get_tensor_model_parallel_src_rank(), group=group)
        return Batch(ids, on_device)

    def fetched(self, first: int):
        """Return what was read ahead, or read it now."""
        if self.ahead is not None and self.ahead[0] == first:
            return self.ahead[1].result()
        return self.fetch(first)

    def fetch(self, first: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Locate this rank's positions and read them if this rank reads."""
        located = self.mixture.locate(data_parallel_slice(np.arange(first, first + self.global_sequences), self.ranks))
        return located.source, self.reader.read(located.source, located.sequence, located.epoch) if self.is_reader else None

    def close(self) -> None:
        """End the reading thread."""
        self.thread.shutdown(cancel_futures=True)
