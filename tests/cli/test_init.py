"""codemix init: what it writes is read by the commands that come next; what it refuses leaves nothing behind."""

import json
from pathlib import Path

import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.starter import SIZES
from codemix_megatron.study.segments import build_graph
from codemix_megatron.study.study_file import read_study

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 512,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize("size", SIZES)
def test_every_size_gives_a_recipe_of_the_asked_tokens_and_a_study_with_and_without_code(size, tmp_path, capsys):
    assert main(["init", str(tmp_path / "mine"), "--size", size, "--tokens", "30M"]) == 0
    recipe = read_recipe(tmp_path / "mine" / "recipe.yaml")
    assert sum(phase.tokens for phase in recipe.phases) == pytest.approx(30e6, rel=0.01)
    study = read_study(tmp_path / "mine" / "study.yaml")
    shares = {variant.name: variant.recipe.phases[-1].mixture for variant in study.variants}
    assert {name: "code" in mixture for name, mixture in shares.items()} == {
        f"{arm}-seed-{seed}": arm == "with-code" for arm in ("without-code", "with-code") for seed in (1234, 1235, 1236)
    }
    assert len(build_graph(study).segments) == 12  # three seeds of two shared phases and two cooldowns
    assert "codemix study run" in capsys.readouterr().out


def test_paths_are_those_given_whatever_they_are_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, code = tmp_path / "my: notes #1", tmp_path / 'co"de'
    text.mkdir()
    code.mkdir()
    assert main(["init", "mine", "--text", str(text), "--code", 'co"de']) == 0
    corpora = read_recipe(tmp_path / "mine" / "recipe.yaml").corpora
    assert [[Path(p).resolve() for p in corpora[name].documents] for name in ("text", "code")] == [[text], [code]]


def test_a_public_model_is_trained_on_with_code_in_the_cooldown(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(LLAMA))
    (model / "tokenizer.json").write_text("{}")
    assert main(["init", str(tmp_path / "ours"), "--model", str(model)]) == 0
    recipe = read_recipe(tmp_path / "ours" / "recipe.yaml")
    assert Path(recipe.initial_weights.removeprefix("hf:")).resolve() == model and recipe.model.hidden_size == 64
    assert [phase.name for phase in recipe.phases] == ["continue", "cooldown"] and recipe.phases[-1].mixture["code"] == 0.4
    assert recipe.model.sequence_length <= 4096  # of a training sequence, not the model's 131,072


def test_all_faults_come_at_once_and_nothing_is_written(tmp_path, capsys):
    words = ["--text", str(tmp_path / "nope"), "--size", "10m", "--model", str(tmp_path / "nah"), "--tokens", "abc"]
    assert main(["init", str(tmp_path / "mine"), *words]) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in ("4 faults", "--text", "--tokens: 'abc'", "--size 10m", "nah/config.json"))
    assert not (tmp_path / "mine").exists()


def test_a_recipe_that_is_there_is_left_alone(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "there already" in capsys.readouterr().err and (tmp_path / "recipe.yaml").read_text() == "mine"
