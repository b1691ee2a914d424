"""Megatron-LM by itself: load a checkpoint, say its logits, save it again. megatron_lm_loads.py FOLDER JOB.json

FOLDER is a copy of Megatron-LM, whose own megatron.core, arguments, GPTModel, load_checkpoint and save_checkpoint are used; nothing of this
package is imported. JOB: {"flags": [...], "load", "save" or null, "format" (and "save_format"), "layout": {"tensor", "pipeline", "virtual_pipeline"}, "row":
[ids] or null, "logits": file, "with_optimizer"}. There is no GPU: devices called cuda are the CPU here.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
import typing
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
import typing_extensions
from torch.overrides import TorchFunctionMode


class OnCPU(TorchFunctionMode):
    """Has every tensor that is asked for on CUDA made on the CPU."""

    def __torch_function__(self, function, types, given=(), named=None):
        named = dict(named or {})
        if "cuda" in str(named.get("device", "")):
            named["device"] = "cpu"
        return given[0] if function is torch.Tensor.cuda else function(*given, **named)


def without_triton() -> None:
    """Let Megatron-LM be imported where there is no triton: some modules import it without asking. Their kernels are not run here."""
    if importlib.util.find_spec("triton") is None:
        names = ("custom_layers.batch_invariant_kernels", "moe.paged_stash", "moe.ops.paged_stash")
        sys.modules |= {f"megatron.core.transformer.{name}": MagicMock() for name in names}
    typing.override = typing_extensions.override  # 0.19 wants Python 3.12


def prepare(folder: str) -> None:
    """Make this process believe in a GPU as far as Megatron-LM asks for one."""
    sys.path.insert(0, folder)
    torch.compile = lambda function=None, **_: function or (lambda of: of)
    without_triton()
    cuda = torch.cuda
    cuda.get_device_properties = lambda *_: argparse.Namespace(major=9, minor=0)
    cuda.current_device = lambda: torch.device("cpu")
    cuda.get_rng_state = lambda *_: torch.get_rng_state()
    for name in ("set_device", "synchronize", "empty_cache"):
        setattr(cuda, name, lambda *_: None)
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    CudaRNGStatesTracker.fork = lambda *_, **__: contextlib.nullcontext()


def arguments_of(job: dict, world: int):
    """Return what Megatron-LM's own parser and validation make of the flags."""
    layout, virtual = job["layout"], job["layout"].get("virtual_pipeline", 1)
    words = [
        *job["flags"],
        "--tensor-model-parallel-size",
        layout.get("tensor", 1),
        "--pipeline-model-parallel-size",
        layout.get("pipeline", 1),
    ]
    if virtual > 1:
        layers = int(job["flags"][job["flags"].index("--num-layers") + 1])
        words += ["--num-layers-per-virtual-pipeline-stage", layers // virtual // layout["pipeline"]]
    words += [
        "--micro-batch-size", 1, "--global-batch-size", world, "--train-iters", 10, "--lr", 1e-3, "--save-interval", 1,
        "--tokenizer-type", "NullTokenizer", "--vocab-size", 258, "--transformer-impl", "local", "--no-persist-layer-norm",
        "--no-gradient-accumulation-fusion", "--no-masked-softmax-fusion", "--no-rope-fusion", "--no-bias-dropout-fusion",
        "--no-bias-swiglu-fusion", "--use-cpu-initialization", "--distributed-backend", "gloo", "--attention-backend", "unfused",
        "--load", job["load"], "--ckpt-format", job["format"], "--no-save-rng", "--exit-on-missing-checkpoint",
    ]  # fmt: skip
    words += ["--save", job["save"]] if job["save"] else []
    words += [] if job.get("with_optimizer") else ["--no-save-optim"]
    sys.argv = ["pretrain_gpt.py", *map(str, words)]
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
    from megatron.training.arguments import parse_args, validate_args

    args = validate_args(parse_args())
    args.padded_vocab_size = job["rows"]
    return args


def build(args, stage: int | None):
    """Return Megatron-LM's model as its pretrain_gpt.py builds it, of one virtual stage where there are several."""
    from megatron.core import parallel_state

    where = {} if stage is None else {"ignore_virtual": False, "vp_stage": stage}
    ends = parallel_state.is_pipeline_first_stage(**where), parallel_state.is_pipeline_last_stage(**where)
    try:
        from megatron.training.argument_utils import gpt_config_from_args
    except ImportError:  # before 0.19
        from gpt_builders import gpt_builder

        return gpt_builder(args, *ends, vp_stage=stage)
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.training.models.gpt import GPTModelBuilder

    groups = ProcessGroupCollection.use_mpu_process_groups()
    return GPTModelBuilder(gpt_config_from_args(args)).build_model(groups, *ends, vp_stage=stage)


def trained_once(models: list) -> tuple[list, Any]:
    """Return the models as Megatron-LM trains them, and its Adam after one step of no length, so that there is a state to save."""
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

    wrapped = [DistributedDataParallel(model.config, DistributedDataParallelConfig(), model) for model in models]
    optimizer = get_megatron_optimizer(OptimizerConfig(optimizer="adam", lr=0.0, weight_decay=0.0, clip_grad=0.0), wrapped)
    for model in models:
        for weight in model.parameters():
            weight.main_grad.fill_(1.0)
    optimizer.step()
    return wrapped, optimizer


def run(rank: int, folder: str, job: dict, meeting: str) -> None:
    """Be one rank."""
    layout, world = job["layout"], job["world"]
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    prepare(folder)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    from megatron.core import parallel_state
    from megatron.core.num_microbatches_calculator import init_num_microbatches_calculator
    from megatron.core.rerun_state_machine import initialize_rerun_state_machine
    from megatron.training import checkpointing, global_vars

    virtual = layout.get("virtual_pipeline", 1)
    with OnCPU():
        args = arguments_of(job, world)
        global_vars.set_args(args)
        init_num_microbatches_calculator(rank, None, args.global_batch_size, args.micro_batch_size, args.data_parallel_size)
        with contextlib.suppress(Exception):
            initialize_rerun_state_machine()
        parallel_state.initialize_model_parallel(
            layout.get("tensor", 1), layout.get("pipeline", 1), *([virtual] if virtual > 1 else []), create_gloo_process_groups=True
        )
        models = [build(args, stage if virtual > 1 else None).eval() for stage in range(virtual)]
        with torch.no_grad():
            for model in models:
                for weight in model.parameters():
                    weight.fill_(float("nan"))  # whatever is not loaded is seen
        iteration, _ = checkpointing.load_checkpoint(models, None, None)
        if job["row"]:
            ids = torch.tensor([job["row"]])
            mask = torch.ones(1, 1, ids.size(1), ids.size(1), dtype=torch.bool).triu(1)  # True is hidden there
            with torch.no_grad():
                logits = models[0](ids, torch.arange(ids.size(1))[None], mask)
            torch.save({"logits": logits[0].float(), "iteration": iteration}, job["logits"])
        if job["save"]:
            args.ckpt_format = job.get("save_format", job["format"])
            args.use_dist_ckpt = args.ckpt_format != "torch"  # what its validation made of the format it loads
            models, optimizer = trained_once(models) if job.get("with_optimizer") else (models, None)
            checkpointing.save_checkpoint(7, models, optimizer, None, 0)
    torch.distributed.barrier()


if __name__ == "__main__":
    import torch.multiprocessing

    asked = json.loads(Path(sys.argv[2]).read_text())
    with tempfile.TemporaryDirectory() as meeting:
        torch.multiprocessing.spawn(run, (sys.argv[1], asked, f"{meeting}/meeting"), nprocs=asked["world"])
