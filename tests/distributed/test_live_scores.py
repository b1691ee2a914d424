"""A trained model scored three ways: its checkpoint on tensor 2 x pipeline 2 ranks, its export, and lm-eval called by hand."""

import sys
from pathlib import Path

import pytest

from codemix_megatron.evaluate.suite_data import dataset_of
from codemix_megatron.evaluate.suites import find_data, read_suite
from codemix_megatron.inference.exported import load_exported
from codemix_megatron.inference.offline import go_offline
from codemix_megatron.records.item_scores import ItemScores
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import Scores

EVAL = Path(__file__).parents[3] / "shared" / "data" / "eval"
TASKS = ("cb", "copa", "boolq", "arc_easy", "social_iqa", "nq_open", "triviaqa")  # no answers beyond the 64 tokens it sees
ITEMS = 6

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def run(tiny) -> RunFolder:
    """A trained and exported run of a single rank."""
    folder = RunFolder(tiny.folder / "single")
    if not folder.path.exists():  # another module may have trained it
        done = tiny.train("single")
        assert done.returncode == 0, done.stderr
    if folder.latest_export() is None:
        exported = tiny.codemix_here("export", folder)
        assert exported.returncode == 0, exported.stderr
    return folder


def score(tiny, run, *words) -> Scores:
    """Score with the command and return what it wrote."""
    data = ["--suite", tiny.folder / "seven.yaml", "--data", EVAL] if EVAL.is_dir() else []
    (tiny.folder / "seven.yaml").write_text("suite: seven\ntasks:\n" + "".join(f"  {task}: {{from: paper}}\n" for task in TASKS))
    command = [
        "evaluate",
        run,
        "--suite",
        "bits_per_byte",
        "--suite",
        "continuation",
        *data,
        "--items",
        ITEMS,
        "--allow-cut-prompts",
        *words,
    ]
    done = tiny.codemix(*command) if words else tiny.codemix_here(*command)
    assert done.returncode == 0, done.stderr
    return Scores.read(next(run.scores.glob("step-*.json")))


def test_checkpoint_on_its_ranks_scores_what_the_export_scores(tiny, run, measured):
    ranks = score(tiny, run, "--live", "--tensor", 2, "--pipeline", 2)
    assert "checkpoints" in ranks.model
    items_of_ranks = {s.item_file: ItemScores.read(run.scores / "items" / s.item_file) for s in ranks.tasks if s.item_file}
    export = score(tiny, run)
    assert "exports" in export.model and len(ranks.tasks) == len(export.tasks) >= 4
    largest = 0.0
    for ours, theirs in zip(ranks.bits_per_byte, export.bits_per_byte, strict=True):
        largest = max(largest, abs(ours.value - theirs.value))
    for ours, theirs in zip(ranks.tasks, export.tasks, strict=True):
        assert (ours.task, ours.metric, ours.items) == (theirs.task, theirs.metric, theirs.items)
        assert items_of_ranks[ours.item_file].keys == ItemScores.read(run.scores / "items" / theirs.item_file).keys
        largest = max(largest, abs(ours.value - theirs.value))
    measured(f"scores on tensor 2 x pipeline 2 ranks against the export, {len(export.tasks)} metrics: at most {largest:.1e} apart")
    assert largest < 1e-4


@pytest.mark.slow
def test_two_copies_of_an_export_share_the_items_and_score_the_same(tiny, run):
    alone = score(tiny, run)
    shared = score(tiny, run, "--nproc", 2, "--force")
    assert [(s.task, s.metric, s.items) for s in shared.tasks] == [(s.task, s.metric, s.items) for s in alone.tasks]
    assert [s.value for s in shared.tasks] == pytest.approx([s.value for s in alone.tasks], abs=1e-5)
    assert [b.value for b in shared.bits_per_byte] == pytest.approx([b.value for b in alone.bits_per_byte], abs=1e-5)


@pytest.mark.skipif(not EVAL.is_dir(), reason=f"no evaluation data in {EVAL}")
def test_trained_model_scores_what_lm_eval_by_hand_scores(tiny, run, measured):
    sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "evaluate"))
    from by_hand import by_hand

    go_offline()
    tasks = [task for task in read_suite("paper").tasks if task.name in TASKS]
    theirs = by_hand(
        load_exported(run.latest_export(), "cpu"), [(t.name, {**t.lm_eval, **dataset_of(t, find_data(t, EVAL))}) for t in tasks], ITEMS
    )
    compared = 0
    for found in score(tiny, run).tasks:
        values = {key.partition(",")[0]: value for key, value in theirs.get(found.task, ({},))[0].items() if "stderr" not in key}
        if found.metric in values:
            compared += 1
            assert found.value == pytest.approx(values[found.metric], abs=1e-6), found
    measured(f"trained model, figures equal to lm-eval by hand: {compared} metrics of {len(tasks)} tasks, {ITEMS} items each")
    assert compared >= 7
