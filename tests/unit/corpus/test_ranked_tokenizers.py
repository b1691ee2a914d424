"""Llama 3's tokenizer.model and Mistral's tekken.json give the ids that their ranks define: judged by joining pairs here, and by tiktoken."""

import base64
import itertools
import json
import os
import sys
from pathlib import Path

import pytest
import regex

from codemix_megatron.conversion.sample_texts import TOKENIZER_TEXTS
from codemix_megatron.corpus import ranked_tokenizers
from codemix_megatron.corpus.ranked_tokenizers import LLAMA_3_CUT, byte_letters
from codemix_megatron.corpus.tokenizers import load_tokenizer, tokenizer_of, train_tokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.recipe.pretrained import find_tokenizer

READERS = Path(os.environ.get("CODEMIX_READERS", Path(__file__).parents[3] / "build" / "readers"))
# That of Mistral Nemo, in short: capitals begin words, single digits.
TEKKEN_CUT = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEXTS = [*TOKENIZER_TEXTS, "", "   ", "HTTPServer v12345 isn't\r\n\r\n  x=1  ", "née 数字 🙂👍🏽"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> dict[bytes, int]:
    """Ranks of some hundred byte strings: the bytes, then what a training joined, in its order."""
    path = tmp_path_factory.mktemp("trained") / "tokenizer.json"
    train_tokenizer(list(TOKENIZER_TEXTS) * 2, 700, path)
    back = {letter: byte for byte, letter in enumerate(byte_letters())}
    found = {bytes([byte]): byte for byte in range(256)}
    for left, right in json.loads(path.read_text())["model"]["merges"]:
        joined = bytes(back[letter] for letter in left + right)
        found.setdefault(joined, len(found))
    return found


def joined(text: str, cut: str, ranks: dict[bytes, int]) -> list[int]:
    """Return the ids of a text as tiktoken's definition has them: of neighbours, the pair of the lowest rank is joined first."""
    ids = []
    for piece in regex.findall(cut, text):
        parts = [bytes([byte]) for byte in piece.encode()]
        if piece.encode() in ranks:
            parts = [piece.encode()]
        while pairs := [(ranks[a + b], at) for at, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in ranks]:
            at = min(pairs)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def by_tiktoken(ranks: dict[bytes, int], cut: str) -> list[list[int]]:
    """Return what tiktoken gives all texts; skips where `make test-readers` has not installed it."""
    folder = READERS / "tiktoken-0.14.0"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; `make test-readers` installs it")
    sys.path.append(str(folder))
    try:
        import tiktoken
    finally:
        sys.path.remove(str(folder))
    encoding = tiktoken.Encoding("it", pat_str=cut, mergeable_ranks=ranks, special_tokens={})
    return [encoding.encode(text, disallowed_special=()) for text in TEXTS]


@pytest.fixture
def llama(ranks, tmp_path, monkeypatch) -> Path:
    """Llama 3's form, with fewer tokens."""
    monkeypatch.setattr(ranked_tokenizers, "LLAMA_3_TOKENS", len(ranks))
    lines = [base64.b64encode(token) + f" {rank}".encode() for token, rank in ranks.items()]
    (tmp_path / "tokenizer.model").write_bytes(b"\n".join(lines) + b"\n")
    return tmp_path


@pytest.fixture
def tekken(ranks, tmp_path) -> Path:
    """A tekken.json with three special tokens of its own and two fillers; the last ranks are beyond its vocabulary."""
    vocabulary = [{"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None} for token, rank in ranks.items()]
    special = [{"rank": number, "token_str": name, "is_control": True} for number, name in enumerate(("<unk>", "<s>", "</s>"))]
    config = {"pattern": TEKKEN_CUT, "default_vocab_size": len(ranks) + 5 - 20, "default_num_special_tokens": 5, "version": "v7"}
    (tmp_path / "tekken.json").write_text(json.dumps({"config": config, "vocab": vocabulary, "special_tokens": special}))
    return tmp_path


def test_llama_3_s_model_file_gives_the_ids_of_its_ranks(llama, ranks):
    tokenizer = load_tokenizer(find_tokenizer(llama))
    found = [ids.tolist() for ids in tokenizer.encode_batch(TEXTS)]
    assert found == [joined(text, LLAMA_3_CUT, ranks) for text in TEXTS]
    assert tokenizer.vocab_size == len(ranks) + 256 and tokenizer.end_of_document_id == len(ranks) + 1
    assert [tokenizer.token_id(name) - len(ranks) for name in ("<|begin_of_text|>", "<|eot_id|>", "<|reserved_special_token_5|>")] == [
        0,
        9,
        10,
    ]
    assert [tokenizer.decode(ids) for ids in found] == TEXTS
    assert tokenizer_of(tokenizer.metadata).encode_batch(TEXTS)[0].tolist() == found[0]
    assert found == by_tiktoken(ranks, LLAMA_3_CUT)


def test_tekken_gives_the_ids_of_its_ranks_behind_its_special_tokens(tekken, ranks):
    tokenizer = load_tokenizer(tekken)
    kept = {token: rank for token, rank in ranks.items() if rank < len(ranks) - 20}
    found = [ids.tolist() for ids in tokenizer.encode_batch(TEXTS)]
    assert found == [[number + 5 for number in joined(text, TEKKEN_CUT, kept)] for text in TEXTS]
    assert tokenizer.end_of_document_id == 2 and tokenizer.token_id("<SPECIAL_4>") == 4 and tokenizer.vocab_size == len(kept) + 5
    assert [tokenizer.decode(ids) for ids in found] == TEXTS
    assert [[number - 5 for number in ids] for ids in found] == by_tiktoken(kept, TEKKEN_CUT)


def test_ranks_of_another_model_and_damaged_files_are_refused_with_what_to_do(llama, tekken, monkeypatch):
    monkeypatch.setattr(ranked_tokenizers, "LLAMA_3_TOKENS", 128_000)
    with pytest.raises(CorpusError, match="do not say how text is cut .* Give the model's tokenizer.json"):
        load_tokenizer(llama / "tokenizer.model")
    plain = json.loads((tekken / "tekken.json").read_text())
    for damage in ({"config": {}}, {"vocab": plain["vocab"][1:]}, {"vocab": [3]}, {"special_tokens": [{"rank": 0}]}):
        (tekken / "tekken.json").write_text(json.dumps(plain | damage))
        with pytest.raises(CorpusError, match=r"tekken.json: not a tekken.json .*; get it again, or give a tokenizer.json"):
            load_tokenizer(tekken / "tekken.json")
