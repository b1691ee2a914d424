"""The mean of checkpoints is numpy's mean of what torch reads in them, at every layout and precision."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from patience import PATIENCE_SECONDS
from tiny_run import clean_environment
from whole_checkpoint import tensors_of

from codemix_megatron.checkpoint.averaging import average_checkpoints, weights_of_decay
from codemix_megatron.checkpoint.loading import find_fault
from codemix_megatron.checkpoint.metadata import read_metadata, write_metadata
from codemix_megatron.errors import CheckpointError

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
DECAY, MOVING = 0.9, "optimizer.state.average."
SCRIPT = Path(__file__).resolve().parents[1] / "saved_layouts.py"
LAYOUTS = {
    "TP2": ({}, {"tensor": 2}),
    "PP2": ({}, {"pipeline": 2}),
    "DP2": ({}, {"data": 2}),
    "DP2 bf16": ({"precision": "bf16"}, {"data": 2}),
    "DP2 plain optimizer": ({}, {"data": 2, "distributed_optimizer": False}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of three steps at each layout."""
    folder = tmp_path_factory.mktemp("saved")
    jobs = {
        name: {"model": model, "parallel": parallel, "folder": str(folder / name), "optimizer": {"average_decay": DECAY}}
        for name, (model, parallel) in LAYOUTS.items()
    }
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, SCRIPT, folder / "jobs.json"], env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def numpy_mean(tensors: list, weights=None) -> np.ndarray:
    return np.average(np.stack([t.double().numpy() for t in tensors]), axis=0, weights=weights)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mean_of_weights_is_numpys_and_moments_are_the_newest(saved, layout, tmp_path, measured):
    steps = [saved / layout / f"step-{n}" for n in (1, 2, 3)]
    metadata = average_checkpoints(steps, weights_of_decay(3, 1.0), tmp_path / "step-3")
    assert find_fault(tmp_path / "step-3") is None and metadata["averaged"]["steps"] == [1, 2, 3]
    before, mean = [tensors_of(step) for step in steps], tensors_of(tmp_path / "step-3")
    assert mean.keys() == before[-1].keys()
    weights = 0
    for name, found in mean.items():
        if "exp_avg" in name or "state.average." in name:
            assert torch.equal(found, before[-1][name]), name
            continue
        masters = [master + name for master in ("optimizer.state.param.", "optimizer.state.fp32_param.") if master + name in mean]
        expected = numpy_mean([tensors[(masters or [name])[0]] for tensors in before]).astype(np.float32)
        assert torch.equal(found, torch.from_numpy(expected).to(found.dtype)), name
        assert not torch.equal(found, before[-1][name]) or "layernorm" in name or "layer_norm" in name, name
        weights += 1
    measured(f"{layout}: {weights} averaged tensors equal numpy's mean bit for bit")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_moving_average_kept_while_training_is_numpys(saved, layout, tmp_path, measured):
    steps = [tensors_of(saved / layout / f"step-{n}") for n in (1, 2, 3)]
    names = [name.removeprefix(MOVING) for name in steps[0] if name.startswith(MOVING)]
    assert len(names) >= 8
    for before, now in pairwise(steps):
        for name in names:
            masters = [master + name for master in ("optimizer.state.param.", "optimizer.state.fp32_param.") if master + name in now]
            weight, average = now[(masters or [name])[0]].numpy(), before[MOVING + name].numpy()
            expected = average * np.float32(DECAY) + weight * np.float32(1 - DECAY)
            assert weight.dtype == np.float32 and np.array_equal(now[MOVING + name].numpy(), expected), name
    average_checkpoints([saved / layout / "step-3"], [1.0], tmp_path / "step-3", moving=True)
    found = tensors_of(tmp_path / "step-3")
    for name in names:
        assert torch.equal(found[name], steps[-1][MOVING + name].to(found[name].dtype)), name
    measured(f"{layout}: moving averages of {len(names)} tensors equal numpy's bit for bit")


def test_run_without_a_moving_average_says_how_to_have_one(saved, tmp_path):
    name = "TP2 without"
    jobs = {name: {"model": {}, "parallel": {"tensor": 2}, "folder": str(tmp_path / name)}}
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "jobs.json"], env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr[-4000:]
    with pytest.raises(CheckpointError, match=r"train with optimizer.average_decay to have one"):
        average_checkpoints([tmp_path / name / "step-3"], [1.0], tmp_path / "out" / "step-3", moving=True)


def test_exponential_moving_average_over_checkpoints(saved, tmp_path):
    steps = [saved / "TP2" / f"step-{n}" for n in (1, 2, 3)]
    assert weights_of_decay(3, 0.5) == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    average_checkpoints(steps, weights_of_decay(3, 0.5), tmp_path / "step-3")
    name = "decoder.layers.mlp.linear_fc1.weight"
    expected = numpy_mean([tensors_of(step)[name] for step in steps], weights=[1, 2, 4])
    assert np.abs(tensors_of(tmp_path / "step-3")[name].numpy() - expected).max() < 1e-7


def test_mean_is_loaded_by_megatron_at_another_layout(saved, tmp_path):
    """The newest checkpoint's own state, unsharded part and random streams are in it."""
    from codemix_megatron.checkpoint.loading import load_checkpoint
    from codemix_megatron.parallel.ranks import one_rank
    from codemix_megatron.records.manifest import TokenizerMetadata
    from codemix_megatron.train.engine import Engine

    sys.path.insert(0, str(SCRIPT.parent))
    from many_layouts import VOCABULARY, recipe_of

    average_checkpoints([saved / "TP2" / f"step-{n}" for n in (2, 3)], weights_of_decay(2, 1.0), tmp_path / "step-3")
    with one_rank(device="cpu") as ranks:
        tokenizer = TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0)
        engine = Engine(recipe_of({}, {}, {}), tokenizer, 1, ranks)
        engine.load_state(load_checkpoint(tmp_path / "step-3", engine.sharded_state(is_loading=True, with_random_state=False)))
        weights = dict(engine.chunks[0].module.named_parameters())
        mean = tensors_of(tmp_path / "step-3")
        assert torch.equal(weights["embedding.word_embeddings.weight"].detach(), mean["embedding.word_embeddings.weight"])
        assert all(group["step"] == 3 for optimizer in engine.optimizers for group in optimizer.optimizer.param_groups)


def test_torn_and_other_checkpoints_are_refused_and_leave_nothing(saved, tmp_path):
    torn = tmp_path / "torn" / "step-2"
    torn.parent.mkdir()
    shutil.copytree(saved / "TP2" / "step-2", torn)
    next(torn.glob("__0_*")).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"step-2: __0_.* has 1 bytes, card.json says .*; leave it out with --steps"):
        average_checkpoints([torn, saved / "TP2" / "step-3"], [0.5, 0.5], tmp_path / "out" / "step-3")
    shutil.rmtree(torn)
    shutil.copytree(saved / "TP2" / "step-2", torn)
    metadata = read_metadata(torn)
    write_metadata(torn, {**metadata, "model": {**metadata["model"], "rope_base": 5.0}})
    with pytest.raises(CheckpointError, match=r"holds another model than .*: rope_base 5.0, 10000.0 there"):
        average_checkpoints([torn, saved / "TP2" / "step-3"], [0.5, 0.5], tmp_path / "out" / "step-3")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="--decay: found 0, must be above 0"):
        weights_of_decay(2, 0)
