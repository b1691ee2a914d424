"""Values of tens of thousands in the residual stream, as trained models have: what fp32 loses there is measured, and allowed, and no more."""

import json

import pytest
import torch
from family_models import carry, make_model
from transformers import AutoModelForCausalLM

from codemix_megatron.conversion.parity import TOLERANCE, allowed_difference, count_strays, hugging_face_model, hugging_face_side, logits_of

ROWS = [torch.arange(1, 60), torch.arange(60, 120)]


def quiet(what, done, total):
    """Show nothing."""


@pytest.fixture(scope="module")
def massive(tmp_path_factory):
    """A model whose first layer adds a vector of 3e5 to the stream, which the last norm takes back."""
    folder = tmp_path_factory.mktemp("massive")
    make_model("llama", folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight *= 3e4
        model.model.norm.weight *= 10
    model.save_pretrained(folder)
    return folder


def test_no_further_than_rounding_moves_the_model_itself(massive):
    theirs = logits_of(hugging_face_model(massive, torch.float32), ROWS, quiet)
    judge = AutoModelForCausalLM.from_pretrained(massive, dtype=torch.float64)
    with torch.no_grad():
        rounding = max(float((judge(row[None]).logits[0] - logits).abs().max()) for row, logits in zip(ROWS, theirs, strict=True))
    allowed = allowed_difference(2 * TOLERANCE, massive, ROWS, theirs, quiet)
    assert allowed["fp32_rounding"] == rounding
    assert allowed["tolerance"] == max(TOLERANCE, 4 * rounding)
    assert json.dumps(allowed)


@pytest.mark.parametrize("name", ["llama", "mixtral", "olmoe"])
def test_a_model_of_ordinary_size_is_held_to_the_tolerance(name, tmp_path):
    make_model(name, tmp_path)
    theirs = logits_of(hugging_face_model(tmp_path, torch.float32), ROWS, quiet)
    assert allowed_difference(0.9 * TOLERANCE, tmp_path, ROWS, theirs, quiet) == {"tolerance": TOLERANCE}
    assert allowed_difference(1e-2, tmp_path, ROWS, theirs, quiet)["tolerance"] < 1e-2


def test_of_two_tokens_that_rounding_alone_tells_apart_either_may_follow(tmp_path):
    """Every token has a twin whose logit is as good as the same: which of them follows differs between a pass over all and one with a cache."""
    make_model("llama", tmp_path / "theirs")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        rows = model.lm_head.weight
        rows[1:258:2] = rows[:257:2] * (1 + 1e-7 * torch.randn(129, rows.shape[1]))
    model.save_pretrained(tmp_path / "theirs")
    parity = carry(tmp_path / "theirs", tmp_path / "run")["parity"]
    assert parity["greedy_tokens"] == 128 and parity["greedy_tokens_different"] == 0
    assert 0 < parity["cache_difference"] < TOLERANCE


def test_a_token_that_no_rounding_explains_is_another():
    behind = torch.tensor([0.0, 1.2e-5, 3e-4, 2.0])
    assert [count_strays(behind, 0.0, 0.0), count_strays(behind, 0.0, 1e-5), count_strays(behind, 1e-4, 1e-4)] == [3, 2, 1]


def test_what_a_cache_changes_is_measured_on_hugging_face_alone(tmp_path):
    make_model("llama", tmp_path)
    logits, continued, cached = hugging_face_side(tmp_path, ROWS, 128, quiet)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    apart = []
    for row, prompt in continued:
        step, past = model(row[None, :prompt], use_cache=True), None
        for at in range(prompt, len(row)):
            with torch.no_grad():
                apart.append(float((step.logits[0, -1] - model(row[None]).logits[0, at - 1]).abs().max().detach()))
                past = step.past_key_values
                step = model(row[None, at : at + 1], past_key_values=past, use_cache=True)
    assert len(logits) == 2 and len(apart) == 128 and cached == max(apart)
