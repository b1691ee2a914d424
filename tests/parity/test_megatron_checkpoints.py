"""Checkpoints that Megatron-LM saved, imported: saved by four ranks at tensor 2 x pipeline 2, in both formats, optimizer included.

With MEGATRON_LM=FOLDER, a copy of Megatron-LM, its own arguments and save_checkpoint write them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from family_models import carry, make_model, weights_of
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.cli.main import main
from codemix_megatron.conversion.export import ExportOptions, export_run
from codemix_megatron.records.run_folder import RunFolder

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(900)]

REAL = "MEGATRON_LM" in os.environ
MODELS = {"llama": "llama, grouped, tied, linear", "qwen2": "qwen2, tied", "qwen3": "qwen3"}
LAYOUT = {"tensor": 2, "pipeline": 2}
VIRTUAL = {**LAYOUT, "virtual_pipeline": 2}
SAVED = {
    "llama torch_dist": LAYOUT,
    "llama torch": LAYOUT,
    "qwen2 torch_dist": VIRTUAL,
    "qwen2 torch": VIRTUAL,
    "qwen3 torch_dist": LAYOUT,
}  # model and format


def flags_of(model: dict, layout: dict) -> list[str]:
    """Return Megatron-LM's flags of a model, written here by hand: what its parser makes of them is what checkpoints hold."""
    flags = [
        "--num-layers", model["num_layers"], "--hidden-size", model["hidden_size"], "--num-attention-heads", model["num_attention_heads"],
        "--group-query-attention", "--num-query-groups", model["num_query_groups"], "--ffn-hidden-size", model["ffn_hidden_size"],
        "--seq-length", 128, "--max-position-embeddings", 128, "--swiglu", "--normalization", "RMSNorm", "--disable-bias-linear",
        "--norm-epsilon", model["normalization_epsilon"], "--position-embedding-type", "rope", "--rotary-base", 10000,
        "--save-interval", 1, "--micro-batch-size", 1, "--global-batch-size", 4, "--train-iters", 10, "--lr", 1e-3, "--use-distributed-optimizer",
        "--tokenizer-type", "NullTokenizer", "--vocab-size", 258, "--transformer-impl", "local", "--no-persist-layer-norm",
        "--tensor-model-parallel-size", layout["tensor"], "--pipeline-model-parallel-size", layout["pipeline"],
        "--make-vocab-size-divisible-by", 1, "--no-gradient-accumulation-fusion", "--no-masked-softmax-fusion", "--no-rope-fusion",
        *(["--add-qkv-bias"] if model["qkv_bias"] else []), *(["--qk-layernorm"] if model["qk_norm"] else []),
        *(["--kv-channels", model["head_dim"]] if model["head_dim"] else []),
        *([] if model["tie_embeddings"] else ["--untie-embeddings-and-output-weights"]),
        *(["--rotary-seq-len-interpolation-factor", 2] if model["rope_scaling"] else []),
        *(["--num-layers-per-virtual-pipeline-stage", 1] if layout.get("virtual_pipeline") else []),
    ]  # fmt: skip
    return list(map(str, flags))


def arguments_of(model: dict, layout: dict) -> dict:
    """Return the arguments that such flags become, as far as a model depends on them."""
    return {
        "num_layers": model["num_layers"], "hidden_size": model["hidden_size"], "num_attention_heads": model["num_attention_heads"],
        "group_query_attention": True, "num_query_groups": model["num_query_groups"], "ffn_hidden_size": model["ffn_hidden_size"],
        "kv_channels": model["head_dim"] or 16, "seq_length": 128, "max_position_embeddings": 128, "swiglu": True,
        "normalization": "RMSNorm", "norm_epsilon": model["normalization_epsilon"], "position_embedding_type": "rope", "rotary_base": 10000,
        "rotary_percent": 1.0, "add_bias_linear": False, "add_qkv_bias": model["qkv_bias"], "qk_layernorm": model["qk_norm"],
        "untie_embeddings_and_output_weights": not model["tie_embeddings"], "num_experts": None, "bf16": False,
        "rotary_seq_len_interpolation_factor": 2 if model["rope_scaling"] else None, "tensor_model_parallel_size": layout["tensor"],
        "pipeline_model_parallel_size": layout["pipeline"], "padded_vocab_size": 260, "make_vocab_size_divisible_by": 1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Three models at tensor 2 x pipeline 2, with a virtual pipeline too, in both formats."""
    folder, jobs = tmp_path_factory.mktemp("megatron"), []
    for name, family in MODELS.items():
        make_model(family, folder / name)
        model = carry(folder / name, folder / f"{name} run", parity=False)["model"]
        for what, layout in ((what, layout) for what, layout in SAVED.items() if what.startswith(name)):
            written = {"arguments": arguments_of(model, layout), "flags": flags_of(model, layout), "real": REAL}
            start = str(folder / f"{name} run" / "checkpoints" / "step-0")
            jobs.append({"from": start, "to": str(folder / what), "parallel": layout, "format": what.split(" ")[1], **written})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    words = [sys.executable, str(REPOSITORY / "tests" / "megatron_saved.py"), str(folder / "jobs.json")]
    environment = {**clean_environment(), "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def imported(saved: Path, name: str, out: Path, *words: str) -> int:
    """Import one of them by the command."""
    tokenizer = saved / name.split(" ")[0] / "tokenizer.json"
    return main(
        ["import", "--from", "megatron", str(saved / name), str(out), "--tokenizer", str(tokenizer), "--unused-arguments", "keep", *words]
    )


@pytest.mark.parametrize("what", SAVED)
def test_a_checkpoint_of_megatron_lm_is_exported_with_the_bits_it_was_saved_with(saved, tmp_path, what):
    name = what.split(" ")[0]
    assert imported(saved, what, tmp_path / "run") == 0
    options = ExportOptions(parity=False, family=MODELS[name].split(",")[0])
    after = weights_of(export_run(RunFolder(tmp_path / "run"), output=tmp_path / "out", options=options).folder)
    before = weights_of(saved / name)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_logits_of_an_imported_checkpoint_are_those_of_the_original_in_transformers(saved, tmp_path, measured):
    from transformers import AutoModelForCausalLM

    assert imported(saved, "llama torch_dist", tmp_path / "run", "--tensor", "2") == 0
    done = export_run(RunFolder(tmp_path / "run"), output=tmp_path / "out")
    ids = torch.arange(100)[None]
    with torch.no_grad():
        theirs, ours = (AutoModelForCausalLM.from_pretrained(folder)(ids).logits for folder in (saved / "llama", tmp_path / "out"))
    apart = float((theirs - ours).abs().max())
    how = "its own save_checkpoint" if REAL else "its format"
    measured(f"Megatron-LM's checkpoint ({how}, TP2 x PP2, optimizer included), imported, exported: logits {apart:.1e} apart")
    assert apart <= 1e-4 and done.record["parity"]["largest_logit_difference"] <= 1e-4
