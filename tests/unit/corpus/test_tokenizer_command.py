"""`codemix tokenizer`: trained on shares of corpora, the same twice, and compared on each language."""

import json
import random

import pytest
import yaml
from tiny_run import RECIPE, make_documents

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.indexed import token_dtype
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.corpus.training_sample import share_budget

SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]


@pytest.fixture
def corpora(write_lines):
    """Prose of one vocabulary, and code in two languages."""
    draw = random.Random(0)
    prose = [{"text": " ".join("".join(draw.choices(SYLLABLES, k=3)) for _ in range(45))} for _ in range(80)]
    code = [{"text": f"def f{i}(x):\n        return x + {2000 + i}\n" * 8, "lang": "python" if i % 3 else "go"} for i in range(1, 80)]
    return write_lines(prose, "prose.jsonl"), write_lines(code, "code.jsonl")


def trained(corpora, output, *words) -> None:
    """Train on both corpora."""
    prose, code = corpora
    assert main(["tokenizer", "train", str(output), "--corpus", f"text={prose}", "--corpus", f"code={code}", *words]) == 0


def test_the_same_seed_trains_the_same_tokenizer_from_the_shares_asked_for(corpora, tmp_path, capsys):
    words = ["--vocab-size", "340", "--sample-bytes", "20K", "--share", "text=0.8", "--share", "code=0.2", "--fill-in-the-middle"]
    for name in ("a", "b"):
        trained(corpora, tmp_path / name / "tokenizer.json", *words)
    trained(corpora, tmp_path / "c" / "tokenizer.json", *words, "--seed", "5")
    first, second, other = ((tmp_path / name / "tokenizer.json").read_bytes() for name in "abc")
    assert first == second != other
    assert "uint16 on disk" in capsys.readouterr().out
    told = json.loads((tmp_path / "a/tokenizer.training.json").read_text())
    taken = {name: corpus["sampled_bytes"] for name, corpus in told["corpora"].items()}
    assert taken["text"] == pytest.approx(16_000, rel=0.1) and taken["code"] == pytest.approx(4000, rel=0.1)

    tokenizer = load_tokenizer(tmp_path / "a/tokenizer.json")
    assert tokenizer.end_of_document_id == 0
    assert [tokenizer.decode([i]) for i in range(1, 5)] == told["special_tokens"]
    text = "x<|fim_middle|>2024\n        y \U0001f600"
    (ids,) = tokenizer.encode_batch([text])
    assert not set(ids) & set(range(5)) and tokenizer.decode(ids) == text


def test_the_report_tells_what_a_token_holds(corpora, tmp_path, capsys, shared_data):
    trained(corpora, tmp_path / "tokenizer.json", "--vocab-size", "600")
    capsys.readouterr()
    paths = [str(tmp_path / "tokenizer.json"), str(shared_data / "tokenizers/mistral/tokenizer.model")]
    words = ["tokenizer", "report", *paths, "--corpus", f"code={corpora[1]}", "--output", str(tmp_path / "report.json")]
    assert main(words) == 0
    assert "python" in capsys.readouterr().out
    whole, python, go = json.loads((tmp_path / "report.json").read_text())["rows"]
    texts = [json.loads(line) for line in corpora[1].read_text().splitlines()]
    for number, path in enumerate(paths):
        counted = [len(ids) for ids in load_tokenizer(path).encode_batch([t["text"] for t in texts])]
        assert whole["tokens"][number] == sum(counted)
        assert go["tokens"][number] == sum(n for n, t in zip(counted, texts, strict=True) if t["lang"] == "go")
    assert whole["bytes"] == sum(len(t["text"].encode()) for t in texts) == python["bytes"] + go["bytes"]
    assert whole["unchanged"] == [79, 79]


def test_ids_have_16_bits_where_megatron_gives_them_16():
    assert [token_dtype(size).name for size in (1000, 65_499, 65_500, 65_536, 256_000)] == ["uint16"] * 2 + ["int32"] * 3


def test_shares_of_a_recipe_are_those_of_all_its_phases(tmp_path, monkeypatch):
    make_documents(tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    monkeypatch.chdir(tmp_path)
    assert (
        main(["tokenizer", "train", str(tmp_path / "t.json"), "--vocab-size", "300", "--recipe", "recipe.yaml", "--sample-bytes", "9K"])
        == 0
    )
    taken = {n: c["sampled_bytes"] for n, c in json.loads((tmp_path / "t.training.json").read_text())["corpora"].items()}
    # 12 batches at 0.5 and 8 at 0.8
    assert taken["prose"] / sum(taken.values()) == pytest.approx(0.62, abs=0.05)


def test_a_small_corpus_keeps_its_share(corpora, tmp_path, capsys):
    words = ["--vocab-size", "300", "--sample-bytes", "10M", "--share", "text=0.25", "--share", "code=0.75"]
    trained(corpora, tmp_path / "t.json", *words)
    taken = {n: c["sampled_bytes"] for n, c in json.loads((tmp_path / "t.training.json").read_text())["corpora"].items()}
    assert taken["text"] / sum(taken.values()) == pytest.approx(0.25, abs=0.02)
    assert taken["code"] == sum(len(json.loads(line)["text"]) for line in corpora[1].read_text().splitlines())  # all there is
    assert "of 7.5 MB wanted: there is no more" in capsys.readouterr().out


def test_a_budget_follows_shares():
    assert share_budget(["a", "b"], 100) == {"a": 50, "b": 50}
    assert share_budget(["a", "b", "c"], 100, {"a": 0.75, "c": 0.25}) == {"a": 75, "b": 0, "c": 25}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "t.json", "--vocab-size", "300"], "no corpora named; give --recipe RECIPE"),
        (["train", "t.json", "--vocab-size", "300", "--corpus", "x"], "write NAME=DOCUMENTS"),
        (["train", "t.json", "--vocab-size", "300", "--corpus", "x=gone.jsonl"], "gone.jsonl: nothing is there"),
        (["train", "t.model", "--vocab-size", "300", "--corpus", "x=some.jsonl"], "must end in .json"),
        (["train", "some.json", "--vocab-size", "300", "--corpus", "x=some.jsonl"], "some.json: already there"),
        (["train", "t.json", "--vocab-size", "200", "--corpus", "x=some.jsonl"], "found 200, must be at least 257"),
        (["train", "t.json", "--vocab-size", "300", "--corpus", "x=some.jsonl", "--share", "x=0.5"], "shares add up to 0.5, not 1"),
        (["train", "t.json", "--vocab-size", "300", "--corpus", "x=some.jsonl", "--share", "y=1"], "share of y: no such corpus"),
        (["train", "t.json", "--vocab-size", "300", "--corpus", "x=some.jsonl", "--share", "x"], "write NAME=X"),
        (["train", "t.json", "--vocab-size", "300", "--corpus", "x=some.jsonl", "--text-key", "y"], "no documents to train on"),
        (["train", "t.json", "--vocab-size", "300", "--corpus", "x=some.jsonl", "--sample-bytes", "x"], "--sample-bytes: 'x'"),
        (["report", "gone.json", "--corpus", "x=some.jsonl"], "gone.json: no tokenizer there"),
    ],
)
def test_bad_arguments_are_named(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some.jsonl").write_text('{"text": "some"}\n')
    (tmp_path / "some.json").write_text("{}")
    assert main(["tokenizer", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "t.json").exists() and (tmp_path / "some.json").read_text() == "{}"
