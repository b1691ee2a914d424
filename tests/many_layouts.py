"""Train one small model on many layouts with one start of ranks: starting ranks costs more than training.

    python tests/many_layouts.py RANKS JOBS.json OUT.json

JOBS.json: name -> {"model", "parallel", "batch", "optimizer", "masked", "steps"}; OUT.json: name -> {"losses", "norms", "all_reduces"}.
"""

import gc
import importlib
import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from codemix_megatron.ports import reserve_port

VOCABULARY, ROWS, LENGTH = 256, 8, 32
SHAPE = {"num_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "num_query_groups": 2, "ffn_hidden_size": 128}
held: list[socket.socket] = []  # open until this process has ended


def batches(steps: int):
    """Return the global batches everybody trains on, int64 [steps, rows, length + 1]."""
    return np.random.default_rng(0).integers(0, 40, (steps, ROWS, LENGTH + 1))


def masked_batches(steps: int):
    """Return the same ids, and of each whether it is learned: unevenly over rows, of one row nothing; and batches as readers give them.

    int64 [steps, rows, length + 1], bool of the same shape, and ids with hidden ones below -1 and padding at the ends of rows.
    """
    draw, ids = np.random.default_rng(1), batches(steps)
    shares = np.array([0.0, 0.9, 0.1, 0.5, 1.0, 0.05, 0.3, 0.7])[:, None]
    is_learned = draw.random(ids.shape) < shares
    is_empty = np.arange(LENGTH + 1) >= LENGTH + 1 - np.array([0, 3, 0, 20, 0, 0, 9, 1])[:, None]
    rows = np.where(is_learned, ids, -2 - ids)
    return ids, is_learned & ~is_empty, np.where(is_empty, -1, rows)


def recipe_of(model: dict, parallel: dict, batch: dict, optimizer: dict | None = None):
    """Return a recipe that holds a model, a layout and one phase."""
    from codemix_megatron.conversion.parity import model_recipe
    from codemix_megatron.recipe.schema import Batch, LearningRate, Model, Optimizer, Parallel, Phase

    phase = Phase(name="all", tokens=1, mixture={}, learning_rate=LearningRate(peak=1e-2))
    shape = Model.from_plain({**SHAPE, "sequence_length": LENGTH, **model})
    return replace(
        model_recipe(shape),
        model=shape,
        phases=(phase,),
        parallel=Parallel(**{"device": "cpu", "threads_per_rank": 1, "timeout_seconds": 60, **parallel}),
        batch=Batch(**{"global_sequences": ROWS, "micro_sequences": 2, **batch}),
        optimizer=Optimizer(**(optimizer or {})),
    )


def train(job: dict) -> dict:
    """Train one job on the ranks that are there. Every rank calls this."""
    import torch
    import torch.distributed as dist

    from codemix_megatron.parallel.ranks import join_ranks, leave_ranks
    from codemix_megatron.records.manifest import TokenizerMetadata
    from codemix_megatron.train.batches import Batch, data_parallel_slice
    from codemix_megatron.train.engine import Engine

    recipe = recipe_of(*(job.get(block, {}) for block in ("model", "parallel", "batch", "optimizer")))
    ranks = join_ranks(recipe.parallel, recipe.seed)
    count, real = [0], dist.all_reduce

    def counted(tensor, op=dist.ReduceOp.SUM, group=None, async_op=False):
        count[0] += 1
        return real(tensor, op, group, async_op)

    dist.all_reduce = counted
    try:
        metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0)
        engine, results = Engine(recipe, metadata, 1, ranks), []
        steps = job.get("steps", 5)
        for rows in masked_batches(steps)[2] if job.get("masked") else batches(steps):
            share = data_parallel_slice(torch.from_numpy(rows), ranks).to(ranks.device)
            count[0] = 0
            results.append(engine.train_step(Batch(share, torch.zeros(len(share), dtype=torch.int64, device=ranks.device)), 1e-2, False))
        return {"losses": [r.losses.mean for r in results], "norms": [r.gradient_norm for r in results], "all_reduces": count[0]}
    finally:
        dist.all_reduce = real
        leave_ranks()


def run_rank(rank: int, size: int, jobs: dict, ports: list[int], out: str) -> None:
    """Be one rank for all jobs, one after the other."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", LOCAL_WORLD_SIZE=str(size))
    found = {}
    for (name, job), port in zip(jobs.items(), ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        found[name] = train(job)
    if rank == 0:
        Path(out).write_text(json.dumps(found))


def start_ranks(run_rank, arguments: tuple, size: int) -> None:
    """Call `run_rank(rank, *arguments)` in so many processes, forked after the imports, which take each 4 CPU-seconds else."""
    import torch.multiprocessing

    from codemix_megatron.megatron.importing import import_megatron

    gc.disable()
    import_megatron()
    importlib.import_module("codemix_megatron.train.engine")
    gc.freeze()
    gc.enable()
    torch.multiprocessing.start_processes(run_rank, arguments, nprocs=size, start_method="fork")


def held_ports(count: int) -> list[int]:
    """Return ports that nobody but ranks started by this process can listen on."""
    held.extend(reserve_port() for _ in range(count))
    return [port.getsockname()[1] for port in held[-count:]]


def train_on(num_ranks: int, jobs: dict, folder: Path) -> dict:
    """Start ranks once, train all jobs, and return what each gave."""
    import subprocess

    from tiny_run import clean_environment

    asked, out = folder / f"jobs-{num_ranks}.json", folder / f"out-{num_ranks}.json"
    asked.write_text(json.dumps(jobs))
    words = [sys.executable, __file__, str(num_ranks), str(asked), str(out)]
    done = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(out.read_text())


if __name__ == "__main__":
    size, jobs = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    start_ranks(run_rank, (size, jobs, held_ports(len(jobs)), sys.argv[3]), size)
