"""`codemix prepare`: a whole recipe, its tokenizer, and what the user reads."""

import gzip
import json

import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.held_out import HeldOutRule, held_out_fraction, text_digest
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.corpus.training_sample import sample_texts
from codemix_megatron.readers.documents import InputFile
from codemix_megatron.records.manifest import CorpusManifest

RECIPE = """
name: test
model: {num_layers: 2, hidden_size: 64, num_attention_heads: 4, sequence_length: 16}
batch: {global_sequences: 2}
tokenizer: {path: tokenizer.json, train_vocab_size: 300}
corpora:
  prose: {kind: text, documents: [prose.jsonl]}
  web: {kind: code, documents: [web.jsonl.gz]}
evaluation: {held_out_share: 0.1}
phases:
  - {name: only, tokens: 1K, mixture: {prose: 0.5, web: 0.5}, learning_rate: {peak: 1e-3}}
"""


@pytest.fixture
def recipe(tmp_path, write_lines):
    """A recipe with two corpora and no tokenizer yet."""
    write_lines([{"text": f"the quick brown fox number {i} jumps over the lazy dog"} for i in range(60)], "prose.jsonl")
    code = "".join(json.dumps({"text": f"def f{i}(x):\n    return x + {i}\n", "lang": "python"}) + "\n" for i in range(60))
    (tmp_path / "web.jsonl.gz").write_bytes(gzip.compress(code.encode()))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def test_recipe_gives_tokenizer_corpora_and_a_table(recipe, capsys):
    assert main(["prepare", str(recipe)]) == 0
    printed = capsys.readouterr().out
    assert "tokenizer: training 300 tokens" in printed
    assert "bytes/token" in printed
    assert "web: languages by tokens: python 100.0 %" in printed
    assert load_tokenizer(recipe.parent / "tokenizer.json").vocab_size == 300
    for name in ("prose", "web"):
        manifest = CorpusManifest.read(recipe.parent / "corpora" / name)
        assert manifest.name == name
        assert manifest.num_documents == 60
        assert manifest.held_out_documents >= 1
        assert f"{name}: {manifest.prefix}.bin" in printed


def test_corpora_beside_one_that_cannot_be_prepared_are_prepared_and_shown(recipe, capsys):
    main(["prepare", str(recipe)])
    capsys.readouterr()
    lines = [*recipe.parent.joinpath("prose.jsonl").read_text().splitlines()[:20], "broken", '{"text": "more"}']
    recipe.parent.joinpath("prose.jsonl").write_text("\n".join(lines))
    recipe.parent.joinpath("web.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x = 1"}\n'))
    assert main(["prepare", str(recipe)]) == 2
    printed = capsys.readouterr()
    assert "corpora.prose: 1 of 22 documents are damaged" in printed.err
    assert "bytes/token" in printed.out and CorpusManifest.read(recipe.parent / "corpora/web").num_documents == 1
    assert CorpusManifest.read(recipe.parent / "corpora/prose").num_documents == 60, "the corpus from before is untouched"


def test_folders_say_what_they_hold_that_is_not_read(recipe, capsys):
    (recipe.parent / "notes").mkdir()
    for name in ("a.txt", "b.xyz", "c.xyz"):
        (recipe.parent / "notes" / name).write_text(f"words of {name} and some more")
    assert main(["prepare", str(recipe), "corpora.prose.documents=[notes]"]) == 0
    assert "corpora.prose.documents[0]: " in (out := capsys.readouterr().out)
    assert "3 files; reads 1 (.txt 1), leaves out 2 (.xyz 2)" in out.replace("\n", " ")


def test_second_time_says_that_nothing_has_changed(recipe, capsys):
    main(["prepare", str(recipe)])
    before = CorpusManifest.read(recipe.parent / "corpora/web")
    capsys.readouterr()
    assert main(["prepare", str(recipe)]) == 0
    assert capsys.readouterr().out.count("already prepared, nothing has changed") == 2
    assert CorpusManifest.read(recipe.parent / "corpora/web") == before


def test_shards_and_merge_give_the_files_of_one_command(recipe, capsys):
    assert main(["prepare", str(recipe)]) == 0
    one = {path.name: path.read_bytes() for path in (recipe.parent / "corpora").glob("*.bin")}
    assert main(["merge", str(recipe)]) == 0
    assert capsys.readouterr().out.count("already prepared, nothing has changed") == 2
    assert main(["prepare", str(recipe), "--force", "--shard", "1/2"]) == 0
    assert f"shard 1/2: done; when all 2 are: codemix merge {recipe}" in capsys.readouterr().out
    overrides = ["corpora.prose.prefix=again/prose", "corpora.web.prefix=again/web"]
    assert main(["merge", str(recipe), *overrides]) == 2
    assert "parts are not done" in capsys.readouterr().err
    for shard in ("1/2", "0/2"):
        assert main(["prepare", str(recipe), "--shard", shard, *overrides]) == 0
    assert main(["merge", str(recipe), *overrides]) == 0
    assert {name: (recipe.parent / "again" / name).read_bytes() for name in one} == one


def test_shards_do_not_train_a_tokenizer_all_at_once(recipe, capsys):
    assert main(["prepare", str(recipe), "--shard", "0/2"]) == 2
    assert "no tokenizer there" in capsys.readouterr().err


def test_only_one_corpus_but_a_tokenizer_from_all(recipe, capsys):
    assert main(["prepare", str(recipe), "--only", "prose"]) == 0
    only = (recipe.parent / "tokenizer.json").read_bytes()
    assert not (recipe.parent / "corpora/web.manifest.json").exists()
    (recipe.parent / "tokenizer.json").unlink()
    assert main(["prepare", str(recipe), "--force"]) == 0
    assert (recipe.parent / "tokenizer.json").read_bytes() == only


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "prosa"], "prosa: no such corpus in the recipe; did you mean prose?"),
        (["--max-bad-share", "2"], "--max-bad-share: found 2.0, allowed are 0 to 1"),
        (["corpora.prose.documents=none.jsonl"], "corpora.prose.documents[0]:"),
        (["tokenizer.train_vocab_size=null"], "tokenizer.json: no tokenizer there"),
        (["tokenizer.path=recipe.yaml"], "unknown suffix '.yaml'"),
    ],
)
def test_wrong_wishes_are_answered_with_exit_code_2(recipe, capsys, arguments, message):
    assert main(["prepare", str(recipe), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_damaged_lines_need_leave(recipe, capsys):
    with open(recipe.parent / "prose.jsonl", "ab") as handle:
        handle.write(b'{"text": "\xff"}\n')
    assert main(["prepare", str(recipe)]) == 2
    assert f"invalid UTF-8: 1 ({recipe.parent}/prose.jsonl:61)" in capsys.readouterr().err
    assert main(["prepare", str(recipe), "--max-bad-share", "0.02"]) == 0
    assert "prose: left out 1 (invalid UTF-8)" in capsys.readouterr().out


def test_tokenizer_that_is_there_is_kept_and_the_difference_said(recipe, capsys):
    main(["prepare", str(recipe)])
    before = (recipe.parent / "tokenizer.json").read_bytes()
    assert main(["prepare", str(recipe), "tokenizer.train_vocab_size=310"]) == 0
    assert (recipe.parent / "tokenizer.json").read_bytes() == before
    assert "has 300 tokens, the recipe asks for 310; remove the file to train it again" in capsys.readouterr().out


def test_vocabulary_that_the_documents_cannot_fill_is_said(recipe, capsys):
    assert main(["prepare", str(recipe), "tokenizer.train_vocab_size=50000"]) == 0
    assert "the documents hold no more pairs that occur twice" in capsys.readouterr().out


def as_input(texts) -> InputFile:
    from codemix_megatron.readers.documents import Document

    return InputFile(None, "x", 0, "", lambda *_: iter([Document(text, str(i)) for i, text in enumerate(texts)]))


def test_training_sample_takes_equal_bytes_whatever_the_order():
    small, large = [f"s{i:04}" for i in range(1000)], [f"l{i:04}" for i in range(9000)]
    rule = HeldOutRule(0.0)
    sample = sample_texts([[as_input(small)], [as_input(large)]], rule=rule, seed=1, num_bytes=4000)
    assert [sum(text[0] == letter for text in sample) for letter in "sl"] == [400, 400]
    again = sample_texts([[as_input(small[::-1])], [as_input(large[::-1])]], rule=rule, seed=1, num_bytes=4000)
    assert sorted(again) == sorted(sample)
    assert sorted(sample_texts([[as_input(small)], [as_input(large)]], rule=rule, seed=2, num_bytes=4000)) != sorted(sample)


def test_training_sample_never_holds_a_held_out_text():
    texts = [f"text {i}" for i in range(500)]
    sample = sample_texts([[as_input(texts * 2)]], rule=HeldOutRule(0.3), seed=1)
    assert set(sample) == {text for text in texts if held_out_fraction(text_digest(text.encode())) >= 0.3}
    assert len(sample) == len(set(sample))
