"""Load imported checkpoints at several layouts and save them from there, with one start of ranks.

    python tests/resaved_layouts.py JOBS.json

JOBS.json: list of {"from": checkpoint, "to": checkpoint, "parallel"}.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from many_layouts import held_ports, start_ranks

NUM_RANKS = 2


def resave(job: dict) -> None:
    """Load and save one checkpoint. Every rank calls this."""
    from codemix_megatron.checkpoint.loading import load_checkpoint
    from codemix_megatron.checkpoint.metadata import read_metadata
    from codemix_megatron.checkpoint.writing import save_checkpoint
    from codemix_megatron.conversion.parity import model_recipe
    from codemix_megatron.model.build import build_model
    from codemix_megatron.parallel.ranks import join_ranks, leave_ranks
    from codemix_megatron.recipe.schema import Model, Parallel

    metadata = read_metadata(job["from"])
    parallel = Parallel(device="cpu", threads_per_rank=1, timeout_seconds=60, **job["parallel"])
    recipe = replace(model_recipe(Model.from_plain(metadata["model"])), parallel=parallel)
    ranks = join_ranks(parallel, 0)
    try:
        chunks = build_model(recipe, metadata["tokenizer"]["vocab_size"], ranks.device)
        state = {f"model{i}": chunk.sharded_state_dict() for i, chunk in enumerate(chunks)}
        loaded = load_checkpoint(job["from"], state)
        for i, chunk in enumerate(chunks):
            chunk.load_state_dict(loaded[f"model{i}"])
        kept = {key: metadata[key] for key in ("step", "sequences_seen", "tokens", "model", "tokenizer", "hugging_face")}
        save_checkpoint(job["to"], {f"model{i}": chunk.sharded_state_dict() for i, chunk in enumerate(chunks)}, kept, ranks.device)
    finally:
        leave_ranks()


def run_rank(rank: int, jobs: list, ports: list[int]) -> None:
    """Be one rank for all jobs, one after the other."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(NUM_RANKS), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    for job, port in zip(jobs, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        resave(job)


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    start_ranks(run_rank, (jobs, held_ports(len(jobs))), NUM_RANKS)
