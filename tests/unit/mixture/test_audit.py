"""Recounted tokens by language equal a count by hand, token by token."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import load_tokenizer, train_tokenizer
from codemix_megatron.mixture.audit import EMPTY, DocumentLanguages, audit
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import PackedReader, pack
from codemix_megatron.mixture.sequence_reader import num_windows
from codemix_megatron.recipe.schema import CorpusSpec

LENGTH = 16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Documents of three languages, mixed."""
    folder = tmp_path_factory.mktemp("languages")
    draw = np.random.default_rng(0)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "1", "2"]
    rows = [
        {"text": " ".join(draw.choice(words, draw.integers(3, 60))) + f" {i}", "lang": ["python", "go", "rust"][i % 3]} for i in range(90)
    ]
    (folder / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train_tokenizer([row["text"] for row in rows], 300, folder / "tokenizer.json")
    spec = CorpusSpec(kind="code", documents=(str(folder / "code.jsonl"),), prefix=str(folder / "code"))
    return prepare_corpus("code", spec, load_tokenizer(folder / "tokenizer.json"), HowToPrepare(held_out_share=0.1))


def languages_of_tokens(manifest) -> np.ndarray:
    """Return the language of every training token, straight from the documents."""
    from codemix_megatron.corpus.indexed import IndexedReader

    lengths = IndexedReader(manifest.prefix).document_lengths[: manifest.train_documents]
    return np.repeat(np.load(f"{manifest.prefix}.languages.npy"), lengths)


def test_a_corpus_prepared_again_without_languages_has_none_of_the_earlier_one(corpus, tmp_path):
    text = "some words without a language"
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": f"{text} {i}"}) + "\n" for i in range(50)))
    spec = CorpusSpec(kind="text", documents=(str(tmp_path / "text.jsonl"),), prefix=str(tmp_path / "same"))
    for suffix in (".bin", ".idx", ".manifest.json", ".languages.npy", ".documents.npy", ".documents.tsv.zst"):
        shutil.copy(f"{corpus.prefix}{suffix}", f"{spec.prefix}{suffix}")
    made = prepare_corpus("code", spec, load_tokenizer(corpus.tokenizer.path), HowToPrepare(held_out_share=0.1))
    assert not made.languages and not Path(f"{spec.prefix}.languages.npy").exists()
    assert DocumentLanguages(made).count(np.array([0]), np.array([made.train_tokens])).tolist() == [made.train_tokens]


def test_languages_of_all_training_tokens_are_the_manifests_less_the_held_out(corpus):
    known = DocumentLanguages(corpus)
    counts = known.count(np.array([0]), np.array([corpus.train_tokens]))
    assert counts.sum() == corpus.train_tokens
    for name, count in zip(known.names, counts, strict=True):
        assert 0 < count <= corpus.languages[name]["tokens"]
    assert sum(v["tokens"] for v in corpus.languages.values()) == corpus.num_tokens


@pytest.mark.parametrize("is_packed", [False, True])
def test_audit_equals_a_count_by_hand(corpus, is_packed):
    packing = pack(corpus, LENGTH) if is_packed else None
    epoch = packing.num_sequences if is_packed else num_windows(corpus.train_tokens, LENGTH)
    mixture = Mixture(5, ["code"], [epoch], [[epoch // 2], [epoch]])
    seen = len(mixture) - 3
    counted = audit(mixture, [corpus], LENGTH, seen, [packing] if is_packed else None)
    language, located = languages_of_tokens(corpus), mixture.locate(np.arange(seen))
    names = list(corpus.languages)
    for phase in (0, 1):
        expected, empty = np.zeros(len(names), dtype=int), 0
        for sequence in located.sequence[located.phase == phase]:
            if is_packed:
                pieces = range(packing.first[sequence], packing.first[sequence + 1])
                tokens = np.concatenate([language[packing.start[p] : packing.start[p] + packing.length[p]] for p in pieces])[:-1]
                empty += LENGTH - len(tokens)
            else:
                tokens = language[sequence * LENGTH : (sequence + 1) * LENGTH]
            expected += np.bincount(tokens, minlength=len(names))
        found = {name: n for name, n in zip([*names, EMPTY], [*expected.tolist(), empty], strict=True) if n}
        assert counted[phase][0] == found
        assert sum(found.values()) == LENGTH * (located.phase == phase).sum()


def test_recounted_positions_with_a_token_are_those_the_reader_gives_labels(corpus):
    """Documents are longer than a sequence here, so pieces overlap by the token that ends one and begins the next."""
    packing, reader = pack(corpus, LENGTH), PackedReader([corpus], LENGTH)
    mixture = Mixture(5, ["code"], [packing.num_sequences], [[packing.num_sequences]])
    rows = reader.read(np.zeros(packing.num_sequences, dtype=int), np.arange(packing.num_sequences))
    counted = audit(mixture, [corpus], LENGTH, len(mixture), [packing])[0][0]
    assert packing.length.max() == LENGTH + 1
    assert counted.pop(EMPTY, 0) == (rows[:, 1:] < 0).sum()
    assert sum(counted.values()) == (rows[:, 1:] >= 0).sum()
