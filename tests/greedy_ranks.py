"""Continue a prompt greedily and score rows through a model spread over ranks, as torchrun starts them.

    torchrun --nproc-per-node N tests/greedy_ranks.py RECIPE.yaml CHECKPOINT JOB.json OUT.json

JOB.json: {"prompt": ids, "new": tokens to add, "rows": sequences of ids}; OUT.json: {"ids", "nats": per token over the rows}.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist


def next_token(engine, ids: list[int]) -> int:
    """Return the id with the largest logit after `ids`. Every rank calls this."""
    from megatron.core import parallel_state
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region

    rows = torch.tensor([ids])

    def forward(iterator, model):
        logits = model(rows, torch.arange(len(ids))[None], None)
        return logits, lambda output, non_loss_data=False: output

    found = get_forward_backward_func()(
        forward_step_func=forward, data_iterator=iter([None]), model=engine.chunks, num_microbatches=1, seq_length=len(ids),
        micro_batch_size=1, decoder_seq_length=len(ids), forward_only=True, collect_non_loss_data=True,
    )  # fmt: skip
    chosen = torch.zeros(1, dtype=torch.int64)
    if parallel_state.is_pipeline_last_stage():
        chosen[0] = gather_from_tensor_model_parallel_region(found[0])[0, -1].argmax()
    dist.broadcast(chosen, src=dist.get_world_size() - 1)
    return int(chosen)


def main(recipe_path: str, checkpoint: str, job_path: str, out: str) -> None:
    """Be one rank."""
    from codemix_megatron.checkpoint.loading import load_checkpoint
    from codemix_megatron.checkpoint.metadata import read_metadata
    from codemix_megatron.parallel.ranks import join_ranks, leave_ranks
    from codemix_megatron.recipe.reading import read_recipe
    from codemix_megatron.records.manifest import TokenizerMetadata
    from codemix_megatron.train.engine import Engine

    recipe, job = read_recipe(recipe_path), json.loads(Path(job_path).read_text())
    ranks = join_ranks(recipe.parallel, recipe.seed)
    engine = Engine(recipe, TokenizerMetadata(**read_metadata(checkpoint)["tokenizer"]), 1, ranks)
    loaded = load_checkpoint(checkpoint, engine.sharded_state(is_loading=True, with_optimizer=False, with_random_state=False))
    loaded.pop("optimizer", None)
    engine.load_state(loaded)
    nats, ids = engine.score(np.array(job["rows"]), 0).mean, list(job["prompt"])
    with torch.no_grad():
        for _ in range(job["new"]):
            ids.append(next_token(engine, ids))
    if ranks.is_main:
        Path(out).write_text(json.dumps({"ids": ids, "nats": nats}))
    leave_ranks()


if __name__ == "__main__":
    main(*sys.argv[1:])
