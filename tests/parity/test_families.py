"""Every family both ways: logits, greedy continuation, and bits of the round trip. Models are small and random, biases and norms too."""

import json

import pytest
import torch
from family_models import FAMILIES, carry, make_model, weights_of
from transformers import AutoConfig

from codemix_megatron.conversion.export import ExportOptions, export_run
from codemix_megatron.errors import ConversionError, RecipeError
from codemix_megatron.megatron.change import is_here
from codemix_megatron.model.config import WITH_EXPERTS
from codemix_megatron.recipe.pretrained import pretrained_model
from codemix_megatron.recipe.schema import Parallel
from codemix_megatron.records.run_folder import RunFolder

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize("name", FAMILIES)
def test_family_goes_both_ways_with_equal_logits_and_equal_bits(name, tmp_path, measured):
    make_model(name, tmp_path / "theirs")
    if "num_experts_per_tok" in FAMILIES[name][1] and not is_here(WITH_EXPERTS):
        with pytest.raises(RecipeError, match="experts are computed with megatron-core"):
            carry(tmp_path / "theirs", tmp_path / "run")
        return
    imported = carry(tmp_path / "theirs", tmp_path / "run")["parity"]
    exported = export_run(RunFolder(tmp_path / "run"), options=ExportOptions(parity=False, max_shard_bytes=200_000))
    before, after = weights_of(tmp_path / "theirs"), weights_of(exported.folder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)
    assert len(list(exported.folder.glob("*.safetensors"))) > 1 and (exported.folder / "model.safetensors.index.json").is_file()
    configs = [AutoConfig.from_pretrained(folder).to_dict() | {"_name_or_path": ""} for folder in (tmp_path / "theirs", exported.folder)]
    configs[1]["rope_parameters"].pop("type", None)  # the name of rope_type before transformers 5
    assert configs[0] == configs[1]
    measured(
        f"{name:<29} logits up to {imported['largest_logit']:5.1f}, at most {imported['largest_logit_difference']:.1e} apart on"
        f" {imported['tokens_compared']} tokens, {imported['greedy_tokens']} greedy tokens equal, {len(before)} tensors bit for bit"
    )
    assert imported["largest_logit_difference"] <= 1e-4
    assert imported["greedy_tokens"] == 2 * 64 and imported["greedy_tokens_different"] == 0


def test_what_would_be_lost_is_named_before_anything_is_written(tmp_path):
    """Settings that no Megatron model here has."""
    make_model("llama", tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    sound = json.loads(path.read_text())
    for changes, words in {
        "biases": ({"attention_bias": True}, "mlp_bias False and attention_bias True; only both or neither"),
        "activation": ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        "rotary": ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rotary scaling 'longrope'"),
        "family": ({"model_type": "gpt_neox"}, "model_type 'gpt_neox'; no model here has LayerNorm with biases"),
        "sliding layers": ({"layer_types": ["sliding_attention"] * 4}, "layer_types sliding_attention"),
        "shape": ({"num_hidden_layers": None}, "num_hidden_layers"),
        "text": ({"hidden_size": "64"}, "hidden_size '64'"),
    }.values():
        path.write_text(json.dumps({**sound, **changes}))
        with pytest.raises(ConversionError, match=words.replace("[", "\\[")):
            carry(tmp_path / "theirs", tmp_path / "run")
    path.write_text("{")
    with pytest.raises(ConversionError, match=r"config.json: cannot be read"):
        carry(tmp_path / "theirs", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_layout_that_does_not_divide_the_model_is_refused(tmp_path):
    make_model("llama", tmp_path / "theirs")
    with pytest.raises(ConversionError, match="3 does not divide model.num_attention_heads 4"):
        pretrained_model(tmp_path / "theirs", Parallel(tensor=3))
    assert pretrained_model(tmp_path / "theirs", Parallel(tensor=2)).padded_vocab_size(259) == 260
    assert pretrained_model(tmp_path / "theirs", Parallel()).padded_vocab_size(259) == 259
