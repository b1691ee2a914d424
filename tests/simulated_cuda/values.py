"""Losses of the CUDA path with Transformer Engine over its stand-in, or without it, and of local layers on CPU, from the same weights and batches.

python values.py cpu|cuda|transformer-engine RANKS JOBS.json OUT.json       OUT: name -> {"losses", "norms"} or {"refused"}
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]


def prepare(kind: str) -> None:
    """Make this process what it is to compute on."""
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    if kind == "cpu":
        return
    import on_cpu

    on_cpu.install()
    if kind == "transformer-engine":
        import stand_in

        stand_in.install()
    from codemix_megatron.megatron.importing import import_megatron

    import_megatron()
    on_cpu.patch_megatron()


def train_or_refuse(job: dict) -> dict:
    """Train a job; a recipe that is refused says why."""
    import many_layouts

    from codemix_megatron.errors import RecipeError

    try:
        return many_layouts.train(job)
    except RecipeError as refusal:
        return {"refused": str(refusal)}


def rank(number: int, size: int, kind: str, jobs: dict, ports: list[int], out: str) -> None:
    """Train all jobs as one rank."""
    prepare(kind)
    import torch

    os.environ.update(RANK=str(number), WORLD_SIZE=str(size), LOCAL_RANK=str(number), LOCAL_WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    found = {}
    for (name, job), port in zip(jobs.items(), ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        device = "cpu" if kind == "cpu" else "cuda"
        found[name] = train_or_refuse({**job, "parallel": {**job.get("parallel", {}), "device": device, "timeout_seconds": 600}})
    if number == 0:
        Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    import many_layouts
    import torch.multiprocessing

    kind, size, jobs, out = sys.argv[1], int(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()), sys.argv[4]
    arguments = (size, kind, jobs, many_layouts.held_ports(len(jobs)), out)
    if size == 1:
        rank(0, *arguments)
    else:
        torch.multiprocessing.spawn(rank, arguments, nprocs=size)
