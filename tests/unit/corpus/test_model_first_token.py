"""The token before each text of a public model, read from its files; transformers' own tokenizer is the judge."""

import json

import pytest
from family_models import make_model
from tokenizers import Tokenizer, processors

from codemix_megatron.conversion.first_token import first_token_of
from codemix_megatron.corpus.model_first_token import model_first_token

BEGIN = processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", 257)])
BYTES = processors.ByteLevel()
CASES = {
    "nothing": BYTES,
    "its template": BEGIN,
    "its template in a sequence": processors.Sequence([BYTES, BEGIN]),
    "a template of its end alone": processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 256)]),
}


def texts_begin_with(folder) -> str | None:
    """Return what transformers puts before a text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    first = first_token_of(tokenizer)
    return None if first is None else tokenizer.convert_ids_to_tokens(first)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model("llama", folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_transformers_puts_there(model, case):
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.post_processor = CASES[case]
    tokenizer.save(str(model / "tokenizer.json"))
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": "<|begin|>"}
    (model / "tokenizer_config.json").write_text(json.dumps(plain))
    assert model_first_token(model) == texts_begin_with(model)
    assert (model_first_token(model) == "<|begin|>") == (case not in ("nothing", "a template of its end alone"))


@pytest.mark.parametrize(
    ("said", "begins"),
    [
        ({}, "<s>"),
        ({"add_bos_token": True}, "<s>"),
        ({"add_bos_token": True, "bos_token": {"__type": "AddedToken", "content": "<s>"}}, "<s>"),
        ({"add_bos_token": False}, None),
        ({"tokenizer_class": "Qwen2Tokenizer"}, None),
    ],
)
def test_a_sentencepiece_model_alone_goes_by_what_is_asked_for_and_by_its_class(tmp_path, said, begins):
    """As LlamaTokenizer of transformers 4 does; transformers 5 asks for add_bos_token."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"} | said))
    assert model_first_token(tmp_path) == begins


def test_files_that_cannot_be_read_say_nothing(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text("[")
    assert model_first_token(tmp_path) is None
