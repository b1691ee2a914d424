"""Text to ids and back, what ends a document, and what never does."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codemix_megatron.corpus.tokenizers import END_OF_TEXT, load_tokenizer, tokenizer_of, train_tokenizer
from codemix_megatron.errors import CorpusError

TEXTS = {
    "code": "def f(x):\n\tif x:\n        return {'a': [1, 23]}  # why\n\n\n",
    "crlf": "a\r\n\r\n  b\r",
    "unicode": "Grüße, 你好世界, हिन्दी, עברית, e\u0301",
    "emoji": "👨‍👩‍👧 🤦🏽‍♀️ 🇩🇪",
    "controls": "\0\x01\x7f\x85\u2028\ufeff\ufffd",
    "spaces": " " * 300 + "\t" * 7 + "\u00a0 \u3000",
    "special": "a<|endoftext|>b </s> <|im_end|>",
    "astral": "\U0010ffff\U00010000\ue000",
    "empty": "",
}


@pytest.fixture(scope="session")
def sentencepiece_model(tmp_path_factory):
    """A tiny sentencepiece model."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f"the quick brown fox {i} jumps over the lazy dog" for i in range(200)]),
        model_prefix=str(folder / "tiny"), vocab_size=340, model_type="bpe", byte_fallback=True, minloglevel=2,
        hard_vocab_limit=False, user_defined_symbols=["<mark>"],
    )  # fmt: skip
    return folder / "tiny.model"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_trained_tokenizer_gives_back_every_byte(tokenizer, text):
    (ids,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(ids) == text


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_trained_tokenizer_gives_back_any_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode_batch([text])[0]) == text


def test_digits_stand_alone_and_indentation_is_one_token(tokenizer, tmp_path):
    train_tokenizer(["x = 2024\n        return 2024\n" * 20], 300, tmp_path / "t.json")
    trained = load_tokenizer(tmp_path / "t.json")
    (ids,) = trained.encode_batch(["2024"])
    assert len(ids) == 4
    assert len(trained.encode_batch(["        return"])[0]) == 2


def test_vocabulary_has_the_size_asked_for(tokenizer):
    assert (tokenizer.vocab_size, tokenizer.end_of_document_id) == (320, 0)
    assert tokenizer.decode([0]) == END_OF_TEXT


def test_same_texts_train_the_same_tokenizer(tmp_path):
    code = (
        "import sys; from codemix_megatron.corpus.tokenizers import train_tokenizer\n"
        "train_tokenizer([f'ab{i} cd{i * 7} efg{i % 13}' for i in range(3000)], 700, sys.argv[1])"
    )
    for i in range(3):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / f"{i}.json")], check=True)
    assert len({(tmp_path / f"{i}.json").read_bytes() for i in range(3)}) == 1


def test_transformers_reads_a_trained_tokenizer(tokenizer, tokenizer_path):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_path))
    for text in (TEXTS["code"], TEXTS["unicode"], TEXTS["spaces"], "Hello , world ."):
        ids = theirs(text)["input_ids"]
        assert ids == tokenizer.encode_batch([text])[0].tolist()
        assert theirs.decode(ids) == text


def test_a_vocabulary_without_room_for_bytes_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="found 256, must be at least 257"):
        train_tokenizer(["x"], 256, tmp_path / "t.json")


def test_literal_special_tokens_stay_text(tokenizer):
    (ids,) = tokenizer.encode_batch(["a<|endoftext|>b"])
    assert tokenizer.end_of_document_id not in ids


def test_literal_special_tokens_stay_text_where_they_are_not_marked_special(tokenizer_path, tmp_path):
    plain = json.loads(tokenizer_path.read_text())
    plain["added_tokens"][0]["special"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    tokenizer = load_tokenizer(tmp_path)
    (ids,) = tokenizer.encode_batch(["a<|endoftext|>b"])
    assert 0 not in ids
    assert tokenizer.decode(ids) == "a<|endoftext|>b"


def test_an_ordinary_word_cannot_end_documents(tokenizer_path):
    with pytest.raises(CorpusError, match="literal 'x' in a document would end it"):
        load_tokenizer(tokenizer_path, "x")


def test_truncation_saved_in_a_tokenizer_does_not_cut_documents(tokenizer_path, tmp_path):
    plain = json.loads(tokenizer_path.read_text())
    plain["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    plain["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": END_OF_TEXT,
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    text = "the quick brown fox 123456789"
    (ids,) = load_tokenizer(tmp_path).encode_batch([text])
    assert ids.tolist() == load_tokenizer(tokenizer_path).encode_batch([text])[0].tolist()


def test_end_of_document_is_the_one_asked_for(shared_data):
    path = shared_data / "tokenizers/smollm2/tokenizer.json"
    assert load_tokenizer(path).end_of_document_id == 2, "its settings name <|im_end|>"
    assert load_tokenizer(path, "<|endoftext|>").end_of_document_id == 0
    with pytest.raises(CorpusError, match="no token '</none>' in its vocabulary"):
        load_tokenizer(path, "</none>")


def test_missing_end_of_document_is_an_error(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CorpusError, match="no end-of-document token"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_metadata_says_which_file_it_was(tokenizer, tokenizer_path):
    import hashlib

    assert tokenizer.metadata.type == "huggingface"
    assert tokenizer.metadata.path == str(tokenizer_path)
    assert tokenizer.metadata.sha256 == hashlib.sha256(tokenizer_path.read_bytes()).hexdigest()


def test_vocabulary_size_counts_up_to_the_largest_id(tokenizer_path, tmp_path):
    plain = json.loads(tokenizer_path.read_text())
    plain["model"]["vocab"]["far"] = 999
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    assert load_tokenizer(tmp_path).vocab_size == 1000


def test_sentencepiece_ends_documents_with_its_end_of_sentence(sentencepiece_model):
    tokenizer = load_tokenizer(sentencepiece_model)
    assert (tokenizer.metadata.type, tokenizer.end_of_document_id) == ("sentencepiece", 2)
    (ids, empty) = tokenizer.encode_batch(["the lazy </s> fox", ""])
    assert 2 not in ids
    assert ids.dtype == np.int32
    assert len(empty) == 0
    assert tokenizer.decode(ids) == "the lazy </s> fox"


def test_sentencepiece_symbol_met_in_text_cannot_end_documents(sentencepiece_model):
    with pytest.raises(CorpusError, match="literal '<mark>'"):
        load_tokenizer(sentencepiece_model, "<mark>")
    with pytest.raises(CorpusError, match="no token 'nosuch'"):
        load_tokenizer(sentencepiece_model, "nosuch")


def test_mistral_model_is_read(shared_data):
    tokenizer = load_tokenizer(shared_data / "tokenizers/mistral/tokenizer.model")
    assert (tokenizer.vocab_size, tokenizer.end_of_document_id) == (32000, 2)
    (ids,) = tokenizer.encode_batch(["def f():\n    return '</s>'"])
    assert tokenizer.decode(ids) == "def f():\n    return '</s>'"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{}", "not Hugging Face's tokenizer.json"),
        ("tokenizer.json", b"[1", "not Hugging Face's tokenizer.json"),
        ("tokenizer.json", b"[1]", "not Hugging Face's tokenizer.json"),
        ("tokenizer.json", b"\xff\xfe", "not Hugging Face's tokenizer.json"),
        ("x.model", b"garbage", "not a sentencepiece model"),
        ("x.model", b"", "not a sentencepiece model"),
        ("merges.txt", b"a b", "unknown suffix '.txt'"),
    ],
)
def test_files_that_are_no_tokenizers_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        load_tokenizer(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_missing_tokenizer_is_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(CorpusError, match="no tokenizer there"):
            load_tokenizer(path)


@pytest.mark.parametrize("name", ["smollm2/tokenizer.json", "made/qwen.json", "made/unigram.json", "made/wordpiece.json"])
def test_ids_are_counted_as_the_library_counts_them(shared_data, name):
    from tokenizers import Tokenizer

    path = shared_data / "tokenizers" / name
    highest = max(Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True).values())
    assert load_tokenizer(path).vocab_size == highest + 1


def test_another_file_in_the_place_of_a_corpus_tokenizer_is_refused(tmp_path, tokenizer_path):
    """Its ids would be other text: scored, looked through for evaluation data and shown without a word."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer_path.read_bytes())
    metadata = load_tokenizer(path).metadata
    assert tokenizer_of(metadata).metadata == metadata
    train_tokenizer([f"other words {i}" for i in range(300)], 300, path)
    with pytest.raises(CorpusError, match="not the file the corpus was made with"):
        tokenizer_of(metadata)
