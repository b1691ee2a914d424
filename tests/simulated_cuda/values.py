"""Losses of the CUDA path with Transformer Engine over its stand-in, or without it, and of local layers on CPU, from the same weights and batches.

python values.py cpu|cuda|transformer-engine RANKS JOBS.json OUT.json       OUT: name -> {"losses", "norms"} or {"refused"}
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

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
        return scored(job) if job.get("score") else many_layouts.train(job)
    except RecipeError as refusal:
        return {"refused": str(refusal)}


def scored(job: dict) -> dict:
    """Return nats of the ends of texts of odd lengths by a model that is spread over these ranks."""
    from many_layouts import VOCABULARY, recipe_of

    from codemix_megatron.inference.live import LiveModel
    from codemix_megatron.inference.queries import Query
    from codemix_megatron.model.build import build_model
    from codemix_megatron.model.logits import SpreadLogits
    from codemix_megatron.parallel.ranks import join_ranks, leave_ranks

    recipe = recipe_of(job["model"], job["parallel"], {})
    ranks = join_ranks(recipe.parallel, recipe.seed)
    try:
        forward = SpreadLogits(build_model(recipe, VOCABULARY, ranks.device), VOCABULARY, ranks.device)
        model = LiveModel(forward, SimpleNamespace(vocab_size=VOCABULARY), recipe.model.sequence_length, Path("."))
        texts = [tuple((7 * position * position + length) % 250 + 1 for position in range(length)) for length in (3, 17, 61, 100, 127)]
        queries = [Query(text[: -min(7, len(text) - 1)], (text[-min(7, len(text) - 1) :],)) for text in texts]
        return {"losses": [found[0].nats for found in model.score(queries)]}
    finally:
        leave_ranks()


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
