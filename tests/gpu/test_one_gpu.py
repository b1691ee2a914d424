"""What only a GPU can show: the CUDA path against the CPU's losses, FP8, the parallel block, resume. Skipped, with the reason, elsewhere."""

import json
import os
import subprocess
import sys

import pytest
import torch
from many_layouts import batches, recipe_of
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY

from codemix_megatron.parallel.device import active_engines

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, torch finds none"),
]
needs_transformer_engine = pytest.mark.skipif(not active_engines()["transformer_engine"], reason="needs Transformer Engine")
PAPER = {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True, "logit_scale": 0.25}
STEPS = 5


def losses_on(device: str, model: dict, *checkpoint: str) -> list[float]:
    """Train five steps in a process of its own, which the CPU tables would otherwise share with CUDA."""
    words = [sys.executable, __file__, device, json.dumps(model), *checkpoint]
    env = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("model", [{}, PAPER], ids=["sequential", "parallel"])
def test_losses_in_bf16_follow_the_cpus_in_fp32(model):
    on_cpu = losses_on("cpu", model)
    assert losses_on("cuda", {**model, "precision": "bf16"}) == pytest.approx(on_cpu, abs=2e-2)


@pytest.mark.parametrize("model", [{}, PAPER], ids=["sequential", "parallel"])
def test_two_runs_are_bit_for_bit_the_same(model):
    model = {**model, "precision": "bf16"}
    assert losses_on("cuda", model) == losses_on("cuda", model)


@needs_transformer_engine
@pytest.mark.parametrize("fp8", ["tensorwise", "delayed"])
@pytest.mark.parametrize("model", [{}, PAPER], ids=["sequential", "parallel"])
def test_losses_in_fp8_follow_those_in_bf16(model, fp8):
    wide = {**model, "precision": "bf16", "hidden_size": 256, "ffn_hidden_size": 512}
    assert losses_on("cuda", {**wide, "fp8": fp8}) == pytest.approx(losses_on("cuda", wide), abs=0.1)


@pytest.mark.parametrize("model", [{}, PAPER], ids=["sequential", "parallel"])
def test_what_a_save_behind_training_has_copied_goes_on_bit_for_bit(model, tmp_path):
    model = {**model, "precision": "bf16"}
    assert losses_on("cuda", model, str(tmp_path / "step-2")) == losses_on("cuda", model)


def train_here(device: str, model: dict, checkpoint: str | None = None) -> list[float]:
    """Train in this process; with `checkpoint` save there after two steps while training goes on, then train from it on."""
    from codemix_megatron.checkpoint.loading import load_checkpoint
    from codemix_megatron.checkpoint.writing import Saving
    from codemix_megatron.parallel.ranks import one_rank
    from codemix_megatron.records.manifest import TokenizerMetadata
    from codemix_megatron.train.batches import Batch
    from codemix_megatron.train.engine import Engine

    recipe = recipe_of(model, {"device": device}, {})
    with one_rank(device=device) as ranks:
        engine = Engine(recipe, TokenizerMetadata(type="none", path="", sha256="", vocab_size=256, end_of_document_id=0), 1, ranks)

        def train(steps: torch.Tensor) -> list[float]:
            sources = torch.zeros(steps.shape[1], dtype=torch.int64, device=ranks.device)
            return [engine.train_step(Batch(rows, sources), 1e-2).losses.mean for rows in steps]

        steps = torch.from_numpy(batches(STEPS)).to(ranks.device)
        if checkpoint is None:
            return train(steps)
        found = train(steps[:2])
        saving = Saving(checkpoint, engine.sharded_state(), {"step": 2}, ranks.device, behind=True)
        train(steps[2:])
        saving.write()
        saving.finish()
        engine.load_state(load_checkpoint(checkpoint, engine.sharded_state(is_loading=True)))
        return found + train(steps[2:])


if __name__ == "__main__":
    print(json.dumps(train_here(sys.argv[1], json.loads(sys.argv[2]), *sys.argv[3:])))
