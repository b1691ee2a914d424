"""Suites scored while a run trains: every loss is what it is without them, and the scores are those of the exported model."""

from pathlib import Path

import pytest
import yaml

from codemix_megatron.records.scores import Scores

EVAL = Path(__file__).parents[3] / "shared" / "data" / "eval"
SHORT = ["phases.0.tokens=2048", "phases.1.tokens=2048", "model.dropout=0.1", "evaluation.held_out_sequences=1"]

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def suites(tiny) -> str:
    """A suite of one multiple-choice task and one of log-likelihood, with data of their own, in the recipe's words."""
    (tiny.folder / "own").mkdir()
    questions = "".join(f'{{"question": "What is f{n}?", "right": " code", "wrong": " prose"}}\n' for n in range(6))
    (tiny.folder / "own" / "questions.jsonl").write_text(questions)
    choice = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["{{right}}", "{{wrong}}"],
        "doc_to_target": 0,
    }
    metric = {"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]}
    task = {"metric": "bits_per_byte", "bits_per_byte": True, "file": "questions.jsonl", "lm_eval": {**choice, **metric}}
    path = tiny.folder / "own.yaml"
    path.write_text(yaml.safe_dump({"suite": "own", "tasks": {"questions": task}}))
    return "evaluation.while_training={every_steps: 4, at_steps: [7], items: 8, suites: [bits_per_byte, own.yaml]}"


def test_losses_are_bit_for_bit_those_without_scores_and_scores_those_of_the_export(tiny, suites):
    data = "evaluation.data_directory=own"
    assert tiny.train("unscored", *SHORT, data).returncode == 0
    done = tiny.train("scored", *SHORT, data, suites)
    assert done.returncode == 0, done.stderr
    assert tiny.losses("scored") == tiny.losses("unscored") and len(tiny.losses("scored")) == 8
    norms = [[event["gradient_norm"] for event in tiny.events(run)] for run in ("scored", "unscored")]
    assert norms[0] == norms[1]
    events = tiny.events("scored", "scores")
    assert [event["step"] for event in events] == [4, 7, 8]
    assert not any(event["not_scored"] for event in events)
    assert all(0 < event["share_of_time"] < 1 and event["seconds"] > 0 for event in events)
    assert "scores after step 8: prose" in done.stdout and "% of the time" in done.stdout
    assert tiny.codemix_here("export", "scored").returncode == 0
    words = ["--suite", "bits_per_byte", "--suite", "own.yaml", "--data", "own", "--items", 8]
    scored = tiny.codemix_here("evaluate", "scored", *words)
    assert scored.returncode == 0, scored.stderr
    exported = Scores.read(tiny.folder / "scored" / "scores" / "step-8.json")
    assert events[-1]["bits_per_byte"] == pytest.approx({b.corpus: b.value for b in exported.bits_per_byte}, abs=1e-5)
    assert events[-1]["tasks"]["questions bits_per_byte"] == pytest.approx(
        next(s.value for s in exported.tasks if s.metric == "bits_per_byte"), abs=1e-5
    )
    assert tiny.codemix_here("report", "scored").returncode == 0
    assert "Scored 3 times while training" in (tiny.folder / "scored" / "report" / "index.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not EVAL.is_dir(), reason=f"no evaluation data in {EVAL}")
def test_on_tensor_and_pipeline_ranks_the_suite_small_changes_nothing(tiny):
    layout = ["parallel.tensor=2", "parallel.pipeline=2", f"evaluation.data_directory={EVAL}", *SHORT]
    scoring = "evaluation.while_training={every_steps: 4, items: 4, suites: [bits_per_byte, small.yaml]}"
    (tiny.folder / "small.yaml").write_text(
        yaml.safe_dump({"suite": "few", "tasks": {name: {"from": "small"} for name in ("boolq", "copa", "lambada")}})
    )
    assert tiny.train("unscored-2x2", *layout).returncode == 0
    done = tiny.train("scored-2x2", *layout, scoring)
    assert done.returncode == 0, done.stderr
    assert tiny.losses("scored-2x2") == tiny.losses("unscored-2x2")
    assert {"boolq bits_per_byte", "copa bits_per_byte"} <= set(tiny.events("scored-2x2", "scores")[-1]["tasks"])


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{every_steps: 4, suites: [paper]}", "paper runs programs"),
        ("{every_steps: 4, suites: [own.yaml]}", "there are no data of suite own"),
        ("{suites: [bits_per_byte]}", "needs suites, and every_steps or at_steps"),
        ("{every_steps: 4, suites: [smal]}", "no suite 'smal'; built in are"),
    ],
)
def test_what_could_not_be_scored_is_refused_before_training(tiny, suites, block, message):
    done = tiny.codemix_here("train", tiny.recipe, "--folder", "never", f"evaluation.while_training={block}")
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not (tiny.folder / "never").exists()
