"""A document is in one corpus only: exact and near copies of other corpora are left out and counted; what stays says where it is from."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash

from codemix_megatron.cli.main import main
from codemix_megatron.corpus import parts
from codemix_megatron.corpus.document_table import read_origins, read_table
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.other_corpora import SortedDigests
from codemix_megatron.corpus.parts import Shard
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus, prepare_recipe
from codemix_megatron.errors import CorpusError
from codemix_megatron.plan.plan import read_manifests
from codemix_megatron.recipe.filtering import FilterSpec, NearDuplicates
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.records.manifest import CorpusManifest

HOW = HowToPrepare(held_out_share=0.2)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 2 kB, so that a small file has many."""
    monkeypatch.setattr(parts, "PART_BYTES", 2048)


def words(seed: int, count: int = 60) -> list[str]:
    draw = random.Random(seed)
    return [f"w{draw.randrange(10**6)}" for _ in range(count)]


def near(seed: int) -> str:
    """Return a text like that of the seed, with one of sixty words another: a Jaccard similarity of 0.84."""
    text = words(seed)
    text[30] = "other"
    return " ".join(text)


def texts_of(prefix, tokenizer) -> list[str]:
    reader = IndexedReader(prefix)
    return [tokenizer.decode(reader.document(i)[:-1]) for i in range(reader.num_documents)]


def write(write_lines, name: str, texts):
    return write_lines([{"text": text, "repo_name": f"repo/{name}", "license": "MIT"} for text in texts], f"{name}.jsonl")


@pytest.fixture
def three(write_lines, spec_for):
    """Specs of three corpora: b holds 10 texts of a, 10 near copies of a's; c holds some of both, and of its own."""
    a = [" ".join(words(i)) for i in range(40)]
    b = [*a[:10], *(near(i) for i in range(10, 20)), *(" ".join(words(i)) for i in range(100, 130))]
    c = [a[30], b[25], near(105), near(35), *(" ".join(words(i)) for i in range(200, 220)), " ".join(words(200))]
    return {
        name: spec_for(write(write_lines, name, texts), prefix=f"out/{name}", filters=FilterSpec(near_duplicates=NearDuplicates()))
        for name, texts in (("a", a), ("b", b), ("c", c))
    }


def apart(spec, *others) -> object:
    return replace(spec, filters=replace(spec.filters, apart_from=tuple(other.prefix for other in others)))


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_document_stands_in_one_corpus_and_is_counted_by_pair(three, tokenizer, shuffle):
    a, b, c = (replace(spec, shuffle=shuffle) for spec in three.values())
    prepare_corpus("a", a, tokenizer, HOW)
    of_b = prepare_corpus("b", apart(b, a), tokenizer, HOW)
    assert of_b.dropped == {"duplicate of a": 10, "near duplicate of a": 10} and of_b.num_documents == 30
    for index in (1, 0):
        prepare_corpus("c", apart(c, a, b), tokenizer, replace(HOW, shard=Shard(index, 2)))
    of_c = prepare_corpus("c", apart(c, a, b), tokenizer, replace(HOW, only_merge=True))
    assert of_c.dropped == {
        "duplicate": 1, "duplicate of a": 1, "duplicate of b": 1, "near duplicate of a": 1, "near duplicate of b": 1
    }  # fmt: skip
    assert of_c.dropped_places["near duplicate of a"][0].endswith("c.jsonl:4")
    assert of_c.apart_from == {spec.prefix: CorpusManifest.read(spec.prefix).bin_sha256 for spec in (a, b)}
    kept = [text for spec in (a, b, c) for text in texts_of(spec.prefix, tokenizer)]
    assert len(kept) == len(set(kept)) == 40 + 30 + 20


def test_a_corpus_is_prepared_again_when_one_it_keeps_apart_from_changes(three, tokenizer, write_lines):
    a, b, _ = three.values()
    with pytest.raises(CorpusError, match=r"corpora.b.filters.apart_from: a is not prepared at .*a; prepare it first"):
        prepare_corpus("b", apart(b, a), tokenizer, HOW)
    prepare_corpus("a", a, tokenizer, HOW)
    prepare_corpus("b", apart(b, a), tokenizer, HOW)
    said = []
    prepare_corpus("b", apart(b, a), tokenizer, replace(HOW, say=said.append))
    write(write_lines, "a", ["something else"] * 3)
    prepare_corpus("a", a, tokenizer, HOW)
    manifest = prepare_corpus("b", apart(b, a), tokenizer, replace(HOW, say=said.append))
    assert said == ["b: already prepared, nothing has changed", "b: preparing again, corpora it keeps apart from have changed"]
    assert manifest.num_documents == 50


def test_corpora_of_a_recipe_are_kept_apart_from_earlier_ones(tmp_path, write_lines, tokenizer_path, capsys):
    write(write_lines, "a", [f"text {i}" for i in range(30)])
    write(write_lines, "b", [f"text {i}" for i in range(20, 60)])
    recipe = {
        "name": "test",
        "model": {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "sequence_length": 16},
        "batch": {"global_sequences": 2},
        "tokenizer": {"path": str(tokenizer_path)},
        "corpora": {
            "first": {"kind": "text", "documents": ["a.jsonl"]},
            "second": {"kind": "code", "documents": ["b.jsonl"], "filters": {"apart_from": ["earlier"]}},
        },
        "phases": [{"name": "only", "tokens": "1K", "mixture": {"first": 0.5, "second": 0.5}, "learning_rate": {"peak": 1e-3}}],
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert main(["prepare", str(tmp_path / "recipe.yaml")]) == 0
    assert "second: left out 10 (duplicate of first)" in capsys.readouterr().out
    recipe["corpora"]["first"]["filters"] = {"apart_from": ["second"]}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert main(["prepare", str(tmp_path / "recipe.yaml")]) == 2
    assert "corpora.first.filters.apart_from: second comes after it in the recipe" in capsys.readouterr().err


def test_corpora_are_prepared_in_the_recipes_order_and_one_prepared_again_alone_does_not_go_unseen(tmp_path, write_lines, tokenizer_path):
    """Kept apart from what stood there before, a corpus holds documents of what stands there now."""
    write(write_lines, "a", [f"text {i}" for i in range(30)])
    write(write_lines, "b", [f"text {i}" for i in range(20, 60)])
    plain = {
        "name": "test", "model": {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "sequence_length": 16},
        "batch": {"global_sequences": 2}, "tokenizer": {"path": str(tokenizer_path)},
        "corpora": {"first": {"documents": ["a.jsonl"]}, "second": {"documents": ["b.jsonl"], "filters": {"apart_from": ["first"]}}},
        "phases": [{"name": "only", "tokens": "1K", "mixture": {"first": 0.5, "second": 0.5}, "learning_rate": {"peak": 1e-3}}],
    }  # fmt: skip
    recipe = build_recipe(plain, directory=tmp_path)

    def shared(done) -> set:
        """Texts in both, by the hashes of the tables beside them."""
        return set.intersection(*({d.digest for d in read_origins(recipe.corpora[name].prefix)} for name in ("first", "second")))

    prepare_recipe(recipe)
    write(write_lines, "a", [f"text {i}" for i in range(10, 45)])
    done = prepare_recipe(recipe, ["second", "first", "second"])
    assert list(done) == ["first", "second"] and not shared(done) and read_manifests(recipe)
    write(write_lines, "a", [f"text {i}" for i in range(10, 55)])
    prepare_recipe(recipe, ["first"])
    with pytest.raises(
        CorpusError, match=r"corpora\.second\.filters\.apart_from: first is another corpus now than when it was prepared; run"
    ):
        read_manifests(recipe)
    assert not shared(prepare_recipe(recipe)) and read_manifests(recipe)
    folder = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-moved"))
    assert read_manifests(build_recipe(plain, directory=folder))
    write_lines([{"text": "another"}], folder / "a.jsonl")
    prepare_recipe(build_recipe(plain, directory=folder), ["first"])
    with pytest.raises(CorpusError, match="first is another corpus now"):
        read_manifests(build_recipe(plain, directory=folder))


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_table_beside_a_corpus_says_what_each_document_is(three, tokenizer, shuffle):
    spec = replace(three["b"], shuffle=shuffle)
    manifest = prepare_corpus("b", spec, tokenizer, HOW)
    texts = texts_of(spec.prefix, tokenizer)
    origins = list(read_origins(spec.prefix))
    assert sorted(origin.document for origin in origins) == list(range(manifest.num_documents))
    source = [json.loads(line)["text"] for line in Path(spec.documents[0]).read_text().splitlines()]
    for origin in origins:
        assert origin.digest == xxhash.xxh3_128_digest(texts[origin.document].encode()).hex()
        assert (origin.origin, origin.licence, origin.kind, origin.language) == ("repo/b", "MIT", "text", None)
    assert [texts[origin.document] for origin in origins] == list(dict.fromkeys(source))
    assert len(read_table(spec.prefix)) == manifest.num_documents


def test_sorted_digests_find_each_of_theirs_and_no_other():
    draw = np.random.default_rng(1)
    numbers = draw.integers(0, 4, size=(4000, 2)).astype("<u8")  # many share a half
    digests, wanted = numbers.view("V16")[:, 0], {tuple(row) for row in numbers[:9].tolist()}
    found = SortedDigests(digests[:9]).holds_each(digests)
    assert found.tolist() == [tuple(row) in wanted for row in numbers.tolist()]
    assert not SortedDigests(digests[:0]).holds_each(digests).any()
