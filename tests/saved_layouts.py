"""Train one small model on several layouts with one start of ranks, and save each step.

    python tests/saved_layouts.py JOBS.json

JOBS.json: name -> {"model", "parallel", "folder", "optimizer"}; checkpoints of steps 1 to 3 go to FOLDER/step-N.
"""

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from many_layouts import VOCABULARY, batches, held_ports, recipe_of, start_ranks

NUM_RANKS, STEPS = 2, 3


def train_and_save(job: dict) -> None:
    """Train one job and save every step. Every rank calls this."""
    import torch

    from codemix_megatron.checkpoint.writing import save_checkpoint
    from codemix_megatron.parallel.ranks import join_ranks, leave_ranks
    from codemix_megatron.recipe.schema import Optimizer, as_plain
    from codemix_megatron.records.manifest import TokenizerMetadata
    from codemix_megatron.train.batches import Batch, data_parallel_slice
    from codemix_megatron.train.engine import Engine

    recipe = replace(recipe_of(job["model"], job["parallel"], {}), optimizer=Optimizer(**job.get("optimizer", {})))
    ranks = join_ranks(recipe.parallel, recipe.seed)
    try:
        tokenizer = TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0)
        engine = Engine(recipe, tokenizer, 1, ranks)
        for step, rows in enumerate(batches(STEPS), 1):
            share = data_parallel_slice(torch.from_numpy(rows), ranks)
            engine.train_step(Batch(share, torch.zeros(len(share), dtype=torch.int64)), 1e-2, False)
            metadata = {"step": step, "model": as_plain(recipe.model), "tokenizer": asdict(tokenizer)}
            save_checkpoint(Path(job["folder"]) / f"step-{step}", engine.sharded_state(), metadata, ranks.device)
    finally:
        leave_ranks()


def run_rank(rank: int, jobs: list, ports: list[int]) -> None:
    """Be one rank for all jobs, one after the other."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(NUM_RANKS), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    for job, port in zip(jobs, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        train_and_save(job)


if __name__ == "__main__":
    jobs = list(json.loads(Path(sys.argv[1]).read_text()).values())
    start_ranks(run_rank, (jobs, held_ports(len(jobs))), NUM_RANKS)
