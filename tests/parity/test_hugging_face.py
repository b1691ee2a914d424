"""The model on both sides: logits, training losses, round trips, refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
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
    done = tiny.codemix("export", trained)
    assert done.returncode == 0, done.stderr
    return trained / "exports" / "step-20"


def test_logits_are_equal_on_random_and_real_tokens(exported, measured):
    record = json.loads((exported / "export.json").read_text())
    parity = record["parity"]
    largest, compared = parity["largest_logit_difference"], parity["tokens_compared"]
    measured(f"logits of the exported model: at most {largest:.1e} from Megatron's over {compared} tokens (allowed 1e-4)")
    assert parity["real_tokens"] and parity["tokens_compared"] >= 4 * 64
    assert parity["largest_logit_difference"] <= 1e-4
    assert parity["largest_on_real_tokens"] <= 1e-4


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

    from codemix_megatron.hf.parity import megatron_model
    from codemix_megatron.hf.source import CheckpointSource
    from codemix_megatron.parallel.ranks import one_rank

    theirs = AutoModelForCausalLM.from_pretrained(exported)
    ids = torch.tensor([[5, 80, 43, 7]])
    expected = theirs.generate(ids, max_new_tokens=60, min_new_tokens=60, do_sample=False)
    with one_rank(device="cpu"), torch.no_grad():
        ours = megatron_model(CheckpointSource(trained / "checkpoints" / "step-20"), torch.float32)
        for _ in range(60):
            logits = ours(ids, torch.arange(ids.shape[1])[None], None)[0, -1]
            logits[0] = -torch.inf  # generate's min_new_tokens forbids the end token too
            ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
    assert ids.tolist() == expected.tolist()


def test_training_follows_hugging_face_with_the_same_weights(measured):
    """Losses of ten AdamW steps, Megatron's engine against a plain loop over LlamaForCausalLM."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from codemix_megatron.hf.llama import MEGATRON_NAMES, hugging_face_config, to_hugging_face
    from codemix_megatron.hf.parity import model_recipe
    from codemix_megatron.model.initial import sharded_tensors
    from codemix_megatron.parallel.ranks import one_rank
    from codemix_megatron.recipe.schema import Batch, LearningRate, Model, Optimizer, Phase
    from codemix_megatron.records.manifest import TokenizerCard
    from codemix_megatron.train.batches import Batch as Rows
    from codemix_megatron.train.engine import Engine

    model = Model(num_layers=2, hidden_size=64, num_attention_heads=4, num_query_groups=2, ffn_hidden_size=128, sequence_length=32)
    phase = Phase(name="all", tokens=1, mixture={}, learning_rate=LearningRate(peak=1e-2))
    base = vars(model_recipe(model)) | {"phases": (phase,), "batch": Batch(global_sequences=4, micro_sequences=2)}
    recipe = type(model_recipe(model))(**{**base, "optimizer": Optimizer(weight_decay=0.0)})
    draw = np.random.default_rng(0)
    batches = [draw.integers(0, 40, (4, 33)) for _ in range(10)]
    with one_rank(device="cpu") as ranks:
        engine = Engine(recipe, TokenizerCard(type="none", path="", sha256="", vocab_size=256, end_of_document_id=0), 1, ranks)
        roles = {name: role for role, names in MEGATRON_NAMES.items() for name in names}
        stacks = {}
        for shard in sharded_tensors([engine.chunks[0].module]):
            stacks.setdefault(roles[shard.key], {}).setdefault(shard.global_offset, shard.data.clone())
        state = {}
        for role, parts in stacks.items():
            # One rank holds a tensor whole, but for gate and up, which come as two shards; layers lie along axis 0.
            whole = [parts[offset] for offset in sorted(parts)]
            if role == "gate_up":
                whole = [torch.cat(whole[i : i + 2]) for i in range(0, len(whole), 2)]
            stacked = torch.stack(whole) if len(whole) > 1 else whole[0]
            state |= dict(to_hugging_face(model, 256, role, stacked))
        theirs = LlamaForCausalLM(LlamaConfig(**hugging_face_config(model, 256, 0, "float32")))
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
        expected.append(float(loss))
    largest = max(abs(a - b) for a, b in zip(ours, expected, strict=True))
    measured(f"losses of 10 steps beside Hugging Face Llama: at most {largest:.1e} apart (allowed 1e-5)")
    assert largest <= 1e-5


def test_import_then_export_is_bit_exact_and_trains_on(tiny, exported):
    imported = tiny.folder / "imported"
    done = tiny.codemix("import", exported, imported)
    assert done.returncode == 0, done.stderr
    done = tiny.codemix("export", imported)
    assert done.returncode == 0, done.stderr
    before, after = (load_file(f / "model.safetensors") for f in (exported, imported / "exports" / "step-0"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    words = ["parallel.tensor=2", f"initial_weights={imported}", "phases.0.tokens=1K", "phases.0.learning_rate.warmup_tokens=0"]
    done = tiny.train("continued", *words)
    assert done.returncode == 0, done.stderr
    fresh, continued = tiny.losses("for-export"), tiny.losses("continued")
    assert continued[0] < fresh[0] - 1, "training on did not begin from the imported weights"


def test_initial_weights_of_another_shape_are_refused(tiny, exported):
    imported = tiny.folder / "imported"
    if not imported.exists():
        pytest.skip("the import did not run in this session")
    done = tiny.train("misfit", f"initial_weights={imported}", "model.num_layers=2")
    assert done.returncode == 2
    assert "model.num_layers 2 here, 4 there" in done.stderr


def test_a_changed_weight_fails_the_export_and_leaves_nothing(tiny, trained, monkeypatch, tmp_path):
    """Parity must be able to fail: one converted tensor is nudged by a hundredth."""
    from codemix_megatron.errors import ConversionError
    from codemix_megatron.hf import export
    from codemix_megatron.records.run_folder import RunFolder

    real = export.to_hugging_face

    def nudged(model, vocab_size, role, tensor):
        for name, part in real(model, vocab_size, role, tensor):
            yield name, part + 0.01 if name.endswith("layers.3.mlp.up_proj.weight") else part

    monkeypatch.setattr(export, "to_hugging_face", nudged)
    with pytest.raises(ConversionError, match="logits differ by up to"):
        export.export_run(RunFolder(trained), output=tmp_path / "wrong")
    assert list(tmp_path.iterdir()) == []


def test_bf16_export_passes_parity_with_rounded_weights(tiny, trained):
    done = tiny.codemix("export", trained, "--dtype", "bf16", "--output", tiny.folder / "bf16")
    assert done.returncode == 0, done.stderr
    assert all(t.dtype == torch.bfloat16 for t in load_file(tiny.folder / "bf16" / "model.safetensors").values())


def test_missing_extra_and_misshapen_tensors_are_named_one_by_one(tiny, exported):
    broken = tiny.folder / "broken"
    shutil.copytree(exported, broken, dirs_exist_ok=True)
    weights = load_file(broken / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    weights["model.layers.9.surprise"] = torch.zeros(2)
    weights["model.norm.weight"] = torch.zeros(3)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    done = tiny.codemix("import", broken, tiny.folder / "from-broken")
    assert done.returncode == 2
    for word in (
        "model.layers.1.mlp.down_proj.weight is missing",
        "model.layers.9.surprise: unknown tensor",
        "decoder.final_layernorm.weight",
    ):
        assert word in done.stderr
    assert not (tiny.folder / "from-broken" / "checkpoints").exists()


def test_unknown_step_names_those_that_are_there(tiny, trained):
    done = tiny.codemix("export", f"{trained}@7")
    assert done.returncode == 2
    assert "no checkpoint of step 7; there are steps 12, 20" in done.stderr


def test_scores_of_the_exported_model(tiny, trained, exported):
    """The station after the export, on the same run."""
    done = tiny.codemix("evaluate", trained)
    assert done.returncode == 0, done.stderr
    scores = json.loads((trained / "scores" / "step-20.json").read_text())
    held_out = {b["corpus"]: b["value"] for b in scores["bits_per_byte"]}
    assert set(held_out) == {"prose", "snippets"}
    assert all(0 < value < 8 for value in held_out.values())
