"""The model on both sides: logits, training losses, round trips, refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def trained(tiny):
    """A run trained and saved at tensor 2 x pipeline 2."""
    done = tiny.train("for-export", "parallel.tensor=2", "parallel.pipeline=2")
    assert done.returncode == 0, done.stderr
    return tiny.folder / "for-export"


@pytest.fixture(scope="module")
def exported(tiny, trained):
    """Its newest checkpoint as a Hugging Face folder."""
    done = tiny.codemix_here("export", trained)
    assert done.returncode == 0, done.stderr
    return trained / "exports" / "step-20"


def test_logits_are_equal_on_held_out_documents(exported, measured):
    record = json.loads((exported / "export.json").read_text())
    parity = record["parity"]
    largest, compared = parity["largest_logit_difference"], parity["tokens_compared"]
    measured(f"logits of the exported model: at most {largest:.1e} from Megatron's over {compared} tokens (allowed 1e-4)")
    assert parity["compared_on"] == "held-out documents" and parity["tokens_compared"] >= 4 * 64
    assert largest <= 1e-4
    assert parity["greedy_tokens"] == 2 * 63 and parity["greedy_tokens_different"] == 0  # one token of prompt, 64 fit


def test_loads_with_the_auto_classes_and_generates(exported):
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(exported)
    model = AutoModelForCausalLM.from_pretrained(exported)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    text = "def f1(x, y=3):\n\tfor i in range(4):  # ü🙂"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == text
    assert model.generate(ids, max_new_tokens=5, do_sample=False).shape[1] == ids.shape[1] + 5
    assert model.config.vocab_size == len(tokenizer) == model.get_input_embeddings().weight.shape[0], "vocabulary padding was not cut off"


def test_greedy_continuation_is_megatrons(exported, trained):
    """64 tokens, one by one, through both models."""
    from transformers import AutoModelForCausalLM

    from codemix_megatron.conversion.checkpoint_source import CheckpointSource
    from codemix_megatron.conversion.parity import megatron_model
    from codemix_megatron.parallel.ranks import one_rank

    theirs = AutoModelForCausalLM.from_pretrained(exported)
    ids = torch.tensor([[5, 80, 43, 7]])
    expected = theirs.generate(ids, max_new_tokens=60, min_new_tokens=60, do_sample=False)
    with one_rank(device="cpu"), torch.no_grad():
        ours = megatron_model(CheckpointSource(trained / "checkpoints" / "step-20"))
        for _ in range(60):
            logits = ours(ids, torch.arange(ids.shape[1])[None], None)[0, -1]
            logits[0] = -torch.inf  # generate's min_new_tokens forbids the end token too
            ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
    assert ids.tolist() == expected.tolist()


def test_training_follows_hugging_face_with_the_same_weights(measured):
    """Losses of ten AdamW steps, Megatron's engine against a plain loop over LlamaForCausalLM."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from codemix_megatron.conversion.checkpoint_source import hugging_face_config
    from codemix_megatron.conversion.dimensions import Dimensions
    from codemix_megatron.conversion.parity import model_recipe
    from codemix_megatron.families.family import indexed_rows
    from codemix_megatron.families.llama import LLAMA
    from codemix_megatron.parallel.ranks import one_rank
    from codemix_megatron.recipe.schema import Batch, LearningRate, Model, Optimizer, Phase
    from codemix_megatron.records.manifest import TokenizerMetadata
    from codemix_megatron.train.batches import Batch as Rows
    from codemix_megatron.train.engine import Engine

    model = Model(num_layers=2, hidden_size=64, num_attention_heads=4, num_query_groups=2, ffn_hidden_size=128, sequence_length=32)
    phase = Phase(name="all", tokens=1, mixture={}, learning_rate=LearningRate(peak=1e-2))
    base = vars(model_recipe(model)) | {"phases": (phase,), "batch": Batch(global_sequences=4, micro_sequences=2)}
    recipe = type(model_recipe(model))(**{**base, "optimizer": Optimizer(weight_decay=0.0)})
    draw = np.random.default_rng(0)
    batches = [draw.integers(0, 40, (4, 33)) for _ in range(10)]
    with one_rank(device="cpu") as ranks:
        engine = Engine(recipe, TokenizerMetadata(type="none", path="", sha256="", vocab_size=256, end_of_document_id=0), 1, ranks)
        weights, state = dict(engine.chunks[0].module.named_parameters()), {}
        dimensions = Dimensions(model, 256)
        for row, index in indexed_rows(LLAMA.rows(model.tie_embeddings), model.num_layers):
            parts = dimensions.split(row, weights[row.megatron[0].replace("*", "".join(map(str, index)))].detach())
            state |= dict(zip(row.names_at(index), parts, strict=True))
        theirs = LlamaForCausalLM(LlamaConfig(**hugging_face_config(LLAMA, model, 256), pad_token_id=None))
        missing = theirs.load_state_dict({k: v.clone() for k, v in state.items()}, strict=False)
        assert missing.missing_keys in ([], ["lm_head.weight"]) and not missing.unexpected_keys
        ours = [
            engine.train_step(Rows(torch.from_numpy(rows), torch.zeros(4, dtype=torch.int64)), 1e-2, False).losses.mean for rows in batches
        ]
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    expected = []
    for rows in batches:
        ids = torch.from_numpy(rows)
        logits = theirs(ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        expected.append(float(loss.detach()))
    largest = max(abs(a - b) for a, b in zip(ours, expected, strict=True))
    measured(f"losses of 10 steps beside Hugging Face Llama: at most {largest:.1e} apart (allowed 1e-5)")
    assert largest <= 1e-5


def test_import_then_export_is_bit_exact_and_trains_on(tiny, exported):
    imported = tiny.folder / "imported"
    done = tiny.codemix_here("import", exported, imported)
    assert done.returncode == 0, done.stderr
    done = tiny.codemix_here("export", imported)
    assert done.returncode == 0, done.stderr
    before, after = (load_file(f / "model.safetensors") for f in (exported, imported / "exports" / "step-0"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_recipe_trains_on_from_a_public_model(tiny, exported):
    """`from: hf:` in the first phase: shape and tokenizer come from the folder, at a layout of the recipe's own."""
    recipe = yaml.safe_load(tiny.recipe.read_text())
    del recipe["model"]
    recipe["tokenizer"] = None
    recipe["phases"] = [{**recipe["phases"][0], "from": f"hf:{exported}", "tokens": "1K"}]
    recipe["phases"][0]["learning_rate"] |= {"warmup_tokens": 0}
    path = tiny.folder / "continued.yaml"
    path.write_text(yaml.safe_dump(recipe))
    done = tiny.codemix("train", path, "--folder", tiny.folder / "continued", "parallel.tensor=2")
    assert done.returncode == 0, done.stderr
    assert "parity: logits differ by at most" in done.stdout
    parity = json.loads((tiny.folder / "continued" / "initial" / "card.json").read_text())["parity"]
    assert parity["largest_logit_difference"] <= 1e-4 and parity["greedy_tokens_different"] == 0
    fresh, continued = tiny.losses("for-export"), tiny.losses("continued")
    assert continued[0] < fresh[0] - 1, "training on did not begin from the imported weights"
    resolved = yaml.safe_load((tiny.folder / "continued" / "recipe.yaml").read_text())
    assert resolved["model"]["num_layers"] == 4 and resolved["tokenizer"]["path"] == str(exported / "tokenizer.json")
    metadata = json.loads((tiny.folder / "continued" / "checkpoints" / "step-2" / "card.json").read_text())
    assert metadata["hugging_face"]["family"] == "llama"


def test_initial_weights_of_another_shape_are_refused(tiny, exported):
    imported = tiny.folder / "imported"
    if not imported.exists():
        pytest.skip("the import did not run in this session")
    done = tiny.train_here("misfit", f"initial_weights={imported}", "model.num_layers=2")
    assert done.returncode == 2
    assert "model.num_layers 2 here, 4 there" in done.stderr


def test_a_changed_weight_fails_the_export_and_leaves_nothing(tiny, trained, monkeypatch, tmp_path):
    """Parity must be able to fail: one converted tensor is nudged by a hundredth."""
    from codemix_megatron.conversion.dimensions import Dimensions
    from codemix_megatron.conversion.export import export_run
    from codemix_megatron.errors import ConversionError
    from codemix_megatron.records.run_folder import RunFolder

    real = Dimensions.split

    def nudged(dimensions, row, tensor):
        parts = real(dimensions, row, tensor)
        return [parts[0], parts[1] + 0.01] if row.dimensions[0] == "gate_up" else parts

    monkeypatch.setattr(Dimensions, "split", nudged)
    with pytest.raises(ConversionError, match="logits differ by up to"):
        export_run(RunFolder(trained), output=tmp_path / "wrong")
    assert list(tmp_path.iterdir()) == []


def test_bf16_export_passes_parity_with_rounded_weights(tiny, trained, measured):
    done = tiny.codemix_here("export", trained, "--dtype", "bf16", "--output", tiny.folder / "bf16")
    assert done.returncode == 0, done.stderr
    assert all(t.dtype == torch.bfloat16 for t in load_file(tiny.folder / "bf16" / "model.safetensors").values())
    parity = json.loads((tiny.folder / "bf16" / "export.json").read_text())["parity"]
    moved, allowed = parity["rounding_difference"], parity["rounding_tolerance"]
    measured(f"bf16 export: rounding moved logits by at most {moved:.1e} (allowed {allowed:.1e})")
    assert parity["largest_logit_difference"] <= 1e-4
    assert allowed / 100 < moved <= allowed, "the tolerance is of no use, or rounding did not happen"


def test_missing_extra_and_misshapen_tensors_are_named_one_by_one(tiny, exported):
    broken = tiny.folder / "broken"
    shutil.copytree(exported, broken, dirs_exist_ok=True)
    weights = load_file(broken / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    weights["model.layers.9.surprise"] = torch.zeros(2)
    weights["model.norm.weight"] = torch.zeros(3)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    done = tiny.codemix_here("import", broken, tiny.folder / "from-broken")
    assert done.returncode == 2
    for word in (
        "model.layers.1.mlp.down_proj.weight is missing",
        "model.layers.9.surprise: unknown tensor",
        "model.norm.weight has shape [3], config.json makes it [64]",
    ):
        assert word in done.stderr
    assert not (tiny.folder / "from-broken" / "checkpoints").exists()


def test_unknown_step_names_those_that_are_there(tiny, trained):
    done = tiny.codemix_here("export", f"{trained}@7")
    assert done.returncode == 2
    assert "no checkpoint of step 7; there are steps 12, 20" in done.stderr


def test_scores_of_the_exported_model(tiny, trained, exported):
    """The station after the export, on the same run."""
    done = tiny.codemix_here("evaluate", trained)
    assert done.returncode == 0, done.stderr
    scores = json.loads((trained / "scores" / "step-20.json").read_text())
    held_out = {b["corpus"]: b["value"] for b in scores["bits_per_byte"]}
    assert set(held_out) == {"prose", "snippets"}
    assert all(0 < value < 8 for value in held_out.values())
