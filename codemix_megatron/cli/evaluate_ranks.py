"""Scoring on several ranks: starting them, showing how far they are, and each rank's own part."""

import json
import os
import time
from pathlib import Path

from codemix_megatron.cores import available_cores
from codemix_megatron.launch.local import follow_ranks, start_ranks
from codemix_megatron.placement import ALONE, find_placement, threads_of_rank
from codemix_megatron.records.atomic import write_json
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["as_copies", "on_ranks", "ranks_progress"]

PROGRESS = "CODEMIX_EVALUATION_PROGRESS"  # the file in which the main rank reports its progress
REPORT_EVERY_SECONDS = 0.5


def on_ranks(folder: RunFolder, words: list[str], num_ranks: int, progress) -> None:
    """Run `codemix evaluate WORDS` on that many ranks and show their progress; Ctrl-C ends them at once, done tasks are kept."""
    launch = f"codemix-{os.getpid()}-{time.time_ns()}"
    told = folder.logs / "evaluation.json"
    folder.logs.mkdir(parents=True, exist_ok=True)
    told.unlink(missing_ok=True)
    os.environ[PROGRESS] = str(told)
    ranks = start_ranks(folder, ["evaluate", *words], num_ranks, 0, launch)

    def tick():
        if folder.stop.exists():
            folder.stop.unlink()
            raise KeyboardInterrupt
        try:
            progress(*json.loads(told.read_text()))
        except (OSError, ValueError, TypeError):
            return

    try:
        follow_ranks(folder, ranks, tick)
    finally:
        told.unlink(missing_ok=True)


def ranks_progress():
    """Return the function to which the main rank reports its progress."""
    path, last = Path(os.environ[PROGRESS]) if PROGRESS in os.environ else None, 0.0

    def report(label: str, done: int, total: int) -> None:
        nonlocal last
        if path is not None and (done == total or time.monotonic() - last > REPORT_EVERY_SECONDS):
            last = time.monotonic()
            write_json(path, [label, done, total])

    return report


def as_copies(function):
    """Call `function(copies)` within a process group of whole copies of a model. Every rank calls this."""
    import datetime

    import torch

    from codemix_megatron.evaluate.wanted import Copies
    from codemix_megatron.parallel.meeting import meet

    placement, wait = find_placement() or ALONE, datetime.timedelta(hours=2)  # objects only; programs may run long
    torch.set_num_threads(threads_of_rank(available_cores(), placement))
    torch.distributed.init_process_group("gloo", store=meet(placement, wait), rank=placement.rank, world_size=placement.size, timeout=wait)
    try:
        return function(Copies(torch.distributed.get_rank(), torch.distributed.get_world_size()))
    finally:
        torch.distributed.destroy_process_group()
