"""A begun study: what has begun may not change, what has not may, and its variants read as whole runs."""

import json

import pytest
import yaml
from small_study import write_study

from codemix_megatron.errors import CodemixError, RecipeError
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.run_folder import is_run_folder
from codemix_megatron.study.changes import graph_in
from codemix_megatron.study.folder import StudyFolder, open_study
from codemix_megatron.study.status import find_standings
from codemix_megatron.study.study_file import read_study
from codemix_megatron.study.tasks import list_tasks


@pytest.fixture
def begun(tmp_path):
    """The small study, opened; its root run and one cooldown have begun."""
    study = read_study(write_study(tmp_path))
    folder = StudyFolder(tmp_path / "small")
    open_study(folder, study, graph_in(folder, study))
    for name in ("plain.balanced", "plain"):
        run = folder.run(name)
        run.path.mkdir(parents=True)
        run.recipe.write_text(folder.recipe(name).read_text())
        run.environment.write_text("{}")
        assert is_run_folder(run)
    return folder


def again(begun, change):
    """Return the graph of the changed study in the begun folder."""
    return graph_in(begun, read_study(write_study(begun.path.parent, change)))


def test_recipes_of_segments_branch_off_inside_the_folder(begun):
    assert {path.stem for path in begun.recipes.iterdir()} == set(begun.read()["segments"])
    child = read_recipe(begun.recipe("longer.text"))
    assert child.branch.run == str(begun.runs / "plain.balanced") and [phase.name for phase in child.phases] == ["text"]


def test_begun_study_is_gone_on_with_by_a_version_that_knows_more_keys(begun):
    for path in (begun.recipe("plain.balanced"), begun.recipe("plain")):  # as one that knew fewer wrote them
        recipe = yaml.safe_load(path.read_text())
        del recipe["optimizer"]["epsilon"], recipe["sequences"]
        path.write_text(yaml.safe_dump(recipe))
    assert again(begun, lambda study: None).paths["plain"] == ("plain.balanced", "plain")


def test_changed_begun_segment_is_refused_with_a_diff(begun):
    with pytest.raises(RecipeError) as caught:
        again(begun, lambda study: study["variants"]["plain"].update(overrides={"phases.cooldown.tokens": 10 * 512}))
    said = str(caught.value)
    assert "plain has begun and is another run now" in said and "-  tokens: 4096" in said and "+  tokens: 5120" in said
    assert "plain.balanced has begun" not in said and "or take another --directory" in said


def test_change_of_a_shared_beginning_is_told_once(begun):
    with pytest.raises(RecipeError) as caught:
        again(begun, lambda study: study.update(overrides={"seed": 8}))
    assert str(caught.value).count("has begun and is another run now") == 1 and "+seed: 8" in str(caught.value)


def test_segment_that_has_not_begun_may_change_and_variants_may_come(begun):
    def change(study):
        study["variants"]["no-code"]["overrides"] = {"phases.cooldown.mixture": {"snippets": 1.0}}
        study["variants"] = {"new": {"phases": ["balanced", "text"]}, **study["variants"]}

    graph = again(begun, change)
    assert graph.paths["new"] == ("plain.balanced", "new") and graph.paths["longer"] == ("plain.balanced", "new", "longer")
    assert graph.paths["plain"] == ("plain.balanced", "plain")


def test_tasks_need_their_parents_and_only_ends_are_scored(begun):
    graph = again(begun, lambda study: None)
    tasks = list_tasks(graph, begun, with_scores=True)
    needs = {name: task.needs for name, task in tasks.items()}
    assert needs["plain.balanced"] == () and needs["longer.text"] == ("plain.balanced",) and needs["longer@score"] == ("longer",)
    assert {name for name in needs if name.endswith("@score")} == {"plain@score", "longer@score", "no-code@score"}
    assert tasks["plain"].commands == (("train", str(begun.recipe("plain")), "--folder", str(begun.runs / "plain")),)
    assert [words[0] for words in tasks["plain@score"].commands] == ["export", "evaluate"]
    assert not [name for name in list_tasks(graph, begun, with_scores=False) if "@" in name]


def test_standing_of_every_run_is_read_from_its_journal(begun):
    graph = again(begun, lambda study: None)
    step = {"event": "step", "step": 7, "loss": 4.5, "tokens_per_second": 900.0}
    begun.run("plain.balanced").journal.write_text(json.dumps({"event": "start", "step": 0}) + "\n" + json.dumps(step) + "\n{torn")

    def standings(tasks, working=()):
        return find_standings(graph, begun, tasks, True, set(working).__contains__)

    now = standings({"plain.balanced": {"state": "running"}}, ["plain.balanced"])
    root = now["plain.balanced"]
    assert (root.state, root.steps_done, root.steps, root.loss) == ("running", 7, 12, 4.5) and now["longer"].state == "waiting"
    assert standings({"plain.balanced": {"state": "running"}})["plain.balanced"].state == "stopped"  # nobody works on it any more
    failed = standings({"plain.balanced": {"state": "failed", "error": "the disk is full"}})
    assert (failed["plain.balanced"].state, failed["plain.balanced"].note) == ("failed", "the disk is full")
    assert (failed["no-code"].state, failed["no-code"].note) == ("blocked", "plain.balanced failed")
    with open(begun.run("plain.balanced").journal, "a") as journal:
        journal.write("\n" + json.dumps({"event": "end", "step": 12}) + "\n")
    assert standings({})["plain.balanced"].state == "done"


def test_two_processes_do_not_work_on_one_study(begun):
    with begun.held(), pytest.raises(CodemixError, match="works on this study already"), StudyFolder(begun.path).held():
        pass
    assert begun.holder() is None


def test_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(CodemixError, match="not a begun study"):
        StudyFolder.existing(tmp_path)
