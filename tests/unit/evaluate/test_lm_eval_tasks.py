import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.continuation import write_suite
from codemix_megatron.evaluate.harness import run_definition, run_folder_tasks
from codemix_megatron.evaluate.store import task_scores
from codemix_megatron.evaluate.wanted import tasks_folder_digest

ARC_EASY = Path(__file__).parents[4] / "shared" / "data" / "eval" / "arc_easy.validation.jsonl"

QUESTIONS = [
    {"question": f"After {a}?", "choices": {"text": ["the word", f"value {a}", "für {index}", "süß"][: 3 + a % 2]}, "key": a % 3}
    for a in range(12)
]


def choose(folder, name: str, data, **changes) -> None:
    """Write an ARC-style task file."""
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(data)}},
        "validation_split": "validation",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices.text}}",
        "doc_to_target": "{{key}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        **changes,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def tasks_folder(tmp_path):
    """A folder with one task and its data beside it, named relatively."""
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
    choose(tmp_path, "easy_questions", "questions.jsonl")
    return tmp_path


def run_tasks(model, names, directory, *, suite, **options):
    """Score tasks of a folder and return one score per metric."""
    return [score for items in run_folder_tasks(model, names, directory, **options) for score in task_scores(items, suite=suite)]


def by_metric(scores):
    return {score.metric: score for score in scores}


def log_likelihood(exported, context: str, choice: str) -> float:
    """Score a choice by hand: tokens of context and choice apart, one forward pass."""
    encode = exported.tokenizer.encode
    before, after = encode(context), encode(choice)
    with torch.no_grad():
        logits = exported.model(torch.tensor([before + after])).logits[0].double()
    predicted = torch.log_softmax(logits, -1)[len(before) - 1 : -1]
    return float(predicted[torch.arange(len(after)), torch.tensor(after)].sum())


def test_continuation_scores_equal_log_likelihoods_by_hand(exported, documents, tmp_path):
    name = write_suite(tmp_path, "text", exported, documents, items=40)
    items = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(items) > 10
    right, right_normed = [], []
    for item in items:
        values = np.array([log_likelihood(exported, item["context"], choice) for choice in item["choices"]])
        right.append(values.argmax() == item["answer"])
        right_normed.append((values / [len(choice) for choice in item["choices"]]).argmax() == item["answer"])
    scores = by_metric(run_tasks(exported, [name], tmp_path, suite="continuation", items=40))
    assert scores["acc"].value == pytest.approx(np.mean(right))
    assert scores["acc_norm"].value == pytest.approx(np.mean(right_normed))
    assert scores["acc"].standard_error == pytest.approx(np.std(right, ddof=1) / len(items) ** 0.5)
    assert (scores["acc"].items, scores["acc"].chance, scores["acc"].suite) == (len(items), 0.25, "continuation")


def test_task_reads_data_beside_it_and_chance_is_the_mean_over_questions(exported, tasks_folder):
    seen = []
    scores = by_metric(run_tasks(exported, ["easy_questions"], tasks_folder, suite="tasks", items=100, progress=lambda *e: seen.append(e)))
    assert set(scores) == {"acc", "acc_norm"} and scores["acc"].items == 12
    assert scores["acc"].chance == pytest.approx((6 / 3 + 6 / 4) / 12)
    assert seen[-1] == ("easy_questions", 42, 42)


def test_items_limit_and_changed_data_are_noticed(exported, tasks_folder):
    assert run_tasks(exported, ["easy_questions"], tasks_folder, suite="tasks", items=5)[0].items == 5
    (tasks_folder / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS[:3]))
    assert run_tasks(exported, ["easy_questions"], tasks_folder, suite="tasks", items=5)[0].items == 3


def test_data_elsewhere_that_tasks_name_decide_whether_scores_are_kept(tmp_path):
    """Only the task files' own folder was looked at: data that changed beside it gave the scores of the old."""
    tasks, data = tmp_path / "tasks", tmp_path / "data" / "questions.jsonl"
    tasks.mkdir()
    data.parent.mkdir()
    digests = set()
    for named in ("../data/questions.jsonl", data):
        choose(tasks, "elsewhere", named, description=f"see https://example.org/a/b and /{'long' * 100}")
        for content in ("{}\n", "{}\n{}\n"):
            data.write_text(content)
            digests.add(tasks_folder_digest(tasks))
            assert tasks_folder_digest(tasks) in digests
    assert len(digests) == 4


def test_scoring_is_silent_and_leaves_no_trace(exported, tasks_folder, capfd, monkeypatch):
    monkeypatch.chdir(tasks_folder.parent)
    level = logging.getLogger("lm_eval").level
    run_tasks(exported, ["easy_questions"], tasks_folder, suite="tasks", items=3)
    assert capfd.readouterr() == ("", "")
    assert Path.cwd() == tasks_folder.parent and logging.getLogger("lm_eval").level == level
    assert sorted(p.name for p in tasks_folder.iterdir()) == ["easy_questions.yaml", "questions.jsonl"]


def test_network_is_off(exported, tasks_folder):
    import datasets
    import huggingface_hub.constants

    run_tasks(exported, ["easy_questions"], tasks_folder, suite="tasks", items=1)
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["HF_DATASETS_OFFLINE"] == "1"
    assert huggingface_hub.constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE


def test_unknown_task_names_the_nearest_and_all(exported, tasks_folder):
    with pytest.raises(EvaluationError, match=r"no lm-eval task 'easy_question' in .*did you mean easy_questions\?.*are easy_questions$"):
        run_tasks(exported, ["easy_question"], tasks_folder, suite="tasks", items=1)
    with pytest.raises(EvaluationError, match="no such folder; it should hold the lm-eval task files of a, b"):
        run_tasks(exported, ["a", "b"], tasks_folder / "nowhere", suite="tasks", items=1)


def test_broken_task_is_named_with_its_reason(exported, tasks_folder):
    choose(tasks_folder, "no_data", "missing.jsonl")
    with pytest.raises(EvaluationError, match=r"task 'no_data' cannot be read \(FileNotFoundError: .*missing\.jsonl"):
        run_tasks(exported, ["no_data"], tasks_folder, suite="tasks", items=1)
    choose(tasks_folder, "from_the_hub", "questions.jsonl", dataset_path="allenai/ai2_arc", dataset_kwargs={})
    with pytest.raises(EvaluationError, match="task 'from_the_hub' cannot be read"):
        run_tasks(exported, ["from_the_hub"], tasks_folder, suite="tasks", items=1)
    choose(tasks_folder, "bad_prompt", "questions.jsonl", doc_to_text="{{ question.nothing.at_all }}")
    with pytest.raises(EvaluationError, match=r"task 'bad_prompt' cannot be (read|scored)"):
        run_tasks(exported, ["bad_prompt"], tasks_folder, suite="tasks", items=1)


def test_generation_and_groups_are_scored(exported, tasks_folder):
    choose(
        tasks_folder, "say", "questions.jsonl", output_type="generate_until", doc_to_choice=None, doc_to_target="{{choices.text[0]}}",
        metric_list=[{"metric": "exact_match"}], generation_kwargs={"until": ["\n"], "max_gen_toks": 4},
    )  # fmt: skip
    (tasks_folder / "both.yaml").write_text(yaml.safe_dump({"group": "both", "task": ["say", "easy_questions"]}))
    scores = run_tasks(exported, ["both"], tasks_folder, suite="tasks", items=2)
    assert {(s.task, s.metric) for s in scores} == {("say", "exact_match"), ("easy_questions", "acc"), ("easy_questions", "acc_norm")}
    assert next(s for s in scores if s.task == "say").chance is None


def test_prompts_longer_than_the_model_are_cut_at_the_left(exported, tasks_folder):
    choose(tasks_folder, "long", "questions.jsonl", doc_to_text="{{ 'word of the ' * 200 }}")
    choose(tasks_folder, "some", "questions.jsonl", doc_to_text="word")
    long, short = (run_tasks(exported, [name], tasks_folder, suite="tasks", items=2)[0] for name in ("long", "some"))
    assert (long.items, long.cut, long.window) == (2, 2, exported.max_length) and short.cut == 0


@pytest.mark.skipif(not ARC_EASY.is_file(), reason="ARC-Easy does not lie beside this checkout")
def test_arc_easy_from_a_local_file(exported, tmp_path):
    choose(tmp_path, "arc_easy", ARC_EASY, doc_to_target="{{choices.label.index(answerKey)}}")
    scores = by_metric(run_tasks(exported, ["arc_easy"], tmp_path, suite="tasks", items=10))
    assert scores["acc"].items == 10 and 0 <= scores["acc"].value <= 1
    assert scores["acc"].chance == pytest.approx(0.25, abs=0.03)


def test_lm_eval_is_not_imported_before_it_is_needed():
    import subprocess

    code = "import sys, codemix_megatron.evaluate.scoring as r; print('lm_eval' in sys.modules, 'transformers' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "False"]


def test_probability_of_the_right_choice_is_the_same_beside_mutual_information(exported, tmp_path):
    """acc_mutual_info has lm-eval ask for each choice without its question too; these are no choices."""
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS[:4]))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "questions.jsonl")}}, "test_split": "test"}
    task = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices.text}}",
        "doc_to_target": "{{key}}",
    }
    found = [
        run_definition(
            exported, "t", {**data, **task, "num_fewshot": 0, "metric_list": [{"metric": m} for m in metrics]}, items=None, with_bits=True
        ).metrics["choice_probability"]
        for metrics in (["acc"], ["acc", "acc_mutual_info"])
    ]
    assert found[0].values == found[1].values
