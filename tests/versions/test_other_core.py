"""Two versions of megatron-core train the same model, bit for bit, and go on from each other's checkpoints.

Needs a second environment with the other version, as `make test-core-0.19` makes it; OTHER_CORE names its Python.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from many_layouts import held_ports
from tiny_run import REPOSITORY, clean_environment
from whole_checkpoint import tensors_of

OTHER = Path(os.environ.get("OTHER_CORE") or REPOSITORY / ".venv-core-0.19/bin/python")
LAYOUT = ("parallel.tensor=2", "model.dropout=0.1", "model.tie_embeddings=false", "optimizer.average_decay=0.9")
GPT_MODEL = {"CODEMIX_WITHOUT": "hybrid model"}
JOBS = {
    "tensor 2 with dropout": {"parallel": {"tensor": 2, "sequence_parallel": True}, "model": {"dropout": 0.1}},
    "pipeline 2, virtual 2": {"parallel": {"pipeline": 2, "virtual_pipeline": 2}},
    "data 2, norms over all heads": {"parallel": {"data": 2}, "model": {"qk_norm": True, "qk_norm_width": "all", "norm_position": "after"}},
    "tensor 2, norms over all heads": {"parallel": {"tensor": 2}, "model": {"qk_norm": True, "qk_norm_width": "all"}},
    "rotary pairs of neighbours": {"parallel": {"tensor": 2}, "model": {"rotary_interleaved": True, "block": "parallel"}},
    "muP": {"parallel": {"pipeline": 2}, "optimizer": {"transfer": "mup", "base_width": 32}},
    "parallel block, recomputed": {
        "parallel": {"tensor": 2, "recompute": "full"},
        "model": {"block": "parallel", "tie_embeddings": False, "normalization": "layernorm"},
    },
    "multipliers and z-loss": {
        "parallel": {"pipeline": 2},
        "model": {"embedding_multiplier": 12.0, "logit_scale": 0.125, "residual_multiplier": 0.22},
        "optimizer": {"z_loss": 1e-3},
    },
    "masked, bf16": {"parallel": {"tensor": 2}, "model": {"precision": "bf16"}, "masked": True},
}

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not OTHER.is_file(), reason=f"{OTHER} is not there; `make test-core-0.19` makes it"),
]


@pytest.fixture(scope="module", autouse=True)
def versions():
    """The versions that are compared; two environments with one and the same would compare nothing."""
    ask = "import codemix_megatron, megatron.core; print(megatron.core.__version__.partition(chr(43))[0])"
    found = [run_python(python, "-W", "ignore", "-c", ask).strip() for python in (sys.executable, OTHER)]
    assert found == ["0.16.1", "0.19.2"]
    return found


def run_python(python: Path | str, *words: str, **environment: str) -> str:
    """Run one of the two Pythons on this checkout; return what it prints."""
    env = {**clean_environment(), **environment}
    done = subprocess.run([str(python), *map(str, words)], env=env, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def train(tiny, python: Path | str, run: str, **environment: str) -> list[float]:
    """Train to the end, or from where the run stands; return the losses of all steps."""
    words = ["-m", "codemix_megatron", "train", tiny.recipe, "--folder", tiny.folder / run, *LAYOUT, "checkpoint.every_steps=4"]
    run_python(python, *words, **environment)
    return tiny.losses(run)


@pytest.fixture(scope="module")
def of_16(tiny):
    """Losses of a run on 0.16.1 that nothing happens to."""
    return train(tiny, sys.executable, "of-16")


@pytest.fixture(scope="module")
def of_19(tiny):
    """Losses of a run on 0.19.2, of a HybridModel."""
    return train(tiny, OTHER, "of-19")


def test_both_versions_have_the_same_losses_bit_for_bit(of_16, of_19, measured):
    assert len(of_16) == 20 and of_16 == of_19
    measured("20 steps at tensor 2 with dropout: GPTModel on 0.16.1 and HybridModel on 0.19.2 have equal losses, bit for bit")


WAYS = {
    "0.16.1 to HybridModel of 0.19.2": ("of-16", OTHER, {}),
    "HybridModel of 0.19.2 to 0.16.1": ("of-19", sys.executable, {}),
    "0.16.1 to GPTModel of 0.19.2": ("of-16", OTHER, GPT_MODEL),
    "HybridModel to GPTModel of 0.19.2": ("of-19", OTHER, GPT_MODEL),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_either_goes_on_as_the_other_bit_for_bit(tiny, of_16, of_19, way, measured):
    """Half of it on one, half on the other."""
    begun, python, environment = WAYS[way]
    new = way.replace(" ", "-")
    tiny.rewind(begun, new, 8)
    assert train(tiny, python, new, **environment) == of_16
    measured(f"resumed at step 8 of 20, {way}: losses equal those of an undisturbed run bit for bit")


def test_a_gpt_model_of_19_goes_on_as_hybrid_model_on_both(tiny, of_16):
    run_gpt = train(tiny, OTHER, "gpt-19", **GPT_MODEL)
    assert run_gpt == of_16
    tiny.rewind("gpt-19", "gpt-19-on", 12)
    assert train(tiny, OTHER, "gpt-19-on") == of_16


def test_checkpoints_of_both_hold_the_same_files_and_tensors(tiny, of_16, of_19):
    ours, theirs = (tiny.folder / run / "checkpoints" / "step-8" for run in ("of-16", "of-19"))
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()} >= {"common.pt"}
    a, b = tensors_of(ours), tensors_of(theirs)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert any("final_layernorm" in name for name in a)


def test_exports_of_both_are_the_same_bytes(tiny, of_16, of_19):
    weights = []
    for python, run in ((sys.executable, "of-16"), (OTHER, "of-19"), (OTHER, "of-16")):
        out = tiny.folder / f"exported-{len(weights)}"
        run_python(python, "-m", "codemix_megatron", "export", tiny.folder / run, "--output", out)
        weights.append((out / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2]


def layouts(python: Path | str, folder: Path, name: str, **environment: str) -> dict:
    """Train all jobs on two ranks of one Python."""
    asked, out = folder / f"{name}.json", folder / f"{name}-out.json"
    asked.write_text(json.dumps({job: {**options, "steps": 3} for job, options in JOBS.items()}))
    run_python(python, REPOSITORY / "tests/many_layouts.py", "2", asked, out, **environment)
    return json.loads(out.read_text())


def test_losses_and_norms_of_all_layouts_are_equal_bit_for_bit(tmp_path, measured):
    ours = layouts(sys.executable, tmp_path, "of-16")
    assert ours == layouts(OTHER, tmp_path, "of-19")
    assert ours == layouts(OTHER, tmp_path, "gpt-19", **GPT_MODEL)
    measured(f"losses, gradient norms and reductions of {len(JOBS)} layouts: GPTModel and HybridModel on 0.19.2 equal 0.16.1, bit for bit")


WITHOUT_GPT = """
import json, os, sys
os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[1], LOCAL_WORLD_SIZE="1")
from codemix_megatron.megatron.importing import import_megatron
import_megatron()
for name in [name for name in sys.modules if name.startswith("megatron.core.models.gpt")]:
    del sys.modules[name]
for name in ("megatron.core.models.gpt.gpt_model", "megatron.core.models.gpt.gpt_layer_specs"):
    sys.modules[name] = None
from many_layouts import train
print(json.dumps(train({"steps": 2})["losses"]))
"""


def test_it_trains_where_gpt_model_is_no_longer_there():
    tests = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    port = str(held_ports(1)[0])
    losses = json.loads(run_python(OTHER, "-W", "ignore", "-c", WITHOUT_GPT, port, **tests).splitlines()[-1])
    assert len(losses) == 2 and losses[1] < losses[0]
