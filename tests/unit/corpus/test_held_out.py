"""Which documents are never trained on."""

import numpy as np
import pytest

from codemix_megatron.corpus.held_out import HeldOutRule, held_out_fraction, held_out_token_documents, text_digest
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.errors import CorpusError


def split(manifest, tokenizer) -> tuple[list[str], list[str]]:
    """Return the texts of both sides of a corpus."""
    reader = IndexedReader(manifest.prefix)
    decoded = [tokenizer.decode(reader.document(i)[:-1]) for i in range(reader.num_documents)]
    return decoded[: manifest.train_documents], decoded[manifest.train_documents :]


def test_fractions_are_uniform():
    fractions = np.array([held_out_fraction(text_digest(str(i).encode())) for i in range(20_000)])
    assert 0 <= fractions.min() < fractions.max() < 1
    counts, _ = np.histogram(fractions, bins=10, range=(0, 1))
    assert np.abs(counts - 2000).max() < 200


def test_forced_texts_go_to_their_side():
    digest = text_digest(b"x")
    assert HeldOutRule(0.0, always=digest).holds(digest)
    assert not HeldOutRule(1.0, never=digest).holds(digest)


def test_held_out_documents_stand_behind_the_others_and_are_disjoint(hundred_texts, spec_for, tokenizer):
    manifest = prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare(held_out_share=0.2))
    train, held_out = split(manifest, tokenizer)
    assert 8 <= len(held_out) <= 32
    assert len(train) + len(held_out) == 100
    assert not set(train) & set(held_out)
    assert manifest.train_tokens == IndexedReader(manifest.prefix).document_lengths[: len(train)].sum()
    assert manifest.held_out_bytes == sum(len(text.encode()) for text in held_out)


def test_side_of_a_text_depends_on_nothing_else(hundred_texts, write_lines, spec_for, tokenizer):
    _, first = split(prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare(held_out_share=0.2)), tokenizer)
    lines = hundred_texts.read_bytes().splitlines()
    shuffled = write_lines([*lines[::-1], *({"text": f"another {i}"} for i in range(50))], "shuffled.jsonl")
    _, second = split(prepare_corpus("y", spec_for(shuffled, prefix="out/y"), tokenizer, HowToPrepare(held_out_share=0.2)), tokenizer)
    assert set(first) == {text for text in second if text.startswith("document")}


def test_a_larger_share_holds_out_the_same_and_more(hundred_texts, spec_for, tokenizer):
    _, few = split(prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare(held_out_share=0.1)), tokenizer)
    _, more = split(prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare(held_out_share=0.3)), tokenizer)
    assert set(few) < set(more)


def test_nothing_is_held_out_at_share_zero(hundred_texts, spec_for, tokenizer):
    manifest = prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare(held_out_share=0.0))
    assert manifest.held_out_documents == 0
    with pytest.raises(CorpusError, match=r"no held-out documents; set evaluation\.held_out_share"):
        held_out_token_documents(manifest)


@pytest.mark.parametrize("share", [1e-9, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 3])
def test_small_corpora_have_both_sides(write_lines, spec_for, tokenizer, share, count):
    path = write_lines([{"text": f"text {i}"} for i in range(count)])
    manifest = prepare_corpus("x", spec_for(path), tokenizer, HowToPrepare(held_out_share=share))
    assert manifest.num_documents == count
    assert manifest.train_documents >= 1
    assert manifest.held_out_documents >= 1
    assert sorted(text for side in split(manifest, tokenizer) for text in side) == [f"text {i}" for i in range(count)]


@pytest.mark.parametrize("share", [1e-9, 1.0])
def test_a_single_document_is_trained_on(write_lines, spec_for, tokenizer, share):
    manifest = prepare_corpus("x", spec_for(write_lines([{"text": "alone"}])), tokenizer, HowToPrepare(held_out_share=share))
    assert (manifest.train_documents, manifest.held_out_documents) == (1, 0)


def test_held_out_ids_are_those_of_the_texts(hundred_texts, spec_for, tokenizer):
    manifest = prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare(held_out_share=0.2))
    documents = held_out_token_documents(manifest)
    assert len(documents) == manifest.held_out_documents
    assert all(ids[-1] == tokenizer.end_of_document_id for ids in documents)
    assert sum(map(len, documents)) == manifest.held_out_tokens
    assert [d.tolist() for d in held_out_token_documents(manifest, limit=2)] == [d.tolist() for d in documents[:2]]


def test_held_out_documents_of_another_index_are_refused(hundred_texts, write_lines, spec_for, tokenizer):
    manifest = prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare(held_out_share=0.2))
    other = spec_for(write_lines([{"text": "a"}, {"text": "b"}], "y.jsonl"), prefix="out/corpus")
    prepare_corpus("y", other, tokenizer, HowToPrepare(held_out_share=0.2, force=True))
    with pytest.raises(CorpusError, match="its manifest promises 100"):
        held_out_token_documents(manifest)
