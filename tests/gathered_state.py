"""Save one training state as each rank holds it, and as megatron-core gathers it; load the latter and save it again.

    python tests/gathered_state.py FOLDER

Four ranks, tensor 2 x data 2 with overlapped gathering of weights; FOLDER gets four checkpoints: `untrained`, `held`, `gathered`
and `loaded`.
"""

import os
import sys
from pathlib import Path

from many_layouts import VOCABULARY, batches, held_ports, recipe_of, start_ranks

NUM_RANKS = 4


def save_both_ways(folder: Path) -> None:
    """Train one step, save, load, save. Every rank calls this."""
    import torch
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    from codemix_megatron.checkpoint.loading import load_checkpoint
    from codemix_megatron.checkpoint.writing import save_checkpoint
    from codemix_megatron.parallel.ranks import join_ranks, leave_ranks
    from codemix_megatron.records.manifest import TokenizerMetadata
    from codemix_megatron.train.batches import Batch, data_parallel_slice
    from codemix_megatron.train.engine import Engine

    gathering = DistributedOptimizer.sharded_param_state_fully_reshardable
    recipe = recipe_of({}, {"tensor": 2, "data": 2, "overlap": True}, {})
    ranks = join_ranks(recipe.parallel, recipe.seed)
    metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0)
    engine = Engine(recipe, metadata, 1, ranks)
    holding = DistributedOptimizer.sharded_param_state_fully_reshardable
    assert holding is not gathering

    def step(rows) -> None:
        share = data_parallel_slice(torch.from_numpy(rows), ranks)
        engine.train_step(Batch(share, torch.zeros(len(share), dtype=torch.int64)), 1e-2, False)

    def save(name: str) -> None:
        save_checkpoint(folder / name, engine.sharded_state(), {"step": 1}, ranks.device)

    first, second = batches(2)
    save("untrained")
    step(first)
    save("held")
    DistributedOptimizer.sharded_param_state_fully_reshardable = gathering
    save("gathered")
    DistributedOptimizer.sharded_param_state_fully_reshardable = holding
    step(second)
    engine.load_state(load_checkpoint(folder / "gathered", engine.sharded_state(is_loading=True)))
    save("loaded")
    leave_ranks()


def run_rank(rank: int, port: int, folder: str) -> None:
    """Be one rank."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(NUM_RANKS), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    save_both_ways(Path(folder))


if __name__ == "__main__":
    start_ranks(run_rank, (held_ports(1)[0], sys.argv[1]), NUM_RANKS)
