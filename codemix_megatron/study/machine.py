"""What this machine has to give to runs: its GPUs, or its cores."""

import os
import re
from pathlib import Path

from codemix_megatron.recipe.schema import Recipe

__all__ = ["Machine", "find_gpus"]


class Machine:
    """Hands out GPUs (where there are any and a recipe wants them) or cores to runs, at most `jobs` runs at a time.

    Without `jobs`, as many run as fit. A run larger than the machine has it alone: its own start says what is wrong, or it is slow.
    """

    def __init__(self, jobs: int | None = None, cores=None, gpus=None):
        self.jobs = jobs
        self.cores = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)
        self.gpus = find_gpus() if gpus is None else list(gpus)
        self.free_cores, self.free_gpus = set(self.cores), set(self.gpus)
        self.taken: dict[str, dict] = {}

    def take(self, name: str, recipe: Recipe, ranks: int) -> dict | None:
        """Return {gpus: [...]} or {cores: [...]} for a run, or None when it has to wait."""
        if self.jobs is not None and len(self.taken) >= self.jobs:
            return None
        kind = "gpus" if self.gpus and recipe.parallel.device != "cpu" else "cores"
        free = self.free_gpus if kind == "gpus" else self.free_cores
        wanted = ranks if kind == "gpus" or self.jobs is None else max(1, len(self.cores) // self.jobs)
        if len(free) < wanted and self.taken and (kind == "gpus" or self.jobs is None):
            return None
        given = sorted(free)[:wanted] or list(self.gpus if kind == "gpus" else self.cores)
        free.difference_update(given)
        self.taken[name] = {kind: given}
        return self.taken[name]

    def give_back(self, name: str) -> None:
        """Take back what a run had."""
        given = self.taken.pop(name)
        self.free_gpus.update(given.get("gpus", ()))
        self.free_cores.update(given.get("cores", ()))


def find_gpus() -> list[str]:
    """Return the GPUs this process may use: those of CUDA_VISIBLE_DEVICES, else all that the driver shows."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [word for word in named.split(",") if word.strip() not in ("", "-1")]
    numbers = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
    return [str(number) for number in sorted(int(match[1]) for match in numbers if match)]
