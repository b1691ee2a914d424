"""A plan's numbers: exact tokens, parameters of the real model, refusals before a run starts."""

import copy
import dataclasses

import pytest
from tiny_run import RECIPE

from codemix_megatron.errors import CorpusError, RecipeError
from codemix_megatron.plan.cost import count_parameters, training_flops_per_token
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.schema import Model
from codemix_megatron.recipe.yaml_text import apply_overrides
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata

METADATA = TokenizerMetadata(type="none", path="", sha256="t", vocab_size=500, end_of_document_id=0)


def manifest(name: str, tokens: int) -> CorpusManifest:
    """Return a manifest of a corpus nobody has to read."""
    return CorpusManifest(
        name=name, kind="text", prefix=name, dtype="uint16", num_documents=9, num_tokens=tokens, num_bytes=1, train_documents=9,
        train_tokens=tokens, train_bytes=1, held_out_share=0, tokenizer=METADATA, bin_sha256=name, idx_sha256="", documents=[], input_fingerprint="",
    )  # fmt: skip


def planned(*overrides, prose=20_000, snippets=20_000):
    """Plan the tiny recipe."""
    recipe = build_recipe(apply_overrides(copy.deepcopy(RECIPE), overrides), directory="/nowhere")
    return make_plan(recipe, {"prose": manifest("prose", prose), "snippets": manifest("snippets", snippets)})


def test_tokens_of_sources_phases_and_run_add_up_exactly():
    plan = planned("phases.0.mixture={prose: 0.3333, snippets: 0.6667}", "phases.0.tokens=6300")
    assert plan.phases[0].steps == 12 and plan.phases[0].tokens == 6144 and plan.phases[0].asked_tokens == 6300
    for phase in plan.phases:
        assert sum(s.tokens for s in phase.sources.values()) == phase.tokens == phase.steps * plan.batch_tokens
    assert sum(s["tokens"] for s in plan.sources.values()) == plan.tokens == plan.steps * plan.batch_tokens
    assert plan.phases[1].first_step == 13


def test_epochs_run_on_across_phases():
    plan = planned()
    balanced, cooldown = (p.sources["prose"] for p in plan.phases)
    assert balanced.epochs_before == 0 and cooldown.epochs_before == balanced.epochs_after
    assert cooldown.epochs_after == pytest.approx(plan.sources["prose"]["epochs"])


def test_more_epochs_than_allowed_are_refused_with_tokens_and_phases():
    with pytest.raises(RecipeError) as caught:
        planned(prose=1000)
    text = str(caught.value)
    assert "corpora.prose" in text and "it holds 1000" in text and "at most 4 are allowed" in text
    assert "balanced 3072" in text and "cooldown" in text and "corpora.prose.max_epochs" in text
    assert planned("corpora.prose.max_epochs=10", prose=1000).sources["prose"]["epochs"] > 4


def test_run_too_long_to_be_counted_is_refused_when_it_is_planned():
    with pytest.raises(RecipeError, match=r"data order and counts are exact up to 35184372088832 of them"):
        planned("phases.0.tokens=9000T", prose=10**18, snippets=10**18)
    long = planned("phases.0.tokens=15T", "phases.1.tokens=1T", "model.sequence_length=2048", prose=10**13, snippets=10**13)
    located = long.mixture().locate([0, 5 * 10**9, len(long.mixture()) - 1])
    assert located.epoch.min() >= 0 and located.sequence.min() >= 0


def test_corpus_smaller_than_a_sequence_is_refused_unless_nothing_is_drawn_from_it():
    with pytest.raises(RecipeError, match="50 training tokens do not fill one sequence of 64"):
        planned(prose=50)
    none = "{prose: 0.0, snippets: 1.0}"
    assert planned(f"phases.0.mixture={none}", f"phases.1.mixture={none}", prose=50).sources["prose"]["tokens"] == 0


def test_missing_and_mismatched_corpora_are_told_at_once(tmp_path):
    plain = copy.deepcopy(RECIPE)
    recipe = build_recipe(plain, directory=tmp_path)
    with pytest.raises(CorpusError) as caught:
        read_manifests(recipe)
    assert str(caught.value).count("run `codemix prepare RECIPE` first") == 2
    for name, sha in (("prose", "one"), ("snippets", "two")):
        prefix = recipe.corpora[name].prefix
        made = dataclasses.replace(manifest(name, 4), prefix=prefix, tokenizer=dataclasses.replace(METADATA, sha256=sha))
        made.write()
        for suffix in (".bin", ".idx"):
            with open(prefix + suffix, "wb") as handle:
                handle.write(b"x" * 8)
    with pytest.raises(CorpusError, match="made with different tokenizers"):
        read_manifests(recipe)


SHAPES = (
    {},
    {"num_query_groups": 2},
    {"tie_embeddings": False},
    {"ffn_hidden_size": None},
    {"qkv_bias": True},
    {"qk_norm": True, "head_dim": 32},
)


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_of_the_real_model(shape):
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    from codemix_megatron.conversion.checkpoint_source import hugging_face_config
    from codemix_megatron.families.registry import FAMILIES

    model = Model(**{"num_layers": 3, "hidden_size": 64, "num_attention_heads": 4, "ffn_hidden_size": 128, "sequence_length": 32, **shape})
    with torch.device("meta"):
        family = FAMILIES["qwen3" if model.qk_norm else "qwen2" if model.qkv_bias else "llama"]
        real = AutoModelForCausalLM.from_config(AutoConfig.for_model(family.model_type, **hugging_face_config(family, model, 512)))
    counted = count_parameters(model, 500)  # padded to 512
    assert counted.total == real.num_parameters()
    embedding = real.model.embed_tokens.weight.numel() * (1 if model.tie_embeddings else 2)
    assert counted.without_embedding == real.num_parameters() - embedding


def test_flops_are_six_per_matrix_entry_and_causal_attention_once():
    model = Model(num_layers=2, hidden_size=8, num_attention_heads=2, num_query_groups=1, ffn_hidden_size=16, sequence_length=10)
    matrices = 2 * (8 * (8 + 2 * 4) + 8 * 8 + 3 * 8 * 16) + 128 * 8
    attention = 2 * 3 * 2 * 2 * 8 * 10 // 2  # layers x (forward + backward) x two products x multiply-add x hidden x length / 2
    assert training_flops_per_token(model, 100) == 6 * matrices + attention


def test_changed_corpus_is_noticed_when_a_run_is_resumed(tmp_path):
    from codemix_megatron.recipe.reading import write_recipe
    from codemix_megatron.records.atomic import write_json
    from codemix_megatron.records.run_folder import RunFolder
    from codemix_megatron.train.folder import check_run

    recipe = build_recipe(copy.deepcopy(RECIPE), directory=tmp_path)
    run, plan = RunFolder(tmp_path / "run"), planned()
    assert check_run(run, recipe, plan) is False
    run.path.mkdir()
    run.recipe.write_text(write_recipe(recipe))
    write_json(run.plan, plan.as_json())
    write_json(run.environment, {})
    assert check_run(run, recipe, plan) is True
    sources = {**plan.sources, "prose": {**plan.sources["prose"], "bin_sha256": "other"}}
    with pytest.raises(RecipeError, match="corpora prose have changed since it began"):
        check_run(run, recipe, dataclasses.replace(plan, sources=sources))


def test_small_run_repeats_its_corpora_as_often_as_the_run_it_stands_for():
    """A tenth of the tokens with sequences.corpus_share=0.1: the epochs of every source are those of the large run, to a sequence."""
    phases = ["phases.0.tokens=61440", "phases.1.tokens=30720"]
    large = planned(*phases, prose=20_000, snippets=30_000)
    small = planned("phases.0.tokens=6144", "phases.1.tokens=3072", "sequences.corpus_share=0.1", prose=20_000, snippets=30_000)
    for name in ("prose", "snippets"):
        assert small.sources[name]["epochs"] == pytest.approx(large.sources[name]["epochs"], rel=0.05)
        assert small.sources[name]["stored_sequences"] == large.sources[name]["sequences_per_epoch"]
    located = small.mixture().locate(range(small.steps * small.global_sequences))
    read = {i: set(located.sequence[located.source == i].tolist()) for i in range(2)}
    for i, name in enumerate(small.sources):
        assert len(read[i]) == min(small.sources[name]["sequences"], small.sources[name]["sequences_per_epoch"])
        assert max(read[i]) > 0.8 * small.sources[name]["stored_sequences"] * small.sources[name]["share_seen"]
    with pytest.raises(RecipeError, match=r"sequences\.corpus_share: found 1\.5, allowed are above 0 to 1"):
        planned("sequences.corpus_share=1.5")
