import json
import math
import shutil

import pytest
import yaml
from tiny_export import make_text, save_export

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.held_out import held_out_token_documents
from codemix_megatron.corpus.prepare import prepare_recipe
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.scoring import evaluate_export
from codemix_megatron.evaluate.wanted import wanted_of
from codemix_megatron.inference.document_likelihoods import document_nats
from codemix_megatron.inference.exported import load_exported
from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import Scores

RECIPE = """
name: tiny
model: {num_layers: 2, hidden_size: 32, num_attention_heads: 4, sequence_length: 48}
parallel: {device: cpu}
batch: {global_sequences: 2}
tokenizer: {path: tokenizer.json, train_vocab_size: 320}
corpora:
  text: {kind: text, documents: [text.jsonl]}
  code: {kind: code, documents: [code.jsonl]}
  short: {kind: text, documents: [short.jsonl]}
phases:
  - {name: all, tokens: 1K, mixture: {text: 0.5, code: 0.5}, learning_rate: {schedule: constant, peak: 1e-3}}
evaluation: {held_out_share: 0.3, items: 12, tasks_directory: tasks, tasks: [which]}
"""
TASK = """
task: which
dataset_path: json
dataset_kwargs: {data_files: {test: which.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: q
doc_to_choice: c
doc_to_target: a
metric_list: [{metric: acc}]
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with recipe, prepared corpora and a task of one's own; of `short` nothing is long enough for continuation."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "recipe.yaml").write_text(RECIPE)
    for corpus, seeds, words in (("text", range(40), 90), ("code", range(50, 90), 70), ("short", range(100, 120), 5)):
        lines = (json.dumps({"text": make_text(seed, words)}) + "\n" for seed in seeds)
        (folder / f"{corpus}.jsonl").write_text("".join(lines))
    (folder / "tasks").mkdir()
    (folder / "tasks" / "which.yaml").write_text(TASK)
    question = {"q": "Which?", "c": [" one", " two"], "a": 1}
    (folder / "tasks" / "which.jsonl").write_text((json.dumps(question) + "\n") * 3)
    prepare_recipe(read_recipe(folder / "recipe.yaml"))
    return folder


@pytest.fixture(scope="module")
def finished(prepared):
    """A run folder with exports of steps 7 and 9, the newest one scored; and what was told meanwhile."""
    run = RunFolder(prepared / "run")
    run.path.mkdir()
    run.recipe.write_text(write_recipe(read_recipe(prepared / "recipe.yaml")))
    run.environment.write_text("{}")
    for step in (7, 9):
        save_export(run.export(step), prepared / "tokenizer.json", step=step)
    events = []
    scores = evaluate_export(run, progress=lambda *event: events.append(event))
    return run, scores.not_scored, events


def test_newest_export_is_scored_and_written(finished):
    run, _, events = finished
    scores = Scores.read(run.score_file(9))
    assert (scores.model, scores.step, scores.tokens) == (str(run.export(9)), 9, 9 * 512)
    assert [score.corpus for score in scores.bits_per_byte] == ["text", "code", "short"]
    assert all(score.documents <= 12 and 1 < score.value < 30 and score.standard_error > 0 for score in scores.bits_per_byte)
    assert {(s.suite, s.task) for s in scores.tasks} == {
        ("continuation", "continuation_text"), ("continuation", "continuation_code"), ("tasks", "which"),
    }  # fmt: skip
    assert scores.seconds > 0 and scores.versions["torch"]
    assert {label for label, _, _ in events} == {
        "bits per byte: text", "bits per byte: code", "bits per byte: short", "continuation_text", "continuation_code", "which",
    }  # fmt: skip
    assert not run.score_file(7).exists()


def test_bits_per_byte_agree_with_the_manifest(finished, prepared):
    run, _, _ = finished
    recipe = read_recipe(run.recipe)
    manifest = prepare_recipe(recipe, ["text"])["text"]
    scores = evaluate_export(run, 9, wanted=wanted_of(recipe, items=1000))
    found = next(score for score in scores.bits_per_byte if score.corpus == "text")
    assert (found.documents, found.tokens, found.bytes) == (manifest.held_out_documents, manifest.held_out_tokens, manifest.held_out_bytes)
    documents = held_out_token_documents(manifest)
    nats = document_nats(load_exported(run.export(9), "cpu"), documents, manifest.tokenizer.end_of_document_id)
    assert found.value == pytest.approx(nats.sum() / math.log(2) / manifest.held_out_bytes)


def test_corpus_too_short_for_a_suite_is_told(finished):
    _, notices, _ = finished
    assert len(notices) == 1 and notices[0].startswith("corpus short: no continuation items")


def test_scores_are_kept_until_forced_or_the_model_changes(finished, prepared):
    run, _, _ = finished
    path, events = run.score_file(9), []
    first = evaluate_export(run, 9)
    before = path.read_bytes()
    evaluate_export(run, 9, progress=lambda *event: events.append(event))
    assert not events and path.read_bytes() == before
    (run.export(9) / "export.json").touch()
    evaluate_export(run, 9, progress=lambda *event: events.append(event))
    assert not events, "the model is what it was"
    again = evaluate_export(run, 9, force=True, progress=lambda *event: events.append(event))
    assert events and again.bits_per_byte == first.bits_per_byte and again.tasks == first.tasks
    run.export(9).rename(prepared / "kept")
    save_export(run.export(9), prepared / "tokenizer.json", step=9, uniform=True)
    changed = evaluate_export(run, 9)
    assert changed.bits_per_byte != first.bits_per_byte
    shutil.rmtree(run.export(9))
    (prepared / "kept").rename(run.export(9))
    events.clear()
    back = evaluate_export(run, 9, progress=lambda *event: events.append(event))
    assert back.tasks == first.tasks and not events, "every task of the first model is still known"


def test_a_stopped_evaluation_resumes_at_the_task_it_was_in(finished, prepared, monkeypatch):
    run = RunFolder(prepared / "stopped")
    save_export(run.export(1), prepared / "tokenizer.json", step=1)
    run.recipe.write_text(finished[0].recipe.read_text())
    labels = []

    def stop_in_second_task(label, done, total):
        labels.append(label)
        if label == "continuation_code":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_export(run, progress=stop_in_second_task)
    assert "continuation_text" in labels and not run.score_file(1).exists()
    labels.clear()
    evaluate_export(run, progress=lambda label, *_: labels.append(label))
    assert set(labels) == {"continuation_code", "which"}


def test_what_could_not_be_scored_is_tried_again_for_the_reason_may_be_gone(finished, prepared, monkeypatch):
    from codemix_megatron.evaluate import scorer

    run = RunFolder(prepared / "again")
    run.path.mkdir()
    run.recipe.write_text(write_recipe(read_recipe(prepared / "recipe.yaml")))
    save_export(run.export(9), prepared / "tokenizer.json", step=9)
    real = scorer.write_suite

    def without_text(folder, corpus, *words, **named):
        if corpus == "text":
            raise EvaluationError("corpus text: the disk is full")
        return real(folder, corpus, *words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(scorer, "write_suite", without_text)
        first = evaluate_export(run)
        written = run.score_file(9).read_bytes()
        assert "corpus text: the disk is full" in first.not_scored
        assert evaluate_export(run) == first and run.score_file(9).read_bytes() == written, "it is full still: nothing is written anew"
    second = evaluate_export(run)
    assert "continuation_text" in {task.task for task in second.tasks} and "corpus text: the disk is full" not in second.not_scored
    assert Scores.read(run.score_file(9)) == second and second.bits_per_byte == first.bits_per_byte


def test_missing_exports_are_named(finished, prepared):
    run, _, _ = finished
    with pytest.raises(EvaluationError, match=r"no finished export of step 8; exported are the steps 7, 9; run `codemix export .*@8`"):
        evaluate_export(run, 8)
    empty = RunFolder(prepared / "empty")
    empty.path.mkdir()
    empty.recipe.write_text(run.recipe.read_text())
    with pytest.raises(EvaluationError, match="no export to score; run `codemix export"):
        evaluate_export(empty)


def test_run_without_anything_to_score_says_why(finished, prepared):
    run = RunFolder(prepared / "idle")
    save_export(run.export(1), prepared / "tokenizer.json", step=1)
    recipe = yaml.safe_load(finished[0].recipe.read_text())
    recipe["evaluation"] |= {"suites": [], "tasks": []}
    run.recipe.write_text(yaml.safe_dump(recipe))
    with pytest.raises(EvaluationError, match=r"nothing could be scored\n.*suites and evaluation\.tasks are empty"):
        evaluate_export(run)
    (run.export(1) / "export.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"export\.json: not a readable record of an export"):
        evaluate_export(run)


def test_command_prints_tables_and_words(finished, capsys):
    run, _, _ = finished
    assert main(["evaluate", f"{run.path}@7"]) == 0
    out, err = capsys.readouterr()
    assert "bits per byte" in out and " ± " in out and "continuation_code" in out
    assert "not distinguishable from chance" in out
    assert "not scored: corpus short" in err
    assert run.score_file(7).is_file()
    assert main(["evaluate", f"{run.path}@7"]) == 0
    assert "continuation_code" in capsys.readouterr().out


@pytest.mark.parametrize("words, message", [
    (["@x"], "'x' is not a step; write RUN@48"),
    (["@8"], "exported are the steps 7, 9"),
    (["", "--items", "0"], "--items: found 0, must be at least 1"),
])  # fmt: skip
def test_command_refuses_in_one_message(finished, capsys, words, message):
    run, _, _ = finished
    assert main(["evaluate", str(run.path) + words[0], *words[1:]]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_command_help_shows_examples(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "codemix evaluate runs/demo@48" in capsys.readouterr().out
