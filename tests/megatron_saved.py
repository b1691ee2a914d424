"""Write a model as Megatron-LM saves it, from several ranks: python tests/megatron_saved.py JOBS.json.

JOBS.json: list of {"from": checkpoint of ours, "to": folder, "parallel", "format": torch_dist or torch, "arguments"}. The state is
that of Megatron-LM's generate_state_dict: args (a Namespace with enumerations), iteration, checkpoint_version, model, optimizer. With
MEGATRON_LM naming a copy of Megatron-LM, its own argument parsing and save_checkpoint write it.
"""

import argparse
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from many_layouts import held_ports, start_ranks
from megatron_lm_loads import without_triton

NUM_RANKS = 4
ITERATION = 7


def save(job: dict) -> None:
    """Load our checkpoint and save it as Megatron-LM would. Every rank calls this."""
    from codemix_megatron.checkpoint.loading import load_checkpoint
    from codemix_megatron.checkpoint.metadata import read_metadata
    from codemix_megatron.conversion.parity import model_recipe
    from codemix_megatron.parallel.ranks import join_ranks, leave_ranks
    from codemix_megatron.recipe.schema import LearningRate, Model, Parallel, Phase
    from codemix_megatron.records.manifest import TokenizerMetadata
    from codemix_megatron.train.engine import Engine

    metadata = read_metadata(job["from"])
    parallel = Parallel(device="cpu", threads_per_rank=1, timeout_seconds=60, **job["parallel"])
    phase = Phase(name="all", tokens=1, mixture={}, learning_rate=LearningRate(peak=1e-2))
    recipe = replace(model_recipe(Model.from_plain(metadata["model"])), parallel=parallel, phases=(phase,))
    ranks = join_ranks(parallel, 0)
    try:
        engine = Engine(recipe, TokenizerMetadata(**metadata["tokenizer"]), 1, ranks)
        wanted = engine.sharded_state(is_loading=True, with_optimizer=False, with_random_state=False)
        engine.load_state(load_checkpoint(job["from"], wanted))
        engine.finish_update()
        if job["real"]:
            save_with_megatron_lm(job, engine)
        else:
            save_here(job, engine, ranks)
    finally:
        leave_ranks()


def save_here(job: dict, engine, ranks) -> None:
    """Write what Megatron-LM writes, with megatron-core's own saving."""
    import torch
    from megatron.core import dist_checkpointing
    from megatron.core import parallel_state as mpu
    from megatron.core.transformer.enums import AttnBackend

    args = argparse.Namespace(
        **job["arguments"], attention_backend=AttnBackend.auto, params_dtype=torch.float32, exit_signal=signal.SIGTERM, iteration=ITERATION
    )
    models = [chunk.module for chunk in engine.chunks]
    keys = ["model"] if len(models) == 1 else [f"model{i}" for i in range(len(models))]
    state = {"args": args, "iteration": ITERATION, "checkpoint_version": 3.0}
    folder = Path(job["to"]) / f"iter_{ITERATION:07d}"
    if job["format"] == "torch":
        name = f"mp_rank_{mpu.get_tensor_model_parallel_rank():02d}"
        if mpu.get_pipeline_model_parallel_world_size() > 1:
            name += f"_{mpu.get_pipeline_model_parallel_rank():03d}"
        state |= {key: model.state_dict_for_save_checkpoint() for key, model in zip(keys, models, strict=True)}
        (folder / name).mkdir(parents=True)
        torch.save(state, folder / name / "model_optim_rng.pt")
    else:
        state |= {key: model.sharded_state_dict() for key, model in zip(keys, models, strict=True)}
        sharding = {"distrib_optim_sharding_type": "dp_reshardable"}  # Megatron-LM's default
        state["optimizer"] = engine.optimizer.sharded_state_dict(state if len(models) > 1 else state["model"], metadata=sharding)
        if ranks.is_main:
            folder.mkdir(parents=True)
        torch.distributed.barrier()
        dist_checkpointing.save(state, str(folder))
    if ranks.is_main:
        (Path(job["to"]) / "latest_checkpointed_iteration.txt").write_text(str(ITERATION))


def save_with_megatron_lm(job: dict, engine) -> None:
    """Let Megatron-LM's own save_checkpoint write it, with the arguments that its own parser makes of the flags."""
    import torch

    sys.path.append(os.environ["MEGATRON_LM"])
    without_triton()
    sys.argv = ["pretrain_gpt.py", *job["flags"], "--save", job["to"], "--ckpt-format", job["format"]]
    if job["format"] == "torch":  # that format gathers the distributed optimizer's state over gloo groups, which the engine does not make
        sys.argv.append("--no-save-optim")
    torch.cuda.get_device_properties = lambda *_: argparse.Namespace(major=9, minor=0)
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
    from megatron.core.rerun_state_machine import destroy_rerun_state_machine, initialize_rerun_state_machine
    from megatron.training import checkpointing, global_vars
    from megatron.training.arguments import parse_args, validate_args

    args = validate_args(parse_args())
    args.padded_vocab_size, args.iteration = job["arguments"]["padded_vocab_size"], ITERATION
    global_vars.set_args(args)
    destroy_rerun_state_machine()
    initialize_rerun_state_machine()
    torch.cuda.get_rng_state = torch.get_rng_state  # there is no CUDA here
    models = [chunk.module for chunk in engine.chunks]
    checkpointing.save_checkpoint(ITERATION, models, engine.optimizer, None, 0)


def run_rank(rank: int, jobs: list, ports: list[int]) -> None:
    """Be one rank for all jobs, one after the other."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(NUM_RANKS), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    for job, port in zip(jobs, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        save(job)


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    start_ranks(run_rank, (jobs, held_ports(len(jobs))), NUM_RANKS)
