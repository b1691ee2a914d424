"""Megatron-LM itself loads what is exported for it, gives the logits of transformers, saves it at another layout, and that is imported again.

MEGATRON_LM_COPIES names copies of Megatron-LM, separated by colons; core_v0.16.1, 0.17.1, 0.18.2 and 0.19.0 were tried. Nothing of this package
runs in their processes.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from family_models import carry, make_model, weights_of
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.cli.main import main

COPIES = [folder for folder in os.environ.get("MEGATRON_LM_COPIES", "").split(os.pathsep) if folder]
pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not COPIES, reason="MEGATRON_LM_COPIES names no copy of Megatron-LM"),
]
MODELS = {"llama": "llama, grouped, tied, linear", "llama, untied": "llama", "qwen2": "qwen2, tied", "qwen3": "qwen3"}
LAYOUT = {"tensor": 2, "pipeline": 2, "virtual_pipeline": 2}
ROW = list(range(60))


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """A small random model, what it is for Megatron-LM, and what its logits are in transformers."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("exported")
    make_model(MODELS[request.param], folder / "theirs")
    carry(folder / "theirs", folder / "run", parity=False)
    assert main(["export", str(folder / "run"), str(folder / "megatron"), "--to", "megatron"]) == 0
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder / "theirs", dtype=torch.float32)(torch.tensor([ROW])).logits[0]
    return request.param, folder, logits


def ask(copy: str, folder: Path, **job) -> None:
    """Run Megatron-LM in processes of its own."""
    flags = [word for line in (folder / "megatron/arguments.txt").read_text().splitlines() for word in shlex.split(line)]
    asked = {"flags": flags, "load": str(folder / "megatron"), "format": "torch_dist", "row": None, "save": None, "rows": 260, **job}
    path = folder / "job.json"
    path.write_text(json.dumps(asked))
    words = [sys.executable, "-P", str(REPOSITORY / "tests" / "megatron_lm_loads.py"), copy, str(path)]
    # megatron-core sets NVTE_* in this process, and refuses those of others.
    environment = {name: value for name, value in clean_environment().items() if name != "PYTHONPATH" and not name.startswith("NVTE_")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("copy", COPIES)
def test_megatron_lm_loads_it_and_gives_the_logits_of_transformers(exported, copy, measured):
    name, folder, expected = exported
    ask(copy, folder, layout={}, world=1, row=ROW, logits=str(folder / "logits.pt"))
    found = torch.load(folder / "logits.pt")
    apart = float((found["logits"][:, :259] - expected).abs().max())
    measured(f"{Path(copy).name:<8} {name:<10} loaded by Megatron-LM: logits up to {float(expected.abs().max()):.1f}, {apart:.1e} apart")
    assert apart <= 1e-4 and found["iteration"] == 0


@pytest.mark.parametrize("format_", ["torch_dist", "torch"])
@pytest.mark.parametrize("copy", COPIES)
def test_what_megatron_lm_saves_is_imported_with_the_bits_it_loaded(exported, copy, format_, measured):
    """Loaded and saved at tensor 2 x pipeline 2 x virtual 2; Adam's state too, where the format keeps it with the rest."""
    name, folder, _ = exported
    saved = folder / f"saved {Path(copy).name} {format_}"
    ask(copy, folder, layout=LAYOUT, world=4, save=str(saved), save_format=format_, with_optimizer=format_ == "torch_dist")
    back, out = folder / f"{saved.name} run", folder / f"{saved.name} out"
    assert main(["import", "--from", "megatron", str(saved), str(back), "--tokenizer", str(folder / "theirs/tokenizer.json")]) == 0
    family = MODELS[name].split(",")[0]
    assert main(["export", str(back), str(out), "--no-parity", "--family", family]) == 0
    before, after = weights_of(folder / "theirs"), weights_of(out)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    measured(f"{Path(copy).name:<8} {name:<10} saved as {format_} at TP2 x PP2 x VP2, imported: {len(before)} tensors bit for bit")
