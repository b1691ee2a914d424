"""Megatron-LM itself loads what is exported for it, gives the logits of transformers, saves it at another layout, and that is imported again.

MEGATRON_LM_COPIES names copies of Megatron-LM, separated by colons; core_v0.16.1, 0.17.1, 0.18.2 and 0.19.0 were tried. Nothing of this package
runs in their processes.
"""

import json
import os
import re
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
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "llama, linear": ("llama, grouped, tied, linear", {}),
    "llama, untied": ("llama", {}),
    "llama 3.1": ("llama", {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": 8192}}),
    "qwen2": ("qwen2, tied", {}),
    "qwen3": ("qwen3", {}),
    "mistral": ("mistral, window 16", {}),
    "smollm3": ("smollm3", {}),
}
SAVED = ("llama, linear", "llama, untied", "qwen2", "qwen3")
LAYOUT = {"tensor": 2, "pipeline": 2, "virtual_pipeline": 2}
ROW = list(range(60))


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """A small random model, what it is for Megatron-LM, and what its logits are in transformers."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("exported")
    family, changes = MODELS[request.param]
    make_model(family, folder / "theirs", **changes)
    carry(folder / "theirs", folder / "run", parity=False)
    words = ["--megatron-lm", "0.19"] if request.param.endswith("linear") else []
    assert main(["export", str(folder / "run"), str(folder / "megatron"), "--to", "megatron", *words]) == 0
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder / "theirs", dtype=torch.float32)(torch.tensor([ROW])).logits[0]
    return request.param, folder, logits


def ask(copy: str, folder: Path, *more: str, **job) -> None:
    """Run Megatron-LM in processes of its own, with the exported flags and more."""
    flags = [word for line in (folder / "megatron/arguments.txt").read_text().splitlines() for word in shlex.split(line)] + list(more)
    asked = {"flags": flags, "load": str(folder / "megatron"), "format": "torch_dist", "row": None, "save": None, "rows": 260, **job}
    path = folder / "job.json"
    path.write_text(json.dumps(asked))
    words = [sys.executable, "-P", str(REPOSITORY / "tests" / "megatron_lm_loads.py"), copy, str(path)]
    # megatron-core sets NVTE_* in this process, and refuses those of others.
    environment = {name: value for name, value in clean_environment().items() if name != "PYTHONPATH" and not name.startswith("NVTE_")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]


def version_of(copy: str) -> tuple[int, int]:
    """Return which megatron-core a copy holds."""
    said = (Path(copy) / "megatron/core/package_info.py").read_text()
    major, minor = (int(re.search(rf"^{name} = (\d+)", said, re.MULTILINE)[1]) for name in ("MAJOR", "MINOR"))
    return major, minor


@pytest.mark.parametrize("copy", COPIES)
def test_megatron_lm_loads_it_and_gives_the_logits_of_transformers(exported, copy, measured):
    name, folder, expected = exported
    ask(copy, folder, layout={}, world=1, row=ROW, logits=str(folder / "logits.pt"))
    found = torch.load(folder / "logits.pt")
    apart = float((found["logits"][:, :259] - expected).abs().max())
    measured(f"{Path(copy).name:<8} {name:<14} loaded by Megatron-LM: logits up to {float(expected.abs().max()):.1f}, {apart:.1e} apart")
    assert found["iteration"] == 0
    if name == "llama, linear" and version_of(copy) < (0, 19):  # its model is built without the argument, which is why we ask for 0.19
        assert apart > 1
    else:
        assert apart <= 1e-4


@pytest.mark.parametrize("copy", COPIES)
def test_megatron_lm_computes_without_its_factor_of_llama_3(exported, copy, measured):
    """Why an export of another factor is refused, and why an import asks."""
    from transformers import AutoConfig, AutoModelForCausalLM

    name, folder, expected = exported
    if name != "llama 3.1":
        pytest.skip("has no such scaling")
    ask(copy, folder, "--rope-scaling-factor", "32", layout={}, world=1, row=ROW, logits=str(folder / "logits.pt"))
    of_32 = AutoConfig.from_pretrained(folder / "theirs")
    of_32.rope_parameters["factor"] = 32.0
    with torch.no_grad():
        otherwise = AutoModelForCausalLM.from_pretrained(folder / "theirs", config=of_32, dtype=torch.float32)(torch.tensor([ROW])).logits[
            0
        ]
    found = torch.load(folder / "logits.pt")["logits"][:, :259]
    apart, from_32 = (float((found - logits).abs().max()) for logits in (expected, otherwise))
    measured(
        f"{Path(copy).name:<8} {name:<14} with --rope-scaling-factor 32: {apart:.1e} from logits with 8, {from_32:.1e} from those with 32"
    )
    assert apart <= 1e-4 and from_32 > 1e-3


@pytest.mark.parametrize("format_", ["torch_dist", "torch"])
@pytest.mark.parametrize("copy", COPIES)
def test_what_megatron_lm_saves_is_imported_with_the_bits_it_loaded(exported, copy, format_, measured):
    """Loaded and saved at tensor 2 x pipeline 2 x virtual 2; Adam's state too, where the format keeps it with the rest."""
    name, folder, _ = exported
    if name not in SAVED:
        pytest.skip("saved by Megatron-LM as the others are")
    saved = folder / f"saved {Path(copy).name} {format_}"
    ask(copy, folder, layout=LAYOUT, world=4, save=str(saved), save_format=format_, with_optimizer=format_ == "torch_dist")
    back, out = folder / f"{saved.name} run", folder / f"{saved.name} out"
    words = ["--tokenizer", str(folder / "theirs/tokenizer.json")]
    words += ["--unused-arguments", "keep"] if name.endswith("linear") else []
    assert main(["import", "--from", "megatron", str(saved), str(back), *words]) == 0
    family = MODELS[name][0].split(",")[0]
    assert main(["export", str(back), str(out), "--no-parity", "--family", family]) == 0
    before, after = weights_of(folder / "theirs"), weights_of(out)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    measured(f"{Path(copy).name:<8} {name:<10} saved as {format_} at TP2 x PP2 x VP2, imported: {len(before)} tensors bit for bit")
