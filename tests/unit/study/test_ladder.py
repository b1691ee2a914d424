"""A ladder: sizes, tokens, learning rate and batch by published rules; and what its runs say of the gain in FLOPs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from tiny_run import RECIPE

from codemix_megatron.analysis.compute_gain import compute_gains
from codemix_megatron.cli.main import main
from codemix_megatron.plan.cost import count_parameters
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.report.compute_gains import compute_gain_sections
from codemix_megatron.study.ladder import model_of_size, rungs_of
from codemix_megatron.study.study_file import read_study


@pytest.fixture
def recipe(tmp_path):
    """The tiny recipe with a longer first phase."""
    first, last = RECIPE["phases"]
    plain = {**RECIPE, "phases": [{**first, "tokens": 200_000}, {**last, "tokens": 50_000}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    return build_recipe(plain, directory=tmp_path)


@pytest.mark.parametrize("parameters", [10**6, 5 * 10**6, 4 * 10**7, 3 * 10**8])
def test_sizes_are_met_with_the_base_s_proportions(recipe, parameters):
    model = model_of_size(recipe.model, parameters, 4096)
    assert count_parameters(model, 4096).total == pytest.approx(parameters, rel=0.25)
    assert model.head_size == recipe.model.head_size and model.hidden_size % model.num_attention_heads == 0
    assert model.hidden_size / model.num_layers == pytest.approx(recipe.model.hidden_size / recipe.model.num_layers, rel=0.35)
    assert model.num_attention_heads / model.query_groups == recipe.model.num_attention_heads / recipe.model.query_groups


def test_rates_and_batches_move_as_the_rules_say(recipe):
    """Judge: the exponents as published, written out here; the base's own size and tokens leave everything as it is."""
    base = count_parameters(recipe.model, 512)
    at_base = rungs_of(recipe, [base.total], [250_000 / base.total], "step", 512)[0]
    assert at_base.rate_factor == pytest.approx(1, abs=0.01) and at_base.global_sequences == recipe.batch.global_sequences
    for rule in ("step", "deepseek", "mup"):
        (rung,) = rungs_of(recipe, [8 * 10**6], [20], rule, 512)
        larger = count_parameters(rung.model, 512)
        n, d = larger.without_embedding / base.without_embedding, rung.tokens / 250_000
        rate = {"step": n**-0.713 * d**0.307, "deepseek": (n * d) ** -0.125, "mup": recipe.model.hidden_size / rung.model.hidden_size}[rule]
        batch = {"step": d**0.571, "deepseek": (n * d) ** 0.3271, "mup": 1.0}[rule]
        assert rung.rate_factor == pytest.approx(rate, rel=1e-6)
        assert rung.global_sequences == pytest.approx(8 * batch, abs=2) and rung.global_sequences % 2 == 0


def test_command_writes_a_study_that_can_be_read(recipe, tmp_path, capsys):
    blocks = [{"purpose": "best", "predicted": 1.0, "phases": [
        {"name": "balanced", "share_of_tokens": 0.8, "mixture": {"prose": 0.3, "snippets": 0.7}},
        {"name": "cooldown", "share_of_tokens": 0.2, "mixture": {"prose": 1.0}},
    ]}]  # fmt: skip
    (tmp_path / "proposals.yaml").write_text(yaml.safe_dump(blocks, sort_keys=False))
    words = ["study", "ladder", str(tmp_path / "recipe.yaml"), "--sizes", "1M,4M", "--tokens-per-parameter", "2,8"]
    assert main([*words, "--mixtures", str(tmp_path / "proposals.yaml"), "--output", str(tmp_path / "ladder.yaml")]) == 0
    assert "4 rungs x 2 mixtures" in capsys.readouterr().out
    study = read_study(tmp_path / "ladder.yaml")
    assert len(study.variants) == 8 and {variant.variant for variant in study.variants} == {"base", "best"}
    small, *_, large = [variant.recipe for variant in study.variants if variant.variant == "best"]
    assert small.phases[1].mixture == {"prose": 1.0} and large.model.hidden_size > small.model.hidden_size
    assert large.phases[0].tokens == pytest.approx(4 * large.phases[1].tokens, rel=1e-4)
    assert large.phases[0].learning_rate.peak < 0.003 and large.phases[0].learning_rate.warmup_tokens > 1024


@pytest.mark.parametrize("others, message", [
    (["--sizes", "many"], "--sizes: 'many' is not a positive count"),
    (["--sizes", "1M", "--tokens-per-parameter", "0"], "--tokens-per-parameter: found '0', needs numbers above 0"),
    (["--sizes", "1M", "--tokens-per-parameter", "0.001"], "fewer than ten batches"),
    (["--sizes", "1M", "--mixtures", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
])  # fmt: skip
def test_faults_are_told(recipe, tmp_path, capsys, others, message):
    assert main(["study", "ladder", str(tmp_path / "recipe.yaml"), *others, "--output", str(tmp_path / "out.yaml")]) == 2
    assert message in capsys.readouterr().err and not Path(tmp_path / "out.yaml").exists()


def law(flops: np.ndarray) -> np.ndarray:
    """Return the losses of a reference whose truth is a power law."""
    return 2 + 50 * flops**-0.15


FLOPS = np.geomspace(1e12, 1e15, 13)


def test_gain_is_how_many_times_the_reference_s_flops_a_loss_would_take():
    """A mixture that needs a third of the FLOPs everywhere has a gain of 3, but where the reference has no such loss."""
    gains = compute_gains((FLOPS, law(FLOPS)), (FLOPS, law(3 * FLOPS)))
    inside = [gain for gain in gains if not gain.bound]
    assert len(inside) >= 10 and [gain.gain for gain in inside] == pytest.approx([3.0] * len(inside), rel=0.02)
    assert gains[-1].bound == "at least" and gains[-1].gain == pytest.approx(1.0)
    worse = compute_gains((FLOPS, law(FLOPS)), (FLOPS, law(FLOPS / 2)))
    assert worse[0].bound == "at most" and worse[5].gain == pytest.approx(0.5, rel=0.02)


def test_runs_that_a_cheaper_one_beats_say_nothing():
    wasteful = np.concatenate([law(FLOPS), law(FLOPS) + 0.5])
    gains = compute_gains((np.concatenate([FLOPS, 2 * FLOPS]), wasteful), (FLOPS[3:5], law(2 * FLOPS[3:5])))
    assert [gain.gain for gain in gains] == pytest.approx([2.0, 2.0], rel=0.02)


def test_report_of_a_ladder_has_the_gain_of_each_mixture():
    runs = []
    for variant, factor in (("base", 1.0), ("best", 2.0)):
        for tokens in (10**6, 10**7, 10**8):
            plan = {"flops": {"per_token": 1e6}}
            runs.append(SimpleNamespace(variant=variant, plan=plan, scored_tokens=tokens, bits=float(law(np.array(factor * tokens * 1e6)))))
    measure = SimpleNamespace(label="text", unit="bits per byte", value=lambda run: run.bits, content=lambda run: "the same windows")
    (section,) = compute_gain_sections(runs, [measure])
    (table,) = section.blocks
    assert [row[1] for row in table.rows] == ["best"] * 3 and float(table.rows[0][4].text) == pytest.approx(2.0, rel=0.1)
    assert table.rows[2][4].text.startswith("at least") and table.rows[0][4].tone == "good"
    assert not compute_gain_sections(runs[:2] + runs[3:], [measure]), "two amounts of FLOPs are no curve"
