"""What people download: which files of a folder are read, what its config.json may say, what is refused and how."""

import copy
import json

import pytest
import torch
from family_models import FAMILIES as FAMILY_MODELS
from family_models import SHAPE, carry, make_model, weights_of
from safetensors.torch import load_file, save_file

from codemix_megatron.conversion.checkpoint_source import hugging_face_config
from codemix_megatron.conversion.export import ExportOptions, export_run
from codemix_megatron.conversion.safetensors_files import SafetensorsFolder
from codemix_megatron.errors import ConversionError
from codemix_megatron.families.configuration import MISSING_PARTS, config_of_model, model_of_config
from codemix_megatron.families.llama import LLAMA
from codemix_megatron.families.registry import FAMILIES
from codemix_megatron.recipe.schema import Model
from codemix_megatron.records.run_folder import RunFolder

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SOUND = {
    "model_type": "llama",
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}


@pytest.fixture
def llama(tmp_path):
    """A small Llama."""
    make_model("llama", tmp_path / "theirs")
    return tmp_path / "theirs"


def cut(folder, parts: int = 3) -> None:
    """Spread model.safetensors over shards with an index."""
    weights = load_file(folder / WEIGHTS)
    names = [f"model-{n + 1:05d}-of-{parts:05d}.safetensors" for n in range(parts)]
    where = {tensor: names[i % parts] for i, tensor in enumerate(sorted(weights))}
    for name in names:
        save_file({t: weights[t] for t in where if where[t] == name}, folder / name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / WEIGHTS).unlink()


def exported_bits(run, folder) -> dict:
    """Return the tensors that an import gives back."""
    return weights_of(export_run(RunFolder(run), output=folder, options=ExportOptions(parity=False)).folder)


def test_other_files_of_a_download_are_left_alone(llama, tmp_path):
    """Mistral's own format, an adapter, and shards that an earlier download left: transformers reads none of them."""
    before = load_file(llama / WEIGHTS)
    save_file({"layers.0.attention.wq.weight": torch.ones(2)}, llama / "consolidated.safetensors")
    save_file({"base_model.model.q_proj.lora_A.weight": torch.ones(2)}, llama / "adapter_model.safetensors")
    save_file({"model.norm.weight": torch.full((64,), 9.0)}, llama / "model-00001-of-00002.safetensors")
    carry(llama, tmp_path / "run", parity=False)
    after = exported_bits(tmp_path / "run", tmp_path / "out")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_shards_are_taken_from_the_index_and_no_others(llama, tmp_path):
    before = load_file(llama / WEIGHTS)
    cut(llama)
    save_file({"model.norm.weight": torch.full((64,), 9.0)}, llama / "model-00001-of-00002.safetensors")
    carry(llama, tmp_path / "run", parity=False)
    after = exported_bits(tmp_path / "run", tmp_path / "out")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_shard_that_is_missing_is_named_once(llama):
    cut(llama)
    (llama / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ConversionError) as caught:
        SafetensorsFolder(llama)
    assert str(caught.value) == f"{llama}: {INDEX} lists model-00002-of-00003.safetensors (13 tensors), not there; get it again"


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "../../etc/passwd"}}'])
def test_an_index_that_is_none_is_an_error_and_leads_nowhere_else(llama, index):
    (llama / WEIGHTS).unlink()
    (llama / INDEX).write_text(index)
    with pytest.raises(ConversionError, match=r"index\.json"):
        SafetensorsFolder(llama)


def test_folder_with_other_weights_only_says_what_it_found(llama):
    (llama / WEIGHTS).rename(llama / "consolidated.safetensors")
    with pytest.raises(ConversionError, match=r"holds neither model.safetensors nor .*, only consolidated.safetensors; get the model"):
        SafetensorsFolder(llama)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(llama, tmp_path, value):
    weights = load_file(llama / WEIGHTS)
    weights["model.layers.2.self_attn.k_proj.weight"][3, 5] = value
    save_file(weights, llama / WEIGHTS)
    with pytest.raises(ConversionError, match=r"model.layers.2.self_attn.*k_proj.weight.*: 1 of \d+ numbers are NaN or infinite"):
        carry(llama, tmp_path / "run", parity=False)
    assert not (tmp_path / "run" / "checkpoints" / "step-0").exists()


def test_numbers_too_large_for_the_dtype_of_an_export_are_refused(llama, tmp_path):
    weights = load_file(llama / WEIGHTS)
    weights["model.norm.weight"][0] = 1e6
    save_file(weights, llama / WEIGHTS)
    carry(llama, tmp_path / "run", parity=False)
    with pytest.raises(ConversionError, match=r"model.norm.weight: 1 of 64 numbers are NaN or infinite as torch.float16"):
        export_run(RunFolder(tmp_path / "run"), output=tmp_path / "out", options=ExportOptions(parity=False, dtype="fp16"))
    assert not (tmp_path / "out").exists()


def test_norms_in_more_digits_than_the_other_weights_come_out_as_they_were(tmp_path):
    """bf16 with fp32 norms, as some models are published."""
    folder = tmp_path / "theirs"
    make_model("qwen2, tied", folder, dtype=torch.bfloat16)
    weights = {name: t.float() + 1e-4 if "norm" in name else t for name, t in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS)
    carry(folder, tmp_path / "run", parity=False)
    after = exported_bits(tmp_path / "run", tmp_path / "out")
    assert all(torch.equal(weights[name], after[name]) and weights[name].dtype == after[name].dtype for name in weights)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


LONG = {"model_type": "phi3", "original_max_position_embeddings": 32,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}}  # fmt: skip
ODD = [None, True, -1, 0, 1.5, float("nan"), float("inf"), "abc", "64", [], [1], {}, {"a": 1}]
KEYS = [*SOUND, "num_key_value_heads", "head_dim", "rms_norm_eps", "tie_word_embeddings", "initializer_range", "rope_theta", "rope_scaling",
        "rope_parameters", "layer_types", "hidden_act", "partial_rotary_factor"]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_odd_values_of_a_configuration_are_read_or_refused_by_name(key):
    """Every key with values of every kind: an error that names it, or a model that can be written again."""
    for value in ODD:
        try:
            model = model_of_config({**SOUND, key: value}, "there")
        except ConversionError as fault:
            assert "there/config.json: " in str(fault) and key in str(fault), (key, value)
        else:
            assert value is None or isinstance(value, (bool, float, dict)) or not value, (key, value)
            assert all(isinstance(model[name], int) for name in ("num_layers", "hidden_size", "num_attention_heads", "sequence_length"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"rope_scaling": "linear"}, "rope_scaling 'linear' is not a mapping"),
        ({"rope_theta": "abc"}, "rope_theta 'abc' is not a number above 0"),
        ({"layer_types": 3}, "layer_types 3 is not a list of 4 words"),
        ({"rope_scaling": {"type": ["x"]}}, r"rotary scaling \['x'\]"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "rotary scaling linear: factor '2' is not a number above 0"),
        ({"hidden_size": 64.5}, "hidden_size 64.5 is not a whole number above 0"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}}, "say different things"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rotary scaling yarn: original_max_position_embeddings is missing"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8, "truncate": False}}, "truncate False"),
        ({"model_type": "phi3", "rope_scaling": {"type": "linear", "factor": 2.0}}, "only default, longrope can be read of phi3"),
        ({"model_type": "phi3", "partial_rotary_factor": 1.5}, "partial_rotary_factor 1.5 is not a number above 0 and up to 1"),
        ({"partial_rotary_factor": 0.75}, "partial_rotary_factor; only rotary positions over whole heads"),
        ({"model_type": "phi3", "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": "a"}}, "long_factor is not a list"),
        ({**LONG, "rope_scaling": {**LONG["rope_scaling"], "attention_factor": 1.2}}, "attention_factor 1.2; only what follows"),
        ({**LONG, "rope_scaling": {**LONG["rope_scaling"], "original_max_position_embeddings": 64}}, "32 beside 64 in the rotary scaling"),
        ({**LONG, "original_max_position_embeddings": None}, "original_max_position_embeddings None is not a whole number"),
        ({"model_type": "olmo3", "rope_parameters": {"full_attention": {"rope_theta": 1}, "sliding_attention": {"rope_theta": 2}}},
         "layers of different kinds rotate differently"),
        ({"model_type": "olmo3", "layer_types": ["full_attention", *["sliding_attention"] * 3]}, "do not come at one interval"),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0, 1, 1]}, "do not come at one interval"),
        ({"model_type": "cohere2", "layer_types": ["full_attention"] * 4}, "no layer has rotary positions"),
        ({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "linear", "factor": 2.0,
          "rope_theta": 1e4}}, "say different things"),
    ],
)  # fmt: skip
def test_rotary_settings_that_are_none_are_errors(said, words):
    with pytest.raises(ConversionError, match=words):
        model_of_config({**SOUND, **said}, "there")


def test_rotary_settings_are_written_for_readers_old_and_new():
    scaling = {"kind": "llama3", "factor": 8.0, "low_frequency_factor": 1.0, "high_frequency_factor": 4.0, "original_sequence_length": 32}
    model = {key: 1 for _, key, _ in LLAMA.config} | {"rope_base": 5e5, "rope_scaling": scaling}
    config = config_of_model(LLAMA, model, 259)
    assert config["rope_theta"] == 5e5 and config["rope_scaling"]["rope_type"] == "llama3" and config["rope_scaling"]["factor"] == 8.0
    assert config["rope_parameters"] == {**config["rope_scaling"], "rope_theta": 5e5}
    assert model_of_config({**SOUND, **{k: config[k] for k in config if k.startswith("rope")}}, "x")["rope_scaling"] == scaling


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("gemma3", "an encoder of images"),
        ("qwen2_moe", "experts that every token goes through"),
        ("deepseek_v3", "multi-latent attention"),
        ("gpt_bigcode", "LayerNorm with biases"),
        ("granitemoe", "a mixture of experts"),
    ],
)
def test_a_family_that_is_not_there_is_refused_with_what_is_missing(model_type, words):
    with pytest.raises(ConversionError, match=f"model_type '{model_type}'; no model here has .*{words}.*; families that can be read"):
        model_of_config({**SOUND, "model_type": model_type}, "there")
    assert model_type not in FAMILIES and not set(MISSING_PARTS) & set(FAMILIES)


# What transformers writes that no export has to say: shares of dropout, and words for all layers being alike.
LEFT_OUT = {
    "attention_dropout", "embedding_dropout", "residual_dropout", "embd_pdrop", "resid_pdrop", "pretraining_tp", "max_window_layers",
    "original_max_position_embeddings", "output_router_logits", "_sliding_window_pattern", "use_bidirectional_attention",
    "use_cache", "dtype", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id",
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILY_MODELS)
def test_an_export_says_all_that_transformers_says_of_a_family(name, tmp_path):
    """mlx-lm, for one, takes heads of 128 numbers for a Cohere 2 whose config.json does not say how wide they are."""
    from transformers import AutoConfig

    model_type, own = copy.deepcopy(FAMILY_MODELS[name])
    AutoConfig.for_model(model_type, **{**SHAPE, **own}).save_pretrained(tmp_path)
    theirs = json.loads((tmp_path / "config.json").read_text())
    ours = hugging_face_config(FAMILIES[model_type], Model.from_plain(model_of_config(theirs, tmp_path)), SHAPE["vocab_size"])
    lacking = {key for key in theirs.keys() - ours.keys() - LEFT_OUT - {"model_type"} if says_something(theirs[key])}
    assert not lacking and ours.get("head_dim", theirs.get("head_dim")) == theirs.get("head_dim")


def says_something(value) -> bool:
    """Say whether a value of config.json is another than nothing, or that all layers see all."""
    return value is not None and value != ["full_attention"] * SHAPE["num_hidden_layers"]
