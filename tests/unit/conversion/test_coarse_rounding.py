"""Values of tens of thousands in the residual stream, as trained models have: what fp32 loses there is measured, and allowed, and no more."""

import json

import pytest
import torch
from family_models import make_model
from transformers import AutoModelForCausalLM

from codemix_megatron.conversion.parity import TOLERANCE, allowed_difference, hugging_face_model, logits_of

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


def test_a_model_of_ordinary_size_is_held_to_the_tolerance(tmp_path):
    make_model("llama", tmp_path)
    theirs = logits_of(hugging_face_model(tmp_path, torch.float32), ROWS, quiet)
    assert allowed_difference(0.9 * TOLERANCE, tmp_path, ROWS, theirs, quiet) == {"tolerance": TOLERANCE}
    assert allowed_difference(1e-2, tmp_path, ROWS, theirs, quiet)["tolerance"] < 1e-2
