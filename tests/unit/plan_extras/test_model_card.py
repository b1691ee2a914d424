"""The model card of an export names the whole way of the weights, and the Hub reads its scores. Judge: huggingface_hub's own parser."""

import json
import math
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from test_megatron_arguments import manifest

from codemix_megatron.checkpoint.metadata import write_metadata
from codemix_megatron.conversion.lineage import corpora_read, lineage, without_folders
from codemix_megatron.conversion.model_card import model_card, renew_model_card, write_model_card
from codemix_megatron.plan.plan import make_plan
from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.recipe.schema import Branch, as_plain
from codemix_megatron.records.atomic import write_json
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import BitsPerByte, Scores, TaskScore

RECORD = {"step": 0, "tokens": 0, "family": "llama", "dtype": "fp32", "parameters": 1000, "parity": None}
LICENCES = {"MIT": {"documents": 900, "bytes": 1, "tokens": 1}, "Apache-2.0": {"documents": 90, "bytes": 1, "tokens": 1}}


def begun(folder, recipe, corpora) -> RunFolder:
    """Write what a run folder says of itself once it has begun."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    plan = make_plan(recipe, corpora)
    write_json(run.plan, {**plan.as_json(), "folder": str(run)})
    write_json(run.environment, {"versions": {"torch": "1.2.3"}, "command": []})
    run.recipe.write_text(write_recipe(recipe))
    return run


@pytest.fixture
def chain(small_recipe):
    """An imported model, a run that starts from it, and a cooldown that goes on from that run's step 4."""
    folder = small_recipe.parent
    recipe = read_recipe(small_recipe)
    recipe = replace(recipe, phases=tuple(replace(phase, tokens=20 * phase.tokens) for phase in recipe.phases))
    corpora = {}
    for name in recipe.corpora:
        made = replace(manifest(recipe, name, 990, 1000), prefix=str(folder / name), licences=LICENCES, dropped={"too_short": 7})
        made.write()
        corpora[name] = made
    recipe = replace(recipe, corpora={name: replace(spec, prefix=str(folder / name)) for name, spec in recipe.corpora.items()})
    imported = RunFolder(folder / "runs" / "public")
    imported.checkpoint(0).mkdir(parents=True)
    parent = begun(folder / "runs" / "first", replace(recipe, initial_weights=str(imported)), corpora)
    child = replace(recipe, branch=Branch(run=str(parent), step=4))
    return begun(folder / "runs" / "cooldown", child, corpora), parent, imported


def metadata_of(run: RunFolder, **more) -> dict:
    """Return a checkpoint's metadata."""
    recipe = read_recipe(run.recipe)
    return {"step": 6, "tokens": 1, "model": as_plain(recipe.model), "tokenizer": {"vocab_size": 5000}, **more}


def test_lineage_and_corpora_are_those_of_every_run_on_the_way(chain):
    cooldown, parent, imported = chain
    stages = lineage(cooldown, 6)
    assert [(stage.run.path.name, stage.first, stage.last) for stage in stages] == [("public", 0, 0), ("first", 0, 4), ("cooldown", 4, 6)]
    assert stages[0].how == "was imported, not trained here"
    metadata = imported.checkpoint(0) / "card.json"
    metadata.write_text(json.dumps({"megatron": {"iteration": 7}}))
    assert lineage(cooldown, 6)[0].how == "was imported from iteration 7 of a checkpoint of Megatron-LM: weights, not Adam's state"
    metadata.unlink()
    assert "weights of public, step 0, Adam fresh" in stages[1].how and "step 4 of first" in stages[2].how
    batch = stages[1].plan["batch_tokens"]
    assert [stage.tokens for stage in stages] == [0, 4 * batch, 2 * batch]
    assert sum(corpus.tokens for corpus in corpora_read(stages)) == 6 * batch


def test_model_card_names_corpora_licences_filters_and_commands_and_no_folder_of_the_machine(chain):
    cooldown, parent, imported = chain
    text = model_card(
        cooldown, metadata_of(cooldown, hugging_face={"name": "SmolLM2", "licence": "mit", "files": {"LICENSE": "0"}}), RECORD
    )
    for words in ("in 3 runs", "MIT 900, Apache-2.0 90", "too_short 7", "torch 1.2.3", "codemix import MODEL runs/public", "Recipe of first",
                  "codemix train cooldown.yaml --folder runs/cooldown", "codemix export runs/cooldown@6", "run: runs/first",
                  "initial_weights: runs/public"):  # fmt: skip
        assert words in text, words
    assert "eager" not in text
    capped = metadata_of(cooldown)
    capped["model"] |= {"attention_softcap": 50.0}
    assert 'transformers 4 with `attn_implementation="eager"`' in model_card(cooldown, capped, RECORD)
    assert str(cooldown.path.parent.parent) not in text and "/tokens here" not in text
    assert ModelCard(text).data.base_model == "SmolLM2" and ModelCard(text).data.license == "mit"


def test_scores_are_read_by_the_hub_s_own_parser(chain):
    cooldown, *_ = chain
    bits = [
        BitsPerByte(corpus="prose", value=1.25, standard_error=math.nan, documents=1, tokens=9, bytes=9),
        BitsPerByte(corpus="web", value=math.inf, standard_error=0.1, documents=1, tokens=9, bytes=9),
    ]
    tasks = [TaskScore(suite="paper", task="arc_easy", metric="acc_norm", value=0.5, standard_error=0.01, items=40)]
    Scores(model="m", step=6, tokens=1, bits_per_byte=bits, tasks=tasks).write(cooldown.score_file(6))
    found = ModelCard(model_card(cooldown, metadata_of(cooldown), RECORD)).data.eval_results
    assert [(e.dataset_name, e.metric_type, e.metric_value) for e in found] == [
        ("prose, held-out documents", "bits_per_byte", 1.25),
        ("arc_easy", "acc_norm", 0.5),
    ]
    assert found[1].metric_args == {"standard_error": 0.01} and found[1].task_type == "text-generation"


def test_model_card_is_written_again_with_scores_unless_somebody_changed_it(chain):
    cooldown, *_ = chain
    cooldown.checkpoint(6).mkdir(parents=True)
    write_metadata(cooldown.checkpoint(6), metadata_of(cooldown))
    folder = cooldown.export(6)
    folder.mkdir(parents=True)
    write_json(folder / "export.json", write_model_card(cooldown, folder, metadata_of(cooldown), {**RECORD, "step": 6}))
    tasks = [TaskScore(suite="paper", task="arc_easy", metric="acc", value=0.5, standard_error=None, items=40)]
    Scores(model="m", step=6, tokens=1, tasks=tasks).write(cooldown.score_file(6))
    assert renew_model_card(cooldown, folder) and ModelCard((folder / "README.md").read_text()).data.eval_results[0].metric_value == 0.5
    (folder / "README.md").write_text("mine")
    assert not renew_model_card(cooldown, folder) and (folder / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/data/x.jsonl", "x.jsonl"),
        ("git:/srv/code/linux", "git:linux"),
        ("/data/a/**/*.py", "*.py"),
        ("https://there.org/a/b", "https://there.org/a/b"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("corpora/prose", "corpora/prose"),
        ("python:code", "python:code"),
    ],
)
def test_of_absolute_paths_the_last_name_stays(text, expected):
    assert without_folders({"documents": [text]}) == {"documents": [expected]}
