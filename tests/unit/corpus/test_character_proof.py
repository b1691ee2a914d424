"""Fast ids are proved for every character that occurs; what a tokenizer cannot say is counted. Judge: the libraries that define ids."""

import random

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from codemix_megatron.corpus import encoder_choice, parts
from codemix_megatron.corpus.character_proof import ProvenEncoder
from codemix_megatron.corpus.encoder_choice import choose_encoder
from codemix_megatron.corpus.encoders import Encoder, FastokensEncoder, ReferenceEncoder
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.special_tokens import byte_characters
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.corpus.unknown_text import NO_TOKENS

# As DeepSeek-V3's tokenizer cuts text, but for its first two steps.
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ISOLATED = "some words  \u180e and more"
LACKING = bytes([4, 6, 0x13, 0x14, 0x16, 0x1D])  # bytes that SmolLM2's tokenizer has no token for


@pytest.fixture(autouse=True)
def whatever_the_size(monkeypatch):
    """Use fast tokenizers for tiny corpora too, in many parts."""
    monkeypatch.setattr(encoder_choice, "SMALLEST_FOR_FAST_BYTES", 0)
    monkeypatch.setattr(parts, "PART_BYTES", 3000)


def trained(path, pattern: str, alphabet=None):
    """Train a byte-level tokenizer that cuts text by a pattern."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) if alphabet is None else alphabet
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([f"some words and more   \n text {i}" for i in range(50)], trainer)
    tokenizer.save(str(path))
    return load_tokenizer(path)


@pytest.fixture
def deepseek(tmp_path):
    """A tokenizer on which fastokens 0.3 differs from tokenizers in one rare character."""
    return trained(tmp_path / "deepseek.json", DEEPSEEK)


@pytest.fixture
def lacking(tmp_path):
    """A tokenizer without some control characters, as SmolLM2's."""
    missing = {byte_characters()[byte] for byte in LACKING}
    return trained(tmp_path / "lacking.json", DEEPSEEK, sorted(set(pre_tokenizers.ByteLevel.alphabet()) - missing))


def ids_of_the_library(path, texts: list[str]) -> list[list[int]]:
    """Return what the library `tokenizers` itself gives."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def ids_of_corpus(manifest) -> list[list[int]]:
    reader = IndexedReader(manifest.prefix)
    return [reader.document(i)[:-1].tolist() for i in range(reader.num_documents)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_rare_character_outside_the_sample_has_the_ids_of_the_reference(deepseek, write_lines, spec_for, workers):
    texts = [f"some words and more text {i} é" for i in range(400)]
    texts[333] = ISOLATED
    said = []
    manifest = prepare_corpus(
        "x", spec_for(write_lines([{"text": text} for text in texts])), deepseek, HowToPrepare(say=said.append, workers=workers)
    )
    wanted = ids_of_the_library(deepseek.metadata.path, texts)
    assert FastokensEncoder(deepseek).encode_flat([ISOLATED])[0].tolist() != wanted[333], "fastokens agrees now; find another difference"
    assert ids_of_corpus(manifest) == wanted
    assert (manifest.encoder.library[:9], manifest.encoder.reference_documents) == ("fastokens", 1)
    assert manifest.encoder.differing == ["U+180E"] and manifest.encoder.refused == ""
    assert said == [f"x: 1 documents encoded by {manifest.encoder.reference}, for {manifest.encoder.library} differs on U+180E"]


def test_tokenizers_of_public_patterns_are_proved_on_text_of_all_of_unicode(shared_data):
    points = random.Random(1).sample([*range(0xA0, 0xD800), *range(0xE000, 0x20000), 0x180E, 0x85, 0x200B, 0xFEFF], 600)
    texts = [f"x{chr(point)}y  {chr(point)} \n{chr(point)}{chr(point)}1" for point in points] + [ISOLATED]
    for name in ("deepseek_v3.json", "qwen.json", "o200k.json"):
        tokenizer = load_tokenizer(shared_data / "tokenizers/made" / name)
        encoder, metadata = choose_encoder(tokenizer, ["some words and more"])
        assert metadata.refused == ""
        ids, lengths = encoder.encode_flat(texts)
        found = [piece.tolist() for piece in np.split(ids, np.cumsum(lengths)[:-1])]
        assert found == ids_of_the_library(tokenizer.metadata.path, texts), name


class Wrong(Encoder):
    """The reference, but wrong or failing where a text holds a string."""

    def __init__(self, reference, where: str, fails: bool = False):
        self.reference, self.where, self.fails, self.name = reference, where, fails, "wrong 1"

    def encode_flat(self, texts, utf8=None):
        """Return the ids of the reference, the first of a text with the string replaced."""
        ids, lengths = self.reference.encode_flat(texts)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        for index, text in enumerate(texts):
            if self.where in text:
                if self.fails:
                    raise ValueError("no such text")
                ids[starts[index]] += 1
        return ids, lengths


@pytest.mark.parametrize("fails", [False, True])
def test_a_difference_that_only_its_surroundings_in_the_corpus_show_is_found_there(deepseek, fails):
    reference = ReferenceEncoder(deepseek)
    encoder = ProvenEncoder(Wrong(reference, "more\u200btext", fails), reference)
    texts = ["some words", "some more\u200btext", "other\u200b words"]
    ids, lengths = encoder.encode_flat(texts)
    wanted, wanted_lengths = reference.encode_flat(texts)
    assert (ids.tolist(), lengths.tolist()) == (wanted.tolist(), wanted_lengths.tolist())
    assert encoder.findings() == (2, ["U+200B"])
    encoder.begin_part()
    assert encoder.encode_flat(["some words"])[0].tolist() == reference.encode_flat(["some words"])[0].tolist()
    assert encoder.findings() == (0, [])


def test_a_document_the_fast_library_fails_on_is_left_to_the_reference(deepseek):
    reference = ReferenceEncoder(deepseek)
    encoder = ProvenEncoder(Wrong(reference, "words 7", fails=True), reference)
    texts = [f"some words {i}" for i in range(20)]
    assert encoder.encode_flat(texts)[0].tolist() == reference.encode_flat(texts)[0].tolist()
    assert encoder.findings() == (1, [])


def test_bytes_without_a_token_are_counted_and_told_and_end_nothing(lacking, write_lines, spec_for):
    texts = [f"some words and more text {i}" for i in range(300)]
    texts[100], texts[200], texts[250] = "some\x04 words\x1d\x04", "more\x16", "\x04\x06\x13\x14\x16\x1d"
    path, said = write_lines([{"text": text} for text in texts]), []
    manifest = prepare_corpus("x", spec_for(path), lacking, HowToPrepare(say=said.append))
    wanted = [ids for ids in ids_of_the_library(lacking.metadata.path, texts) if ids]
    assert lacking.unknown.missing_bytes == LACKING
    assert ids_of_corpus(manifest) == wanted and manifest.encoder.library.startswith("fastokens")
    assert (manifest.unknown, manifest.unknown_places) == ({"documents": 2, "lost": 4}, [f"{path}:101", f"{path}:201"])
    assert manifest.dropped == {NO_TOKENS: 1} and manifest.dropped_places == {NO_TOKENS: [f"{path}:251"]}
    assert said[0] == f"x: 4 bytes or words of 2 documents have no token in {lacking.metadata.path} and are lost ({path}:101, {path}:201)"
    assert "U+0004" in said[1] and manifest.encoder.reference_documents == 3


def test_bytes_smollm2_lacks_are_known(shared_data):
    missing = load_tokenizer(shared_data / "tokenizers/smollm2").unknown.missing_bytes
    assert sorted(missing) == [*LACKING, 0xF1, 0xF2]  # the last two begin characters that Unicode has not assigned
    model = load_tokenizer(shared_data / "tokenizers/made/sp_nofallback.model")
    ids = model.encode_batch(["a\u0378b"])[0]
    assert model.unknown.count(["a\u0378b"], ids, np.array([len(ids)])).tolist() == [1]
    assert load_tokenizer(shared_data / "tokenizers/mistral/tokenizer.model").unknown.unknown_id is None


def test_words_that_become_unknown_are_counted(tmp_path, write_lines, spec_for):
    vocabulary = {"<|endoftext|>": 0, "?": 1, "some": 2, "words": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = write_lines([{"text": "some words"}, {"text": "other words of some"}, {"text": "words"}])
    manifest = prepare_corpus("x", spec_for(path), load_tokenizer(tmp_path / "tokenizer.json"), HowToPrepare())
    assert (manifest.unknown, manifest.unknown_places) == ({"documents": 1, "lost": 2}, [f"{path}:2"])


def test_byte_characters_are_those_of_the_library():
    table = byte_characters()
    assert set(table.values()) <= set(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: byte for byte, character in table.items()}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "".join(map(chr, [*range(0x800), *range(0xFF00, 0x10100)]))
    assert bytes(tokenizer.encode(text).ids) == text.encode()


def test_all_empty_encodings_are_no_corpus_and_no_division_by_zero(lacking, write_lines, spec_for):
    from codemix_megatron.errors import CorpusError

    with pytest.raises(CorpusError, match="hold no documents; left out no token for any of its characters: 2"):
        prepare_corpus("x", spec_for(write_lines([{"text": "\x04"}, {"text": "\x06"}])), lacking, HowToPrepare())


def test_verify_corpus_encodes_again_by_the_reference(deepseek, write_lines, spec_for, monkeypatch, capsys):
    from codemix_megatron.cli.main import main

    texts = [f"some words and more text {i}" for i in range(400)]
    texts[333] = ISOLATED
    spec = spec_for(write_lines([{"text": text} for text in texts]))
    prepare_corpus("x", spec, deepseek, HowToPrepare())
    assert main(["verify-corpus", spec.prefix]) == 0
    out = capsys.readouterr().out
    assert "documents, drawn and with the rarest ids, have the ids that tokenizers " in out and "not checked" not in out
    with monkeypatch.context() as patch:  # as if the fast library's ids had been believed
        patch.setattr(ProvenEncoder, "encode_flat", lambda self, texts, utf8=None: self.fast.encode_flat(texts))
        prepare_corpus("x", spec, deepseek, HowToPrepare(force=True))
    assert main(["verify-corpus", spec.prefix]) == 1
    out = capsys.readouterr().out
    assert "document 333: its text has other ids with tokenizers " in out and "1 differences" in out
