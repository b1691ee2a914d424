"""A run's data order as a torch dataset, for other training loops: the sequences `codemix train` reads, in its order.

Its state is one integer, the position of the next sequence. Nothing of Megatron is needed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from codemix_megatron.errors import CodemixError
from codemix_megatron.mixture.loss_masks import revealed
from codemix_megatron.mixture.recipe_reader import recipe_reader
from codemix_megatron.mixture.sequence_reader import SequenceReader
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.reading import read_recipe

__all__ = ["Form", "RunDataset", "RunStream", "megatron_provider"]

Form = Literal["rows", "hugging_face", "megatron"]
IGNORED = -100  # torch's cross entropy passes over such labels


class RunDataset(Dataset):
    """All sequences of a run by position; the item after a stop is that at the number of sequences seen.

    Items are dicts of int64 tensors, as `form` says: `rows` {"row": [length + 1]}, with -1 in padding positions and -2 - id for
    a token that is not learned; `hugging_face` {"input_ids", "labels"}, both the row, since models there shift labels themselves;
    `megatron` {"tokens", "labels", "loss_mask", "position_ids"} as of megatron-core's GPTDataset.
    """

    def __init__(self, recipe, overrides=(), *, form: Form = "rows"):
        """Take a recipe's path; its corpora must be prepared. Raises CodemixError as `codemix plan` does."""
        if form not in get_args(Form):
            raise CodemixError(f"form: found {form!r}, allowed are {', '.join(get_args(Form))}")
        read = read_recipe(Path(recipe), overrides)
        manifests = read_manifests(read)
        self.plan, self.form = make_plan(read, manifests), form
        if any(phase.sequence_length != self.plan.sequence_length for phase in self.plan.phases):
            lengths = ", ".join(f"{phase.name} {phase.sequence_length}" for phase in self.plan.phases)
            raise CodemixError(
                f"{recipe}: phases have sequences of other lengths ({lengths}); a dataset has one, so leave sequence_length out of phases"
            )
        self.mixture = self.plan.mixture()
        self.sources = self.mixture.sources
        self.new_reader = ReaderOf(read, {name: manifests[name] for name in self.sources})
        self.reader: SequenceReader | None = None

    def __len__(self) -> int:
        return len(self.mixture) - self.mixture.first

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        """Return the sequence at a position, counted from the run's first."""
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: list[int]) -> list[dict[str, torch.Tensor]]:
        """Return several sequences; torch's loader asks for a batch at once, which is read together."""
        last = len(self)
        for position in positions:
            if not -last <= position < last:
                raise IndexError(f"position {position} is outside the run's {last} sequences")
        located = self.mixture.locate(self.mixture.first + np.asarray(positions, dtype=np.int64) % last)
        if self.reader is None:  # files are opened by the process that reads
            self.reader = self.new_reader()
        rows = self.reader.read(located.source, located.sequence, located.epoch)
        return [item_of(row, self.form) for row in torch.from_numpy(rows.astype(np.int64))]

    def __getstate__(self) -> dict:
        """Return what worker processes get: all but open files."""
        return {**self.__dict__, "reader": None}

    def source_of(self, position: int) -> str:
        """Return the corpus that a position draws from."""
        return self.sources[int(self.mixture.locate([self.mixture.first + position]).source[0])]


class ReaderOf:
    """Opens the corpora of a recipe for reading; can be sent to worker processes, where what it opens cannot."""

    def __init__(self, recipe, manifests: dict):
        self.recipe, self.manifests = recipe, manifests

    def __call__(self) -> SequenceReader:
        """Return a reader of the recipe's kind of sequences."""
        return recipe_reader(self.recipe, self.manifests)


def item_of(row: torch.Tensor, form: Form) -> dict[str, torch.Tensor]:
    """Return one row of length + 1 ids in a form; padding positions hold -1, hidden ones less."""
    if form == "rows":
        return {"row": row}
    ids = revealed(row).clamp(min=0)
    if form == "hugging_face":
        return {"input_ids": ids, "labels": torch.where(row < 0, IGNORED, row)}
    return {
        "tokens": ids[:-1],
        "labels": ids[1:],
        "loss_mask": (row[1:] >= 0).float(),
        "position_ids": torch.arange(len(row) - 1),
    }


class RunStream(IterableDataset):
    """The same sequences as a stream that says where it stands: for loaders that keep the state of their dataset."""

    def __init__(self, dataset: RunDataset, position: int = 0):
        self.dataset, self.position = dataset, position

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield from the position on, which moves with every item. Raises CodemixError in one of several worker processes."""
        worker = get_worker_info()
        if worker is not None and worker.num_workers > 1:
            raise CodemixError(f"{worker.num_workers} workers would each read the whole stream; use at most one, or RunDataset in order")
        while self.position < len(self.dataset):
            item = self.dataset[self.position]
            self.position += 1
            yield item

    def state_dict(self) -> dict[str, int]:
        """Return the position of the next sequence."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a position."""
        self.position = int(state["position"])


def megatron_provider(recipe, overrides=()) -> Callable:
    """Return a `train_valid_test_datasets_provider` for Megatron-LM's `pretrain`, with training data only: give --eval-iters 0.

    Megatron-LM asks for positions in order (`--dataloader-type single`, its default) from the samples it has consumed on, so one
    start of it goes through all phases.
    """

    def provide(train_val_test_num_samples, vp_stage=None):
        """Return the training dataset, and none for validation and test."""
        dataset, wanted = RunDataset(recipe, overrides, form="megatron"), train_val_test_num_samples[0]
        if wanted > len(dataset):
            raise CodemixError(
                f"{wanted} samples are asked for, the recipe plans {len(dataset)}; lower --train-iters or lengthen its phases"
            )
        return dataset, None, None

    provide.is_distributed = True  # type: ignore[attr-defined]  # Megatron-LM: every rank builds its own
    return provide
