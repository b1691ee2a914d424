"""A recipe says what is wrong with it: all at once, where, what was found, what is allowed."""

import copy
from dataclasses import fields, is_dataclass, replace
from typing import get_args, get_origin, get_type_hints

import pytest
from tiny_run import RECIPE

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.checks import find_faults
from codemix_megatron.recipe.layout_checks import ranks_fault
from codemix_megatron.recipe.mixture_shares import flatten_mixture
from codemix_megatron.recipe.reading import build_recipe, read_recipe, write_recipe
from codemix_megatron.recipe.schema import CorpusSpec, Optimizer, Parallel, Phase, Recipe
from codemix_megatron.recipe.yaml_text import apply_overrides, parse_yaml


def faults_of(*overrides, base=RECIPE) -> list[str]:
    """Return the faults of the tiny recipe with overrides."""
    plain = apply_overrides(copy.deepcopy(base), overrides)
    try:
        build_recipe(plain, directory="/nowhere")
    except RecipeError as error:
        return error.faults
    return []


def test_tiny_recipe_has_no_fault():
    assert faults_of() == []


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("modle.num_layers=2", "modle: no such key; did you mean model?"),
        ("model.num_layer=2", "model.num_layer: no such key; did you mean num_layers?"),
        ("model.num_layers=two", "model.num_layers: found 'two', needs a whole number"),
        ("model.num_layers=true", "model.num_layers: found True, needs a whole number"),
        ("model.precision=fp8", "model.precision: found 'fp8', allowed are fp32, bf16"),
        ("model.shape=11m", "model.shape: found '11m', allowed are 10m, 50m, 470m, 2.8b"),
        ("model.block=both", "model.block: found 'both', allowed are sequential, parallel"),
        ("model.fp8=delayed", "model.fp8: delayed needs model.precision bf16, found fp32"),
        ("model.dropout=1", "model.dropout: found 1.0, must be at least 0 and below 1"),
        ("parallel.context=3", "parallel.context: 2 x 3 does not divide model.sequence_length 64"),
        (
            "parallel.context=2",
            "parallel.context: needs model.precision bf16, found fp32; Transformer Engine has no kernel for it there",
        ),
        ("model.hidden_size=66", "model.hidden_size: 66 does not divide into 4 attention heads"),
        ("model.num_query_groups=3", "model.num_query_groups: 4 attention heads do not divide into 3 groups"),
        ("parallel.tensor=8", "parallel.tensor: 8 does not divide model.num_attention_heads 4; [1, 2, 4] would"),
        ("parallel.pipeline=3", "parallel.pipeline: pipeline = 3 does not divide model.num_layers 4"),
        ("parallel.virtual_pipeline=2", "parallel.virtual_pipeline: needs pipeline of at least 2"),
        ("parallel.sequence_parallel=true", "parallel.sequence_parallel: needs tensor of at least 2"),
        ("batch.micro_sequences=3", "batch.global_sequences: 8 is not a multiple of micro_sequences 3 x data parallel 1 = 3"),
        ("phases.0.tokens=100", "phases[0].tokens: 100 is less than one global batch of 512 tokens"),
        ("phases.0.tokens=-5", "phases[0].tokens: -5 is not a positive count; write 40000, 40_000, 1.5M or 200B"),
        ("phases.1.name=balanced", "phases[1].name: 'balanced' is used twice"),
        ("phases.0.mixture={prose: 0.6, snippets: 0.35}", "phases[0].mixture: shares add up to 0.95, not 1 (prose 0.60, snippets 0.35)"),
        ("phases.0.mixture={prose: 1.2, snippets: -0.2}", "phases[0].mixture.snippets: share -0.2 is not between 0 and 1"),
        ("phases.0.mixture={prose: 0.5, wiki: 0.5}", "phases[0].mixture.wiki: no such corpus; corpora are prose, snippets"),
        (
            "phases.0.mixture={prose: 0.5, code: {share: 0.5, mixture: {snippets: 0.9}}}",
            "phases[0].mixture.code.mixture: shares add up to 0.9, not 1 (snippets 0.90)",
        ),
        ("phases.0.learning_rate.peak=0", "phases[0].learning_rate.peak: found 0.0, must be above 0"),
        ("phases.0.learning_rate.warmup_tokens=1M", "phases[0].learning_rate.warmup_tokens: 1000000 is more than the phase's 6144 tokens"),
        ("corpora.snippets.prefix=corpora/prose", "corpora.snippets.prefix: /nowhere/corpora/prose is also that of corpora.prose"),
        (
            "corpora.snippets.documents=prose.jsonl",
            "corpora.snippets.documents[0]: /nowhere/prose.jsonl is also read by corpora.prose; one of them has to go",
        ),
        (
            "evaluation.suites=[bits]",
            "evaluation.suites[0]: no suite 'bits'; built in are bits_per_byte, rolling_bits_per_byte, continuation, paper, small, languages,"
            " others are paths of YAML files or come with a plugin",
        ),
        ("evaluation.held_out_share=0.9", "evaluation.held_out_share: found 0.9, allowed are 0 to 0.5"),
        ("optimizer.betas=[0.9]", "optimizer.betas: found a list of 1, needs a list of 2"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas[1]: found 1.0, must be at least 0 and below 1"),
    ],
)
def test_fault_is_told_in_these_words(override, fault):
    assert fault in faults_of(override)


def test_context_parallel_ranks_have_no_windows_and_no_borders_of_documents():
    overrides = ("parallel.context=2", "model.precision=bf16")
    assert faults_of(*overrides) == []
    assert faults_of(*overrides, "model.sliding_window=64") == []  # it sees all
    assert faults_of(*overrides, "model.sliding_window=16") == [
        "parallel.context: model.sliding_window is not there with it; set one of them back"
    ]
    assert faults_of(*overrides, "sequences.attention_within_documents=true") == [
        "parallel.context: sequences.attention_within_documents is not there with it; set one of them back"
    ]


def numbers_of(block=Recipe, path: str = "") -> list[tuple[str, type]]:
    """Return (path, type) of every number a recipe may hold; the tiny recipe's own corpora and first phase stand for all."""
    found = []
    for declared in fields(block):
        hint, here = get_type_hints(block)[declared.name], f"{path}{declared.name}"
        inner = next((h for h in (hint, *get_args(hint)) if is_dataclass(h)), None)
        if declared.name in ("phases", "corpora"):
            inner, here = (Phase, "phases.0") if declared.name == "phases" else (CorpusSpec, "corpora.prose")
        if inner is not None:
            found += numbers_of(inner, f"{here}.")
        elif (number := next((h for h in (hint, *get_args(hint)) if h in (int, float)), None)) and get_origin(hint) is not dict:
            found.append((f"{here}", number))
    return found


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1" + "0" * 400, "1e999999999", "1208925819614629174706176"])
def test_no_number_of_a_recipe_may_be_endless_or_none(value):
    paths = [path for path, _ in numbers_of()]
    assert {"seed", "corpora.prose.max_epochs", "phases.0.learning_rate.peak", "optimizer.epsilon", "phases.0.tokens"} <= set(paths)
    for path, kind in numbers_of():
        if kind is float and value.startswith("12"):
            continue  # finite
        leaf = path.rpartition(".")[2]
        assert any(leaf in fault for fault in faults_of(f"{path}={value}")), f"{path}={value} has no fault"


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("corpora.prose.max_epochs=.nan", "corpora.prose.max_epochs: found nan, needs a finite number"),
        ("phases.0.learning_rate.peak=.inf", "phases[0].learning_rate.peak: found inf, needs a finite number"),
        ("phases.0.mixture={prose: .nan, snippets: 1.0}", "phases[0].mixture.prose: found nan, needs a finite number"),
        ("seed=1208925819614629174706176", "seed: found a number of more than 62 bits, needs a finite number"),
        ("seed=-1", "seed: found -1, allowed are 0 to 4611686018427387903"),
        ("optimizer.epsilon=0", "optimizer.epsilon: found 0.0, must be above 0; 1e-8 is usual"),
        ("phases.0.tokens=1e30", "phases[0].tokens: '1e30' is more than 1e+18 tokens, the most that is counted"),
    ],
)
def test_endless_numbers_are_told_in_these_words(override, fault):
    assert fault in faults_of(override)


def test_number_of_thousands_of_digits_is_no_crash():
    with pytest.raises(RecipeError, match="is not YAML"):
        parse_yaml("seed: 1" + "0" * 5000, where="here")


def test_virtual_pipeline_needs_micro_batches_in_multiples_of_the_pipeline():
    words = faults_of("parallel.pipeline=2", "parallel.virtual_pipeline=2", "batch.global_sequences=6")
    assert any("3 micro batches are not a multiple of pipeline 2" in fault for fault in words)


def test_all_faults_come_at_once():
    overrides = [
        "modle.x=1",
        "model.num_layer=2",
        "parallel.tensor=8",
        "phases.0.mixture={prose: 0.6, snippets: 0.35}",
        "optimizer.epsilon=-1",
    ]
    faults = faults_of(*overrides)
    assert len(faults) >= 5
    for start in ("modle", "model.num_layer", "parallel.tensor", "phases[0].mixture", "optimizer.epsilon"):
        assert any(fault.startswith(start) for fault in faults), start


def test_missing_keys_are_told_with_their_meaning():
    plain = copy.deepcopy(RECIPE)
    del plain["model"]["num_layers"], plain["batch"]
    with pytest.raises(RecipeError) as caught:
        build_recipe(plain, directory="/nowhere")
    assert "model.num_layers: missing; it is the transformer layers" in caught.value.faults
    assert any(fault.startswith("batch: missing") for fault in caught.value.faults)


def test_share_of_zero_is_legal():
    assert faults_of("phases.0.mixture={prose: 1.0, snippets: 0.0}") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: key 'a' is given twice"),
        ("a: [1\n", "line 2"),
        ("- a\n", "holds a list of 1, not a mapping of keys"),
    ],
)
def test_yaml_faults_name_their_line(text, words):
    with pytest.raises(RecipeError, match=r"recipe\.yaml: ") as caught:
        parse_yaml(text, where="recipe.yaml")
    assert words in str(caught.value)


def test_yaml_oddities_are_read_as_meant(tmp_path):
    plain = copy.deepcopy(RECIPE)
    plain["phases"][0]["learning_rate"]["peak"] = "3e-4"  # what YAML 1.1 makes of 3e-4
    plain["observers"]["wandb"] = False  # what it makes of off
    recipe = build_recipe(plain, directory=tmp_path)
    assert recipe.phases[0].learning_rate.peak == 3e-4
    assert recipe.observers.wandb == "off"


@pytest.mark.parametrize("number", ["0123", "-010", "00", "1:30", "24:00", "1:30:00.5"])
def test_number_that_yaml_takes_for_another_is_refused(number):
    """YAML 1.1 makes 83 of 0123, and 1440 of 24:00, as Slurm's users write a day."""
    with pytest.raises(RecipeError, match=rf"line 1, column 7: {number}: YAML would read another number"):
        parse_yaml(f"time: {number}\n", where="x")
    with pytest.raises(RecipeError, match=f"{number}: YAML would read another number"):
        apply_overrides({}, [f"seed={number}"])
    assert parse_yaml(f"a: '{number}'\nb: 0\nc: 0.5\nd: 0x10\ne: 1_000\n", where="x") == {"a": number, "b": 0, "c": 0.5, "d": 16, "e": 1000}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.num_layers", "is not of the form key.key=value"),
        ("phases.7.tokens=1M", "'7' is not an index; there are 2 entries, from 0"),
        ("name.first=x", "'first' cannot be set inside 'tiny'"),
    ],
)
def test_override_that_cannot_be_set_is_told(override, words):
    with pytest.raises(RecipeError) as caught:
        apply_overrides(copy.deepcopy(RECIPE), [override])
    assert words in str(caught.value)


def test_resolved_recipe_reads_back_equal_and_paths_are_beside_the_file(tmp_path):
    recipe = build_recipe(copy.deepcopy(RECIPE), directory=tmp_path / "here")
    assert recipe.corpora["prose"].documents == (str(tmp_path / "here" / "prose.jsonl"),)
    assert recipe.corpora["prose"].prefix == str(tmp_path / "here" / "corpora" / "prose")
    (tmp_path / "recipe.yaml").write_text(write_recipe(recipe))
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


def test_missing_recipe_is_told(tmp_path):
    with pytest.raises(RecipeError, match=r"gone.yaml: cannot be read \(No such file or directory\)"):
        read_recipe(tmp_path / "gone.yaml")


def test_shares_in_tokens_and_in_groups_are_shares_of_the_phase():
    mixture = {"prose": {"tokens": 600}, "code": {"tokens": 400, "mixture": {"web": {"tokens": 300}, "markup": {"tokens": 100}}}}
    assert flatten_mixture(mixture, 1000, {}) == {"prose": 0.6, "web": pytest.approx(0.3), "markup": pytest.approx(0.1)}
    same = {"prose": 0.6, "code": {"share": 0.4, "mixture": {"web": 0.75, "markup": 0.25}}}
    assert flatten_mixture(same, 1000, {}) == pytest.approx(flatten_mixture(mixture, 1000, {}))


@pytest.mark.parametrize(("temperature", "shares"), [(1, (0.1, 0.9)), (2, (0.25, 0.75)), (1e9, (0.5, 0.5))])
def test_proportional_mixture_goes_by_size_and_temperature(temperature, shares):
    mixture = {"proportional": "tokens", "temperature": temperature, "corpora": ["a", "b"]}
    assert tuple(flatten_mixture(mixture, 100, {"a": 100, "b": 900}).values()) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("parallel", "num_ranks", "words"),
    [
        (Parallel(tensor=2, pipeline=2), 4, None),
        (Parallel(tensor=2), 6, None),
        (Parallel(tensor=2), 3, "3 ranks do not divide into copies of 2 (tensor 2 x pipeline 1); use a multiple of 2"),
        (Parallel(tensor=2, data=1), 4, "use 2 ranks or change parallel.data"),
    ],
)
def test_ranks_must_form_the_layout(parallel, num_ranks, words):
    fault = ranks_fault(parallel, num_ranks)
    assert fault is None if words is None else words in fault


def test_shape_stands_for_its_keys_and_those_beside_it_win():
    plain = {**copy.deepcopy(RECIPE), "model": {"shape": "10m", "num_layers": 2}}
    model = build_recipe(plain, directory="/nowhere").model
    assert (model.num_layers, model.hidden_size, model.block, model.normalization) == (2, 320, "parallel", "layernorm")


def test_mup_is_refused_for_a_model_that_begins_with_public_weights():
    """It scales how a model begins; weights that were trained otherwise would learn at rates that are not theirs."""
    recipe = build_recipe(copy.deepcopy(RECIPE), directory="/nowhere")
    scaled = replace(recipe, optimizer=Optimizer(transfer="mup", base_width=32))
    assert not find_faults(scaled)
    (fault,) = find_faults(replace(scaled, initial_weights="hf:/models/SmolLM2-135M"))
    assert fault.startswith("optimizer.transfer: mup scales how a model begins") and "hf:/models/SmolLM2-135M" in fault
