"""Suites as data; scores equal to those of lm-eval called by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from by_hand import by_hand
from tiny_export import save_export

from codemix_megatron.cli.main import main
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.scoring import evaluate_subject
from codemix_megatron.evaluate.suite_data import dataset_of
from codemix_megatron.evaluate.suites import find_data, read_suite
from codemix_megatron.evaluate.wanted import Subject, Wanted
from codemix_megatron.inference.exported import load_exported
from codemix_megatron.records.item_scores import ItemScores

EVAL = Path(__file__).parents[4] / "shared" / "data" / "eval"
needs_data = pytest.mark.skipif(not EVAL.is_dir(), reason=f"no evaluation data in {EVAL}")
ITEMS = 4


@pytest.fixture(scope="module")
def roomy(tmp_path_factory, tokenizer_file):
    """A random model that sees 512 tokens, saved and loaded."""
    folder = tmp_path_factory.mktemp("roomy") / "model"
    save_export(folder, tokenizer_file, max_length=512)
    (folder / "export.json").unlink()
    return load_exported(folder, "cpu")


def definitions(tasks) -> list[tuple[str, dict]]:
    """Return tasks as lm-eval's own configuration."""
    return [(task.name, {**task.lm_eval, **dataset_of(task, find_data(task, EVAL))}) for task in tasks]


@needs_data
def test_scores_are_those_of_lm_eval_called_by_hand(roomy, tmp_path, measured):
    """Every task of the paper whose data lie there, 0-shot, its log-likelihoods and generations item by item."""
    suite = read_suite("paper")
    tasks = [task for task in suite.tasks if task.lm_eval and find_data(task, EVAL)]
    assert len(tasks) >= 10
    theirs = by_hand(roomy, definitions(tasks), ITEMS)
    subject = Subject(name="tiny", digest="tiny", step=0, tokens=0, load=lambda: roomy)
    no_code = {"suite": "no_code", "tasks": {task.name: {"from": "paper"} for task in tasks}}
    (tmp_path / "no_code.yaml").write_text(yaml.safe_dump(no_code))
    wanted = Wanted(suites=(str(tmp_path / "no_code.yaml"),), items=ITEMS, data=EVAL, allow_cut=True)
    scores = evaluate_subject(subject, wanted, tmp_path, tmp_path / "scores.json")
    compared = 0
    for score in scores.tasks:
        results, samples = theirs[score.task]
        metric = next((key for key in results if key.partition(",")[0] == score.metric and "stderr" not in key), None)
        if metric is None:
            continue  # bits per byte are ours alone
        compared += 1
        assert score.value == pytest.approx(results[metric], abs=1e-6), score.task
        items = ItemScores.read(tmp_path / "items" / score.item_file)
        assert items.metrics[score.metric].values == [float(sample[score.metric]) for sample in samples]
    assert compared >= 10
    measured(f"figures equal to lm-eval's own Hugging Face model: {compared} metrics of {len(tasks)} tasks, {ITEMS} items each")


@needs_data
def test_bits_per_byte_of_right_answers_are_their_log_likelihoods(roomy, tmp_path):
    import math

    suite = read_suite("small")
    tasks = [task for task in suite.tasks if task.name in ("arc_easy", "copa", "winogrande", "lambada", "mbpp_solution")]
    theirs = by_hand(roomy, definitions(tasks), 3)
    subject = Subject(name="tiny", digest="tiny", step=0, tokens=0, load=lambda: roomy)
    wanted = Wanted(suites=("small",), items=3, data=EVAL, allow_cut=True)
    scores = evaluate_subject(subject, wanted, tmp_path, tmp_path / "scores.json")
    found = {score.task: score for score in scores.tasks if score.metric == "bits_per_byte"}
    for task in tasks:
        bits = []
        for sample in theirs[task.name][1]:
            right = (
                int(sample["doc"]["answer"]) - 1
                if task.name == "winogrande"
                else sample["target"]
                if isinstance(sample["target"], int)
                else 0
            )
            nats, (_, text) = float(sample["filtered_resps"][right][0]), sample["arguments"][right][:2]
            bits.append(-nats / math.log(2) / len(text.encode()))
        assert found[task.name].value == pytest.approx(sum(bits) / 3, rel=1e-4), task.name
        assert not found[task.name].higher_is_better and found[task.name].is_main
    means = {mean.name: mean for mean in scores.aggregates}
    assert means["reasoning"].missing == ["sciq", "quac", "storycloze"]
    assert means["code"].value == pytest.approx((found["humaneval_solution"].value + found["mbpp_solution"].value) / 2)
    assert any(line.startswith("small/sciq: no sciq.test.jsonl or") for line in scores.not_scored)
    cut = {score.task: score.cut for score in scores.tasks}
    assert cut["boolq"] > 0 == cut["copa"], "the model sees too little for some passages"
    yes = sum(json.loads(line)["answer"] for line in (EVAL / "boolq.validation.jsonl").read_text().splitlines()[:3])
    majority = {score.task: score.majority for score in scores.tasks if score.metric == "acc"}
    assert majority["boolq"] == pytest.approx(max(yes, 3 - yes) / 3) and majority["copa"] is None, "COPA's choices differ by question"
    refused = evaluate_subject(subject, replace(wanted, allow_cut=False), tmp_path, tmp_path / "again.json")
    assert any(line.startswith(f"small/boolq: boolq: {cut['boolq']} of 3 prompts are longer than") for line in refused.not_scored)
    assert next(mean for mean in refused.aggregates if mean.name == "reasoning").missing[0] == "boolq"


@needs_data
def test_command_scores_a_hugging_face_folder(roomy, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("suite: mine\ntasks:\n  copa: {from: paper, items: 4}\naggregates:\n  all: {mean_of: [copa]}\n")
    words = ["evaluate", str(roomy.folder), "--suite", str(tmp_path / "mine.yaml"), "--data", str(EVAL), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "copa" in out and "means" in out and "all" in out
    assert (tmp_path / "out" / "scores.json").is_file()
    assert main([*words[:2], "--suite", "bits_per_byte"]) == 2
    assert "is made from held-out documents, and this is no run folder" in capsys.readouterr().err


@pytest.mark.parametrize("text, message", [
    ("suite: x\ntasks: {a: {metric: acc, file: f, lm_eval: {}, code: {}}}", r"tasks\.a: needs exactly one of lm_eval and code, found lm_eval and code"),
    ("suite: x\ntasks: {a: {from: papr}}", r"tasks\.a\.from: no built-in suite 'papr'"),
    ("suite: x\ntasks: {hellaswg: {from: paper}}", r"suite paper has no such task; did you mean hellaswag\?"),
    ("suite: x\ntasks: {a: {from: paper}}", "suite paper has no such task"),
    ("suite: x\ntasks: {boolq: {from: paper, metrc: acc}}", r"tasks\.boolq\.metrc: no such key; did you mean metric\?"),
    ("tasks: {boolq: {from: paper}}\naggregates: {m: {mean_of: [boolqq]}}", "2 faults\n.*suite: missing.*\n.*earlier aggregate 'boolqq'; did you mean boolq"),
    ("suite: x\ntasks: {a: {metric: acc, lm_eval: {}}}", "needs a file, or a hub entry"),
    ("suite: [", "not YAML"),
    ("- a", "holds list, needs a mapping"),
])  # fmt: skip
def test_faults_of_a_suite_are_named(tmp_path, text, message):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_suite(tmp_path / "s.yaml")


def test_unknown_suite_and_folder_are_named(tmp_path):
    with pytest.raises(EvaluationError, match=r"no suite 'papper'; did you mean paper\?; built in are paper, small"):
        read_suite("papper")
    subject = Subject(name="m", digest="d", step=0, tokens=0, load=lambda: None)
    with pytest.raises(EvaluationError, match="nowhere: no such folder; it should hold the data of suite small"):
        evaluate_subject(subject, Wanted(suites=("small",), items=1, data=tmp_path / "nowhere"), tmp_path, tmp_path / "s.json")
    with pytest.raises(EvaluationError, match=r"no data folder; set evaluation\.data_directory or give --data DIR"):
        evaluate_subject(subject, Wanted(suites=("small",), items=1), tmp_path, tmp_path / "s.json")


def test_broken_data_are_told_and_the_rest_is_scored(roomy, tmp_path):
    (tmp_path / "copa.validation.jsonl").write_text('{"premise": "It rained.", "question": "effect"}\n')
    (tmp_path / "cb.validation.jsonl").write_text('{"premise": "A.", "hypothesis": "B", "label": 1}\n' * 2)
    (tmp_path / "two.yaml").write_text("suite: two\ntasks: {copa: {from: paper}, cb: {from: paper}}\n")
    subject = Subject(name="tiny", digest="tiny", step=0, tokens=0, load=lambda: roomy)
    scores = evaluate_subject(
        subject, Wanted(suites=(str(tmp_path / "two.yaml"),), items=None, data=tmp_path), tmp_path / "o", tmp_path / "o" / "s"
    )
    assert {score.task for score in scores.tasks} == {"cb"}
    assert len(scores.not_scored) == 1 and "two/copa: the suite: task 'copa' cannot be read" in scores.not_scored[0]
