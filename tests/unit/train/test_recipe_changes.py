"""What has begun is fixed, what has not may change, and the run's record says which recipe held from which step on."""

import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from tiny_run import RECIPE

from codemix_megatron.checkpoint.retention import is_token_mark
from codemix_megatron.errors import RecipeError
from codemix_megatron.mixture.mixture import DATA_ORDER
from codemix_megatron.plan.branch import branch_from
from codemix_megatron.plan.plan import make_plan
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.schema import CheckpointPolicy
from codemix_megatron.recipe.yaml_text import apply_overrides
from codemix_megatron.records.atomic import read_json, write_json
from codemix_megatron.records.events import EndEvent, ReopenedEvent
from codemix_megatron.records.journal import Journal, read_events
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.folder import check_run, describe_environment, is_finished, open_run, reopen
from codemix_megatron.train.recipe_changes import find_changes

METADATA = TokenizerMetadata(type="none", path="", sha256="t", vocab_size=500, end_of_document_id=0)
THIRD = "{name: third, tokens: 2048, mixture: {web: 1.0}, learning_rate: {peak: 0.0001}}"


def manifest(name: str, sha256: str | None = None) -> CorpusManifest:
    return CorpusManifest(
        name=name, kind="text", prefix=name, dtype="uint16", num_documents=9, num_tokens=20_000, num_bytes=1, train_documents=9,
        train_tokens=20_000, train_bytes=1, held_out_share=0, tokenizer=METADATA, bin_sha256=sha256 or name, idx_sha256="", documents=[],
        input_fingerprint="",
    )  # fmt: skip


class Begun:
    """A run folder as training leaves it, without the training."""

    def __init__(self, folder):
        self.folder, self.run = folder, RunFolder(folder / "runs" / "tiny")
        self.open()

    def recipe(self, *overrides, corpora=(), phases=()):
        plain = apply_overrides(copy.deepcopy(RECIPE), overrides)
        plain["corpora"] |= {name: {"documents": [f"{name}.jsonl"]} for name in corpora}
        plain["phases"] += [yaml.safe_load(phase) for phase in phases]
        return build_recipe(plain, directory=self.folder)

    def open(self, *overrides, **more):
        recipe, plan = self.planned(*overrides, **more)
        return open_run(self.run, recipe, plan, 1, "cpu")

    def planned(self, *overrides, changed=(), **more):
        recipe = self.recipe(*overrides, **more)
        return recipe, make_plan(recipe, {name: manifest(name, "other" if name in changed else None) for name in recipe.corpora})

    def check(self, *overrides, **more):
        return check_run(self.run, *self.planned(*overrides, **more))

    def save(self, step: int) -> None:
        """Leave what counts as a checkpoint of a step."""
        self.run.checkpoint(step).mkdir(parents=True)
        (self.run.checkpoint(step) / "card.json").write_text("{}")

    def refusal(self, *overrides, **more) -> str:
        with pytest.raises(RecipeError) as caught:
            self.check(*overrides, **more)
        return str(caught.value)


@pytest.fixture
def begun(tmp_path) -> Begun:
    """The tiny run: 12 steps of `balanced`, 8 of `cooldown`."""
    return Begun(tmp_path)


def test_phases_to_come_may_be_changed_lengthened_and_appended(begun):
    begun.save(12)  # the end of the first phase: the second has not begun
    assert begun.check("phases.1.tokens=8192", "phases.1.mixture={prose: 0.1, snippets: 0.9}", "phases.1.learning_rate.peak=0.002")
    assert begun.check(corpora=["web"], phases=[THIRD])
    begun.save(13)
    assert begun.check(corpora=["web"], phases=[THIRD])
    assert "-  tokens: 4096" in begun.refusal("phases.1.tokens=8192")


def test_what_has_begun_is_refused_with_a_branch_that_trains_it(begun):
    begun.save(14)
    text = begun.refusal("phases.1.tokens=8192", corpora=["web"], phases=[THIRD])
    assert "(balanced, cooldown)" in text and "-  tokens: 4096" in text and "+  tokens: 8192" in text
    branch = yaml.safe_load(text.partition("as a branch, with codemix train:\n\n")[2])
    assert branch["branch"] == {"run": str(begun.run), "step": 12}
    assert [(phase["name"], phase["tokens"]) for phase in branch["phases"]] == [("cooldown", 8192), ("third", 2048)]
    branch["corpora"] = {"web": {"documents": ["web.jsonl"]}}  # the parent has none of this name
    child = build_recipe(branch, directory=begun.folder)
    assert child.model == begun.recipe().model and list(child.corpora) == ["prose", "snippets", "web"]
    plan = make_plan(child, {name: manifest(name) for name in child.corpora})
    assert (plan.first_step, plan.steps) == (12, 12 + 16 + 4)


def test_branches_with_other_global_batches_go_on_where_their_parents_stood(begun, tmp_path):
    """Positions are counted in sequences, so nothing is read again or left out whatever the batches were."""
    trunk = begun.planned()[1]
    plain = {
        "name": "off",
        "batch": {"global_sequences": 16},
        "branch": {"run": str(begun.run), "step": 14},
        "phases": RECIPE["phases"][1:],
    }
    child = build_recipe(copy.deepcopy(plain), directory=tmp_path)
    plan = make_plan(child, {name: manifest(name) for name in child.corpora})
    assert (plan.first_step, plan.steps, plan.sequences_at(14), plan.sequences_at(16)) == (14, 18, 14 * 8, 14 * 8 + 2 * 16)
    assert plan.mixture().first == 112 and plan.tokens_at(plan.steps) == len(plan.mixture()) * 64
    again = branch_from(plan.as_json(), "off", 16)
    assert again.sequences == 144 and again.position(4) == 144
    small = make_plan(replace(child, batch=replace(child.batch, global_sequences=4)), {n: manifest(n) for n in child.corpora}, branch=again)
    before = located(trunk.mixture(), 0, 112) + located(plan.mixture(), 112, 144)
    after = located(small.mixture(), 144, len(small.mixture()))
    assert small.sequences_at(small.first_step) == 144 and len(set(before)) == 144
    assert not set(before) & set(after[: 300 - 144]), "nothing comes again before all came once"
    marks = [step for step in range(14, 25) if is_token_mark(step, CheckpointPolicy(keep_every_tokens=4096), plan.tokens_at)]
    assert marks == [step for step in range(14, 25) if plan.tokens_at(step) // 4096 > plan.tokens_at(step - 1) // 4096]


def test_sizes_of_batches_to_come_may_change_and_those_that_held_may_not(begun):
    end = 12 * 512  # tokens of the first phase, the only one that has begun
    assert begun.check(f"batch.global_sequences=[[0, 8], [{end}, 16]]")
    assert "was started from another recipe" in begun.refusal(f"batch.global_sequences=[[0, 8], [{end - 512}, 16]]")


def located(mixture, first: int, end: int) -> list[tuple[int, int]]:
    found = mixture.locate(np.arange(first, end))
    return list(zip(found.source.tolist(), found.sequence.tolist(), strict=True))


@pytest.mark.parametrize(
    "override", ["seed=8", "model.num_layers=2", "optimizer.weight_decay=0.3", "phases.0.tokens=8192", "batch.global_sequences=16",
                 "corpora.prose.fill_in_the_middle={rate: 0.1}", "parallel.distributed_optimizer=false", "sequences.attention_within_documents=true"],
)  # fmt: skip
def test_what_decided_the_first_steps_is_fixed_from_the_beginning(begun, override):
    text = begun.refusal(override)
    assert "was started from another recipe" in text and "branch" in text and "as a branch, with codemix train" not in text


def test_order_of_corpora_that_are_read_is_fixed(begun):
    recipe, plan = begun.planned()
    other = replace(recipe, corpora=dict(reversed(recipe.corpora.items())))
    with pytest.raises(RecipeError, match="another recipe"):
        check_run(begun.run, other, plan)


def test_layout_saving_and_paths_may_change(begun):
    assert begun.check("parallel.tensor=2", "checkpoint.every_steps=3", "corpora.prose.prefix=elsewhere/prose", "evaluation.items=3")


def test_a_corpus_that_was_read_may_not_be_another_but_one_to_come_may(begun):
    begun.open(corpora=["web"], phases=[THIRD])
    begun.save(12)
    assert "corpora prose have changed since it began" in begun.refusal(changed=["prose"], corpora=["web"], phases=[THIRD])
    assert begun.check(changed=["web"], corpora=["web"], phases=[THIRD])


def test_every_recipe_is_kept_with_the_step_it_held_from(begun):
    assert [path.name for path in begun.run.recipes.iterdir()] == ["from-step-0.yaml"]
    begun.save(12)
    assert begun.open() is None
    change = begun.open(corpora=["web"], phases=[THIRD])
    assert change.step == 12 and any("name: third" in line for line in change.changed)
    assert sorted(path.name for path in begun.run.recipes.iterdir()) == ["from-step-0.yaml", "from-step-12.yaml"]
    first, second = (yaml.safe_load((begun.run.recipes / f"from-step-{n}.yaml").read_text()) for n in (0, 12))
    assert len(first["phases"]) == 2 and len(second["phases"]) == 3


def test_another_data_order_is_refused(begun):
    plan = read_json(begun.run.plan)
    assert plan["data_order"] == DATA_ORDER
    write_json(begun.run.plan, plan | {"data_order": DATA_ORDER + 1})
    assert f"its data order is version {DATA_ORDER + 1}, this package has version {DATA_ORDER}" in begun.refusal()
    del plan["data_order"]  # of a run that began before there was a number
    write_json(begun.run.plan, plan)
    assert begun.check()


def test_a_run_that_had_ended_goes_on_when_phases_are_appended(begun):
    journal = Journal(begun.run.journal)
    journal.append(EndEvent(step=20, at="2026-03-01T10:00:00+00:00", seconds=9.0))
    journal.close()
    assert is_finished(begun.run, begun.planned()[1])
    assert not is_finished(begun.run, begun.planned(corpora=["web"], phases=[THIRD])[1])
    reopen(begun.run)
    assert read_events(begun.run.journal)[-1] == ReopenedEvent(step=20)


def test_a_project_that_was_moved_is_read_where_it_is_now(begun, tmp_path):
    (tmp_path / "corpora").mkdir()
    for name in ("prose", "snippets"):
        (tmp_path / "corpora" / f"{name}.manifest.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert read_run_recipe(begun.run).corpora["prose"].prefix == str(tmp_path / "corpora" / "prose")
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    shutil.move(tmp_path, moved)
    recipe = read_run_recipe(RunFolder(moved / "runs" / "tiny"))
    assert recipe.corpora["prose"].prefix == str(moved / "corpora" / "prose")
    assert recipe.tokenizer.path == str(moved / "tokenizer.json")
    elsewhere = Begun.__new__(Begun)
    elsewhere.folder, elsewhere.run = moved, RunFolder(moved / "runs" / "tiny")
    assert elsewhere.check()
    shutil.move(moved, tmp_path)


def test_the_command_that_began_a_run_is_written_without_its_secrets(begun, monkeypatch):
    monkeypatch.setattr("sys.argv", ["codemix", "train", "recipe.yaml", "--api-key", "pl4nted", "--folder", "mine"])
    assert describe_environment(2, "cpu")["command"] == ["codemix", "train", "recipe.yaml", "--api-key", "***", "--folder", "mine"]


def test_another_checkpoint_of_the_same_step_is_another_start(begun):
    """By its last name alone, step-100 of one run was that of any other: the record said that training had begun with it."""
    paths = ("a/checkpoints/step-100", "/moved/a/checkpoints/step-100", "b/checkpoints/step-100", "models/SmolLM", "/moved/SmolLM")
    first, moved, other, public, elsewhere = (begun.recipe(f"initial_weights={path}") for path in paths)
    plan = begun.planned()[1].as_json()
    assert find_changes(first, moved, plan, 1) == find_changes(public, elsewhere, plan, 1) == []
    assert "+initial_weights: b/checkpoints/step-100" in find_changes(first, other, plan, 1)
