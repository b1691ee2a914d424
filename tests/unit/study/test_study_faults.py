"""A study's faults are told all at once, with where they stand and what is near."""

import pytest
from small_study import planned, write_study

from codemix_megatron.errors import RecipeError
from codemix_megatron.study.segments import build_graph
from codemix_megatron.study.study_file import read_study


def faults_of(folder, change) -> str:
    """Return what is said of the changed study."""
    with pytest.raises(RecipeError) as caught:
        read_study(write_study(folder, change))
    return str(caught.value)


def setting(**values):
    """Return a change that sets keys of the study."""
    return lambda study: study.update(values)


def overriding(**overrides):
    """Return a change that gives one variant these overrides."""
    return lambda study: study["variants"].update(plain={"overrides": overrides})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (setting(axis={}), "axis: no such key; did you mean axes?"),
        (setting(axes={"sed": [1, 2]}), "sed: no such key; did you mean seed? (in every variant)"),
        (setting(axes={"seed": [1, 1]}), "axes.seed: seed-1 is there twice"),
        (setting(axes={"seed": 3}), "axes.seed: found 3, needs a mapping point -> {a.b: value}, or a list of values of the key seed"),
        (setting(axes={"size": {"s": {"model.layers": 2}}}), "model.layers: no such key; did you mean num_layers?"),
        (
            setting(variants={"a": None, "a-b": None}, axes={"x": {"b-c": {}, "c": {}}}),
            "two variants are called a-b-c: a x b-c and a-b x c",
        ),
        (setting(variants={"a/b": None}), "the name 'a/b' has to begin with a letter or digit"),
        (setting(variants={}), "variants: found an empty mapping; needs a mapping name -> {phases: [...]}, or axes"),
        (lambda study: study.pop("variants"), "variants: missing; needs a mapping name -> {phases: [...]}, or axes"),
        (setting(exclude=[{"variant": "*"}]), "variants: none is left after include and exclude"),
        (setting(exclude=[{"variants": "plain"}]), "exclude[0].variants: no such axis; did you mean variant?"),
        (setting(include=[{"variant": "plane"}]), "include[0].variant: 'plane' matches none of plain, longer, no-code"),
        (
            setting(variants={"a": {"after": "b", "phases": ["text"]}, "b": {"after": "a", "phases": ["text"]}}),
            "variants.a.after: a cycle, a after b after a",
        ),
        (setting(variants={"a": {"after": "c", "phases": ["text"]}}), "variants.a.after: no variant 'c'"),
        (setting(variants={"a": {"phases": ["balance"]}}), "variants.a.phases[0]: no phase 'balance'; did you mean balanced?"),
        (setting(variants={"a": {"phase": ["balanced"]}}), "variants.a.phase: no such key; did you mean phases?"),
        (setting(base="nowhere.yaml"), "nowhere.yaml: cannot be read (No such file or directory)"),
        (setting(base="study.yaml"), "base: study.yaml is a study itself; give a recipe"),
        (lambda study: study.pop("base"), "base: missing; it is the path of the recipe that variants change"),
        (setting(device="h1000"), "device: no device 'h1000'; did you mean h100?"),
        (setting(limit=0), "limit: found 0, needs the most runs at a time, at least 1"),
        (setting(score={"suite": ["paper"]}), "score.suite: no such key; did you mean suites?"),
        (setting(score={"suites": ["papers"]}), "evaluation.suites[0]: no suite 'papers'"),
        (
            overriding(**{"phases.cooldown.mixture": {"prose": 0.5}}),
            "phases[1].mixture: shares add up to 0.5, not 1 (prose 0.50) (in plain)",
        ),
        (
            overriding(**{"phases.cool.tokens": "2M"}),
            "variants.plain.overrides: phases.cool.tokens: no phase 'cool'; did you mean cooldown?",
        ),
        (overriding(**{"seed.x": 1}), "variants.plain.overrides: seed.x: 'x' cannot be set inside 7"),
    ],
)
def test_fault_is_named_with_its_place(tmp_path, change, said):
    assert said in faults_of(tmp_path, change)


def test_all_faults_come_at_once_and_each_once(tmp_path):
    said = faults_of(tmp_path, setting(axes={"x": {"p": {"seeds": 1}, "q": {"model.block": "round"}}}))
    assert "2 faults" in said and said.count("seeds: no such key") == 1 and "model.block: found 'round'" in said
    assert "(in plain-p, longer-p, no-code-p)" in said


def test_other_documents_under_one_prefix_are_refused(tmp_path):
    said = faults_of(tmp_path, overriding(**{"corpora.prose.documents": ["other.jsonl"]}))
    assert "corpora.prose.prefix: longer and plain prepare different files as" in said


def test_corpus_that_a_chain_reads_too_often_is_refused_with_the_run(tmp_path):
    graph = build_graph(read_study(write_study(tmp_path)))
    with pytest.raises(RecipeError) as caught:
        planned(graph, {"prose": 2200, "snippets": 10**6})
    said = str(caught.value)
    assert "no-code: corpora.prose: " in said and "are asked for (before the branch" in said and "at most 4 are allowed" in said
