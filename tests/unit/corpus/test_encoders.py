"""Fast tokenizers: the ids of the reference or not used at all."""

import json
import pickle

import numpy as np
import pytest

from codemix_megatron.corpus import encoder_choice, encoders
from codemix_megatron.corpus.encoder_choice import choose_encoder
from codemix_megatron.corpus.encoders import FastokensEncoder, KitokenEncoder, ReferenceEncoder
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import load_gpt2_tokenizer, load_tokenizer

TEXTS = ["def f(x):\n    return x", "the quick brown fox", "Grüße 你好 <|endoftext|> </s>", ""]


@pytest.fixture
def whatever_the_size(monkeypatch):
    """Use fast tokenizers for tiny corpora too."""
    monkeypatch.setattr(encoder_choice, "SMALLEST_FOR_FAST_BYTES", 0)


def load_public(folder, name):
    if name == "gpt2":
        return load_gpt2_tokenizer(folder / "gpt2/vocab.json", folder / "gpt2/merges.txt")
    return load_tokenizer(folder / name)


@pytest.mark.parametrize(("name", "fast"), [("smollm2", FastokensEncoder), ("gpt2", FastokensEncoder), ("mistral", KitokenEncoder)])
def test_fast_ids_of_public_tokenizers_are_those_of_the_reference(shared_data, name, fast):
    tokenizer, texts = load_public(shared_data / "tokenizers", name), []
    for path in sorted(shared_data.glob("text/*.jsonl")) + sorted(shared_data.glob("code/*.jsonl")):
        with open(path) as lines:
            texts += [json.loads(line)["text"][:4000] for line, _ in zip(lines, range(20), strict=False)]
    encoder, metadata = choose_encoder(tokenizer, texts)
    assert type(encoder.fast) is fast, metadata.refused
    assert (metadata.checked_texts, metadata.checked_bytes) == (len(texts), sum(len(text.encode()) for text in texts))


@pytest.mark.parametrize("name", ["smollm2", "gpt2", "mistral"])
def test_special_tokens_spelled_out_in_a_text_stay_text(shared_data, name):
    tokenizer = load_public(shared_data / "tokenizers", name)
    encoder, _ = choose_encoder(tokenizer, TEXTS)
    assert not isinstance(encoder, ReferenceEncoder)
    names = tokenizer.special_names()
    ids, lengths = encoder.encode_flat([f"a{special}b {special}" for special in names])
    assert len(names) == len(lengths) > 0
    assert tokenizer.end_of_document_id not in ids


def test_trained_tokenizer_is_fast_and_may_be_sent_to_a_worker(tokenizer):
    encoder, metadata = choose_encoder(tokenizer, TEXTS)
    assert metadata.library.startswith("fastokens ")
    for one in (encoder, ReferenceEncoder(tokenizer)):
        copy = pickle.loads(pickle.dumps(one))
        for (ids, lengths), (wanted, wanted_lengths) in [(copy.encode_flat(TEXTS), ReferenceEncoder(tokenizer).encode_flat(TEXTS))]:
            assert ids.tolist() == wanted.tolist()
            assert lengths.tolist() == wanted_lengths.tolist()
    assert [len(part) for part in encoder.encode_flat([])] == [0, 0]


def test_other_ids_are_found_said_and_not_used(tokenizer, hundred_texts, spec_for, monkeypatch, whatever_the_size):
    exact = FastokensEncoder.encode

    def nearly(self, texts):
        ids, lengths = exact(self, texts)
        return np.where(np.arange(len(ids)) == 37, 5, ids), lengths

    wanted = prepare_corpus("x", spec_for(hundred_texts, prefix="a/x"), tokenizer, HowToPrepare())
    assert wanted.encoder.library.startswith("fastokens")
    monkeypatch.setattr(FastokensEncoder, "encode", nearly)
    said = []
    manifest = prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare(say=said.append))
    assert manifest.encoder.library.startswith("tokenizers ")
    assert "gives other ids for 'document" in manifest.encoder.refused
    assert said == [f"x: slow tokenizer {manifest.encoder.library}, for {manifest.encoder.refused}"]
    assert manifest.bin_sha256 == wanted.bin_sha256


def test_tokenizer_a_fast_library_cannot_read_is_used_all_the_same(tmp_path, hundred_texts, spec_for, whatever_the_size):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["document", "says", "the", "quick", "brown", "fox", "jumps", "times", "over", "lazy", "dog"]
    tokenizer = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "?": 1, **{word: i + 2 for i, word in enumerate(words)}}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    manifest = prepare_corpus("x", spec_for(hundred_texts), load_tokenizer(tmp_path / "tokenizer.json"), HowToPrepare())
    assert manifest.encoder.library.startswith("tokenizers ")
    assert manifest.encoder.refused.startswith("fastokens")


def test_small_corpus_does_not_load_a_second_library(tokenizer, hundred_texts, spec_for):
    manifest = prepare_corpus("x", spec_for(hundred_texts), tokenizer, HowToPrepare())
    assert manifest.encoder.library.startswith("tokenizers ")
    assert (manifest.encoder.checked_texts, manifest.encoder.refused) == (0, "")


def test_without_the_fast_library_the_reference_is_used_and_said(tokenizer, monkeypatch):
    """A small installation has none: corpora are prepared all the same, with the same ids."""
    with monkeypatch.context() as small:
        small.setattr(encoders.importlib.util, "find_spec", lambda name: None)
        encoder, metadata = choose_encoder(tokenizer, TEXTS)
        assert isinstance(encoder, ReferenceEncoder) and len(encoders.library_versions(tokenizer)) == 1
        assert metadata.refused == "fastokens is not installed: pip install 'codemix_megatron[fast]'"
    assert len(encoders.library_versions(tokenizer)) == 2
