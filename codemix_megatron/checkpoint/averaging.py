"""The mean of several checkpoints of a run, as a checkpoint like any other. No ranks, no model in memory.

Averaging the last checkpoints of a constant or decaying rate often does what a longer decay would (Izmailov et al. 2018; Hägele et al.
2024, arXiv:2405.18392; LAWA, Kaddour 2022). Weights are summed in double precision, one layer of one tensor at a time, and rounded
once: to fp32 for the optimizer's own, from which those of lower precision are rounded as training rounds them. Adam's moments, counts and
random streams are those of the newest checkpoint, so that a run can go on from the mean.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import torch

from codemix_megatron.checkpoint.loading import find_fault
from codemix_megatron.checkpoint.metadata import read_metadata, write_metadata
from codemix_megatron.checkpoint.torch_dist import ShardReader, ShardWriter, StoredTensor
from codemix_megatron.errors import CheckpointError
from codemix_megatron.records.atomic import writing_folder
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.run_folder import saved_step

__all__ = ["average_checkpoints", "weights_of_decay"]

MOMENTS = ("exp_avg.", "exp_avg_sq.", "state.average.")
OPTIMIZER = "optimizer."
MOVING = "optimizer.state.average."  # of every weight, where optimizer.average_decay keeps one
MASTERS = ("optimizer.state.param.", "optimizer.state.fp32_param.")  # of the distributed optimizer, and of Megatron's other
LAYERS = ".layers."  # tensors with this in their names are stacks of layers

Progress = Callable[[str, int, int], None]


def weights_of_decay(number: int, decay: float) -> list[float]:
    """Return the weights of `number` checkpoints, oldest first, in an exponential moving average; 1 weighs all the same."""
    if not 0 < decay <= 1:
        raise CheckpointError(f"--decay: found {decay}, must be above 0 and at most 1, which weighs all the same", exit_code=2)
    heights = [decay ** (number - 1 - i) for i in range(number)]
    return [height / sum(heights) for height in heights]


def average_checkpoints(
    checkpoints: list[Path],
    weights: list[float],
    target: Path,
    progress: Progress = lambda what, done, total: None,
    moving: bool = False,
) -> dict:
    """Write the mean of `checkpoints`, oldest first, as the checkpoint `target`; return its metadata.

    With `moving`, of the moving averages of the weights that they keep: of one checkpoint, that is its average as it is.
    It is complete or absent. Raises CheckpointError when one of them is torn, or holds another model than the newest.
    """
    each_metadata = [checked_metadata(path) for path in checkpoints]
    refuse_others(checkpoints, each_metadata)
    began = time.perf_counter()
    with writing_folder(target) as partial:
        with ExitStack() as opened, ShardWriter(partial) as writer:
            readers = [opened.enter_context(closing(ShardReader(path))) for path in checkpoints]
            write_mean(readers, weights, writer, progress, moving)
            known = writer.finish((checkpoints[-1] / "common.pt").read_bytes())
        files = {p.name: {"bytes": p.stat().st_size, "sha256": known.get(p.name) or file_sha256(p)} for p in sorted(partial.iterdir())}
        averaged = {
            "steps": [saved_step(path) for path in checkpoints],
            "weights": weights,
            "from": str(checkpoints[-1].parent.parent),
            "moving": moving,
        }
        now = datetime.now(UTC).isoformat(timespec="seconds")
        metadata = {**each_metadata[-1], "files": files, "averaged": averaged, "at": now, "seconds": round(time.perf_counter() - began, 3)}
        write_metadata(partial, metadata)
    return metadata


def checked_metadata(checkpoint: Path) -> dict:
    """Return a checkpoint's metadata; raises CheckpointError when a file of it does not match."""
    if fault := find_fault(checkpoint):
        raise CheckpointError(f"{checkpoint}: {fault}; leave it out with --steps", exit_code=2)
    return read_metadata(checkpoint)


def refuse_others(checkpoints: list[Path], each_metadata: list[dict]) -> None:
    """Raise CheckpointError when not all hold the same model and tokenizer."""
    for path, metadata in zip(checkpoints[:-1], each_metadata[:-1], strict=True):
        for key in ("model", "tokenizer"):
            ours, theirs = metadata.get(key) or {}, each_metadata[-1].get(key) or {}
            different = [
                f"{name} {ours.get(name)}, {theirs.get(name)} there" for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)
            ]
            if different:
                raise CheckpointError(f"{path}: holds another {key} than {checkpoints[-1]}: {'; '.join(different)}", exit_code=2)


def write_mean(readers: list[ShardReader], weights: list[float], writer: ShardWriter, progress: Progress, moving: bool) -> None:
    """Write every tensor and object of the newest checkpoint, those that are weights as means."""
    newest = readers[-1]
    for done, (name, stored) in enumerate(newest.tensors.items()):
        is_moment = name.startswith(OPTIMIZER) and any(part in name for part in MOMENTS)
        kept_in = name if is_moment else moving_of(name) if moving else name if name.startswith(OPTIMIZER) else master_of(name, newest)
        for index, offsets in pieces(name, stored):
            if is_moment:
                mean = newest.read(name, index).clone()  # a view would be saved with all it is a part of
            else:
                mean = mean_of(readers, weights, kept_in, index).to(stored.dtype)
            writer.add(name, stored.shape, offsets, mean[None] if index else mean)
        progress("tensors", done + 1, len(newest.tensors))
    for name in newest.objects:
        writer.copy_object(name, newest.read_object(name))


def moving_of(name: str) -> str:
    """Return the name of the moving average of a weight, or of the weight that a master copy is of."""
    return MOVING + next((name.removeprefix(master) for master in MASTERS if name.startswith(master)), name)


def master_of(name: str, reader: ShardReader) -> str:
    """Return the name of the optimizer's own fp32 copy of a weight, or that of the weight where there is none."""
    return next((master + name for master in MASTERS if master + name in reader.tensors), name)


def pieces(name: str, stored: StoredTensor) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield (index in a stack of layers, offsets) of what is averaged at a time."""
    if LAYERS not in name or len(stored.shape) < 2:
        yield (), (0,) * len(stored.shape)
        return
    for layer in range(stored.shape[0]):
        yield (layer,), (layer, *[0] * (len(stored.shape) - 1))


def mean_of(readers: list[ShardReader], weights: list[float], name: str, index: tuple[int, ...]) -> torch.Tensor:
    """Return the weighted mean, summed in double precision and rounded once, to the precision it is stored in."""
    total: torch.Tensor | None = None
    equal = len(set(weights)) == 1
    for reader, weight in zip(readers, weights, strict=True):
        if name not in reader.tensors:
            hint = (
                "train with optimizer.average_decay to have one"
                if name.startswith(MOVING)
                else "the newest checkpoint does; leave it out with --steps"
            )
            raise CheckpointError(f"{reader.folder}: holds no {name}; {hint}", exit_code=2)
        part = reader.read(name, index).double()
        part = part if equal else part * weight
        total = part if total is None else total.add_(part)
    assert total is not None
    mean = total.div_(len(readers)) if equal else total
    return mean.to(readers[-1].tensors[name].dtype)
