"""`codemix plan --megatron-args`: Megatron's own tokenizer and GPTDataset are built from the printed script.

With MEGATRON_LM=FOLDER, a copy of Megatron-LM, its own parsing and validation read every variant of the arguments too.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.records.manifest import CorpusManifest

MEGATRON_LM = os.environ.get("MEGATRON_LM")
VARIANTS = {
    "one rank": [],
    "tensor, sequence, overlap": ["parallel.tensor=2", "parallel.sequence_parallel=true", "parallel.overlap=true", "model.precision=bf16"],
    "pipeline, virtual": ["parallel.pipeline=2", "parallel.virtual_pipeline=2"],
    "recompute, untied": ["parallel.recompute=full", "model.tie_embeddings=false", "model.qkv_bias=true", "model.qk_norm=true"],
    "selective": ["parallel.recompute=selective", "model.head_dim=32", "sequences.attention_within_documents=true"],
    "positions": [
        "model.sliding_window=16",
        "model.full_attention_interval=2",
        "model.no_rope_interval=2",
        "model.rope_scaling={kind: linear, factor: 2.0}",
    ],
    "wsd": ["phases.0.learning_rate.schedule=wsd", "phases.0.learning_rate.decay=1-sqrt"],
    "constant": ["phases.0.learning_rate.schedule=constant", "phases.0.learning_rate.start=1e-6"],
}


def build(script: str, folder, megatron: str) -> dict:
    """Run a printed script up to torchrun and return what Megatron builds from its arguments."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, str(REPOSITORY / "tests" / "megatron_lm_run.py"), megatron, "facts.json"]
    environment = {**clean_environment(), "HF_HUB_OFFLINE": "1"}
    if megatron != "-":
        environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    done = subprocess.run(words, input=script, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "facts.json").read_text())


def check(facts: dict, tiny) -> None:
    """Hold what Megatron reads against the manifests."""
    corpora = [CorpusManifest.read(tiny.folder / "corpora" / name) for name in ("prose", "snippets")]
    ours = corpora[0].tokenizer
    assert facts["eod"] == ours.end_of_document_id and facts["vocab_size"] == ours.vocab_size
    assert facts["last_tokens"] == [ours.end_of_document_id] * 2, "a document does not end with what Megatron takes for its end"
    assert all(last < corpus.train_documents for last, corpus in zip(facts["last_documents"], corpora, strict=True))


def test_tokenizer_and_datasets_are_built_from_the_printed_script(tiny, tmp_path):
    """With a tokenizer this package trained, whose folder holds nothing but tokenizer.json and corpora."""
    script = tiny.codemix_here("plan", tiny.recipe, "--megatron-args").stdout
    assert "CUDA_DEVICE_MAX_CONNECTIONS=1 torchrun" in script
    facts = build(script, tmp_path / "run", "-")
    check(facts, tiny)
    assert facts["samples"] == 96


@pytest.mark.skipif(MEGATRON_LM is None, reason="MEGATRON_LM names no copy of Megatron-LM")
@pytest.mark.parametrize("name", VARIANTS)
def test_megatron_lm_takes_the_arguments_of_every_kind_of_recipe(tiny, tmp_path, name):
    done = tiny.codemix_here("plan", tiny.recipe, *VARIANTS[name], "--megatron-args")
    assert done.returncode == 0, done.stderr
    check(build(done.stdout, tmp_path / "run", MEGATRON_LM), tiny)


def test_corpora_that_were_copied_come_with_the_tokenizer_beside_the_recipe(tiny, tmp_path):
    """The manifest remembers where the tokenizer was when it made the ids; that path may be of another machine."""
    for name in ("corpora", "tokenizer.json", "prose.jsonl", "snippets.jsonl"):
        source = tiny.folder / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(yaml.safe_load(tiny.recipe.read_text())))
    script = tiny.codemix_here("plan", tmp_path / "recipe.yaml", "--megatron-args").stdout
    assert str(tiny.folder) not in script and f"cp {tmp_path}/tokenizer.json" in script


def test_folder_that_names_the_end_of_documents_is_used_as_it_is(tiny, tmp_path):
    (tiny.folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|endoftext|>"}}))
    try:
        script = tiny.codemix_here("plan", tiny.recipe, "--megatron-args").stdout
        assert f"--tokenizer-model {tiny.folder} " in script and "mkdir" not in script
        (tiny.folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "a"}))
        named = "tokenizer.end_of_document=<|endoftext|>"  # otherwise than the settings
        assert "mkdir -p megatron-tokenizer" in tiny.codemix_here("plan", tiny.recipe, named, "--megatron-args").stdout
    finally:
        (tiny.folder / "tokenizer_config.json").unlink()
