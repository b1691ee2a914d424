"""Where documents are from, which of them a run has read, and a corpus without some. Judges: the input itself, a count token by token."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.document_table import read_origins
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus, prepare_recipe
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import pack
from codemix_megatron.mixture.read_documents import documents_read
from codemix_megatron.mixture.sequence_reader import num_windows
from codemix_megatron.recipe.filtering import FilterSpec, NearDuplicates
from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.records.manifest import CorpusManifest

HOW = HowToPrepare(held_out_share=0.2)
LICENCES = ("MIT", "Apache-2.0", None)


def rows() -> list[dict]:
    draw = random.Random(3)
    return [
        {
            "text": " ".join(f"w{draw.randrange(10**6)}" for _ in range(draw.randrange(3, 60))) + f" {i}",
            "license": LICENCES[i % 3],
            "repo_name": f"owner/{i % 7}",
            "lang": ["go", "c"][i % 2],
        }
        for i in range(120)
    ]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_corpus_without_an_origin_is_that_of_the_input_without_it(write_lines, spec_for, tokenizer, shuffle, capsys):
    filters = FilterSpec(near_duplicates=NearDuplicates())
    path = write_lines(rows())
    spec = spec_for(path, kind="code", prefix="out/whole", shuffle=shuffle, filters=filters)
    whole = prepare_corpus("x", spec, tokenizer, HOW)
    new = f"{spec.prefix}-without"
    assert main(["remove", spec.prefix, "--origin", "owner/3", "--document", f"{path}:5", "--output", new]) == 0
    assert "102 documents" in (out := capsys.readouterr().out) and "18 documents removed" in out
    left = [row for i, row in enumerate(rows()) if row["repo_name"] != "owner/3" and i != 4]
    wanted = prepare_corpus(
        "x", spec_for(write_lines(left, "left.jsonl"), kind="code", prefix="out/left", shuffle=shuffle, filters=filters), tokenizer, HOW
    )
    for suffix in (".bin", ".idx", ".languages.npy", ".signatures.npy", ".documents.npy"):
        assert Path(new + suffix).read_bytes() == Path(wanted.prefix + suffix).read_bytes(), suffix
    made = CorpusManifest.read(new)
    counted = (
        "num_documents",
        "num_tokens",
        "num_bytes",
        "train_documents",
        "train_tokens",
        "train_bytes",
        "kinds",
        "languages",
        "licences",
    )
    assert [getattr(made, name) for name in counted] == [getattr(wanted, name) for name in counted]
    assert made.dropped["removed"] == 18 and made.input_fingerprint != whole.input_fingerprint
    assert main(["verify-corpus", new]) == 0
    assert CorpusManifest.read(spec.prefix) == whole


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--origin", "owner/99", "--output", "new"], "no document owner/99; `codemix inspect"),
        (["--output", "new"], "nothing named; give --origin REPO or --document ID"),
        (["--document", "1"], "give --output PREFIX"),
        (["--document", "1", "--output", "corpus"], "corpus: a corpus is there already"),
        ([*(word for i in range(7) for word in ("--origin", f"owner/{i}")), "--output", "new"], "all 120 documents would be removed"),
    ],
)
def test_wishes_that_cannot_be_met_are_named(write_lines, spec_for, tokenizer, tmp_path, monkeypatch, capsys, words, message):
    prepare_corpus("x", spec_for(write_lines(rows()), prefix="corpus"), tokenizer, HOW)
    monkeypatch.chdir(tmp_path)
    assert main(["remove", "corpus", *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("new.bin").exists()


def test_licences_and_origins_are_counted_and_listed(write_lines, spec_for, tokenizer, tmp_path, capsys):
    path = write_lines(rows())
    spec = spec_for(path, kind="code")
    manifest = prepare_corpus("x", spec, tokenizer, HOW)
    words = ["--licences", "--list", str(tmp_path / "list.tsv"), "--origins", str(tmp_path / "origins.tsv")]
    assert main(["inspect", spec.prefix, *words]) == 0
    out = capsys.readouterr().out
    for licence in LICENCES:
        texts = [row["text"] for row in rows() if row["license"] == licence]
        (line,) = [line for line in out.split("\n") if f" {licence or 'unknown'} " in line]
        tokens = sum(len(tokenizer.encode_batch([text])[0]) + 1 for text in texts)
        assert [f"{len(texts)}", f"{sum(map(len, texts)):,}", f"{tokens:,}"] == line.split()[1:4] and " 7 " in line
    (line,) = [line for line in out.split("\n") if line.strip().startswith("all ")]
    assert line.split()[1:] == ["120", f"{manifest.num_bytes:,}", f"{manifest.num_tokens:,}", "7"]
    header, *lines = (tmp_path / "origins.tsv").read_text().splitlines()
    assert header.split("\t") == ["licence", "origin", "documents", "bytes", "tokens"] and len(lines) == 21
    for licence, origin, documents, num_bytes, _ in (line.split("\t") for line in lines):
        texts = [row["text"] for row in rows() if ((row["license"] or "unknown"), row["repo_name"]) == (licence, origin)]
        assert [int(documents), int(num_bytes)] == [len(texts), sum(map(len, texts))]
    assert sum(int(line.split("\t")[4]) for line in lines) == manifest.num_tokens
    header, *lines = (tmp_path / "list.tsv").read_text().splitlines()
    assert header.split("\t") == ["corpus", "document", "bytes", "tokens", "xxh3_128", "licence", "origin", "place"]
    listed = {line.split("\t")[-1]: line.split("\t") for line in lines}
    assert sorted(listed) == sorted(f"{path}:{i}" for i in range(1, 121))
    for number, row in enumerate(rows(), 1):
        assert listed[f"{path}:{number}"][5:7] == [row["license"] or "unknown", row["repo_name"]]


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("seen", [0, 1, 7, 40])
def test_documents_a_run_has_read_are_those_a_token_of_it_stands_in(write_lines, spec_for, tokenizer, is_packed, seen):
    length = 16
    manifest = prepare_corpus("x", spec_for(write_lines(rows())), tokenizer, HOW)
    packing = pack(manifest, length) if is_packed else None
    epoch = packing.num_sequences if packing else num_windows(manifest.train_tokens, length)
    mixture = Mixture(5, ["x"], [epoch], [[epoch]])
    lengths = IndexedReader(manifest.prefix).document_lengths[: manifest.train_documents]
    of_token = np.repeat(np.arange(manifest.train_documents), lengths)
    expected: set[int] = set()
    for sequence in mixture.locate(np.arange(seen)).sequence.tolist():
        if packing:
            pieces = range(packing.first[sequence], packing.first[sequence + 1])
            expected |= {n for p in pieces for n in of_token[packing.start[p] : packing.start[p] + packing.length[p]].tolist()}
        else:
            expected |= set(of_token[sequence * length : (sequence + 1) * length + 1].tolist())
    (found,) = documents_read(mixture, [manifest], length, seen, [packing] if packing else None)
    assert set(np.flatnonzero(found).tolist()) == expected


RECIPE = """
name: test
model: {num_layers: 2, hidden_size: 64, num_attention_heads: 4, sequence_length: 16}
batch: {global_sequences: 2}
tokenizer: {path: TOKENIZER}
corpora: {web: {kind: code, documents: [documents.jsonl]}}
evaluation: {held_out_share: 0.1}
phases:
  - {name: only, tokens: 640, mixture: {web: 1.0}, learning_rate: {peak: 1e-3}}
"""


def test_a_run_says_what_it_has_read_and_of_which_licence(write_lines, tokenizer_path, tmp_path, capsys):
    write_lines(rows())
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("TOKENIZER", str(tokenizer_path)))
    recipe = read_recipe(tmp_path / "recipe.yaml")
    manifest = prepare_recipe(recipe)["web"]
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(write_recipe(recipe))
    (run / "environment.json").write_text("{}")
    (run / "plan.json").write_text("{}")
    (run / "journal.jsonl").write_text(json.dumps({"event": "step", "step": 3, "sequences": 6}) + "\n")
    assert main(["inspect", str(run), "--licences", "--list", str(tmp_path / "read.tsv")]) == 0
    read = [int(line.split("\t")[1]) for line in (tmp_path / "read.tsv").read_text().splitlines()[1:]]
    assert 1 <= len(read) <= 40 and max(read) < manifest.train_documents
    unread = next(i for i in range(manifest.train_documents) if i not in read)
    capsys.readouterr()
    named = [word for number in (read[0], unread) for word in ("--document", str(number))]
    assert main(["remove", manifest.prefix, *named, "--run", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}: has read 1 of 2 of them (documents {read[0]})\n"
    assert len(list(read_origins(manifest.prefix))) == 120
