"""Items that were trained on are found in the prepared corpora, counted, and left out of a second value."""

import json

import pytest
import yaml
from tiny_export import save_export

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import prepare_recipe
from codemix_megatron.corpus.tokenizers import tokenizer_of
from codemix_megatron.evaluate.overlap import find_overlaps
from codemix_megatron.filters.contamination import build_contamination_index
from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import Scores

PASSAGE = "the quick brown fox jumps over the lazy dog while seven wizards brew strong potions near quiet rivers every autumn evening"
CLEAN = "another passage about mountains lakes and birds that no corpus holds because it was written for this very test alone today"
RECIPE = {
    "name": "leak",
    "model": {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "sequence_length": 48},
    "parallel": {"device": "cpu"},
    "batch": {"global_sequences": 2},
    "tokenizer": {"path": "tokenizer.json", "train_vocab_size": 320},
    "corpora": {"text": {"kind": "text", "documents": ["text.jsonl"]}},
    "phases": [{"name": "all", "tokens": "1K", "mixture": {"text": 1.0}, "learning_rate": {"schedule": "constant", "peak": 1e-3}}],
    "evaluation": {"held_out_share": 0.2},
}


@pytest.fixture(scope="module")
def leaked(tmp_path_factory):
    """A run whose corpus holds the passage of the first two of four BoolQ items, line wraps and capitals aside."""
    folder = tmp_path_factory.mktemp("leak")
    documents = [f"document number {i} with words of its own and a few more of them so that it is not short {i * 7}" for i in range(30)]
    documents += [f"Before it. {PASSAGE.upper()[:60]}{PASSAGE[60:]}\nAfter it, copy {i}." for i in range(4)]  # whichever are held out
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    recipe = read_recipe(folder / "recipe.yaml")
    prepare_recipe(recipe)
    run = RunFolder(folder / "run")
    save_export(run.export(1), folder / "tokenizer.json", step=1, max_length=128)
    run.recipe.write_text(write_recipe(recipe))
    run.environment.write_text("{}")
    items = [{"question": f"is it {i}", "passage": PASSAGE if i < 2 else CLEAN, "answer": bool(i % 2)} for i in range(4)]
    (folder / "boolq.validation.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "s.yaml").write_text("suite: s\ntasks: {boolq: {from: paper}}\n")
    return folder, run


def test_overlapping_items_are_counted_and_left_out_of_a_second_value(leaked, capsys):
    folder, run = leaked
    words = ["evaluate", str(run.path), "--suite", str(folder / "s.yaml"), "--data", str(folder), "--contamination"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "2 of 4" in out and "without" in out
    scores = {score.metric: score for score in Scores.read(run.score_file(1)).tasks}
    bits = scores["bits_per_byte"]
    kept = json.loads(next((run.scores / "items").glob("boolq-*")).read_text())["metrics"]["bits_per_byte"]["values"]
    assert bits.contaminated == 2 and bits.clean_value == pytest.approx(sum(kept[2:]) / 2)
    assert bits.value == pytest.approx(sum(kept) / 4) and bits.clean_standard_error > 0
    assert len(list((run.scores / "contamination").glob("*.json"))) == 1


def test_without_being_asked_nobody_looks(leaked):
    folder, run = leaked
    assert main(["evaluate", str(run.path), "--suite", str(folder / "s.yaml"), "--data", str(folder)]) == 0
    assert Scores.read(run.score_file(1)).tasks[0].contaminated is None


def test_what_overlaps_is_what_decontamination_would_have_dropped(leaked, tmp_path):
    """Items shorter than a run, and copies with line numbers or HTML's escapes: one rule for both."""
    folder, _ = leaked
    manifests = {"text": CorpusManifest.read(folder / "corpora/text")}
    short = "with words of its own and a few more"
    items = [{"q": text} for text in (short, f"{short} things", f"{PASSAGE} {CLEAN}", "short", CLEAN, short.replace(" a ", " &amp; "))]
    data = tmp_path / "items.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in items))
    index = build_contamination_index([data])
    reader, tokenizer = IndexedReader(manifests["text"].prefix), tokenizer_of(manifests["text"].tokenizer)
    documents = [tokenizer.decode(reader.document(i)[:-1]) for i in range(manifests["text"].train_documents)]
    dropped = [index.names.index(name) for name in index.contaminated_items(documents)]
    assert find_overlaps([data], manifests, tmp_path)[data] == dropped == [0, 2]
    assert find_overlaps([data], manifests, tmp_path, lambda *_: pytest.fail("read again"))[data] == dropped


def test_files_of_one_name_keep_their_own_items_also_when_looked_up_again(leaked, tmp_path):
    """Cached by the names of the files, the second time both had the items of the last one."""
    folder, _ = leaked
    manifests = {"text": CorpusManifest.read(folder / "corpora/text")}
    files = [tmp_path / suite / "test.jsonl" for suite in ("arc", "mmlu")]
    for file, texts in zip(files, ([PASSAGE, CLEAN], [CLEAN, CLEAN, PASSAGE]), strict=True):
        file.parent.mkdir()
        file.write_text("".join(json.dumps({"q": text}) + "\n" for text in texts))
    found = find_overlaps(files, manifests, tmp_path)
    assert found == find_overlaps(files, manifests, tmp_path) == dict(zip(files, ([0], [2]), strict=True))


def test_data_that_cannot_be_looked_through_are_not_called_clean(leaked, tmp_path):
    folder, run = leaked
    items = [{"question": f"is it {i}", "passage": PASSAGE, "answer": bool(i % 2)} for i in range(4)]
    (tmp_path / "boolq.validation.jsonl").write_text(json.dumps(items))  # lm-eval reads an array too
    words = ["evaluate", str(run.path), "--suite", str(folder / "s.yaml"), "--data", str(tmp_path), "--contamination"]
    assert main(words) == 0
    scores = Scores.read(run.score_file(1))
    assert scores.tasks and {score.contaminated for score in scores.tasks} == {None}
    assert any("boolq.validation.jsonl: holds an array; contamination is looked for in JSON lines" in line for line in scores.not_scored)
