"""The token before each text, as an export's tokenizer puts it there: what begins documents in training, or what came with a public model."""

from pathlib import Path
from typing import Any

from codemix_megatron.corpus.model_first_token import BEGINS_WITH_BOS
from codemix_megatron.errors import ConversionError

__all__ = ["LITERAL_CLASS", "add_first_token", "begin_texts", "first_token_of"]

# The class of transformers that takes tokenizer.json for what it says; others build one of their own out of its vocabulary.
LITERAL_CLASS = "PreTrainedTokenizerFast"


def add_first_token(tokenizer: Any, config: dict) -> None:
    """Put the model's first token before each text where its own class would have done so."""
    name = config.get("bos_token")
    name = name.get("content") if isinstance(name, dict) else name
    begins = str(config.get("tokenizer_class", "")).removesuffix("Fast") in BEGINS_WITH_BOS
    number = tokenizer.token_to_id(name) if name else None
    if name and number is not None and config.get("add_bos_token", begins):
        tokenizer.post_processor = before_texts(name, number)


def begin_texts(path: Path, begin: int, config: dict) -> dict:
    """Have a tokenizer.json put the token that begins documents before each text; return what its configuration has to say of it."""
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(path))
    name = tokenizer.id_to_token(begin)
    if name is None:
        raise ConversionError(
            f"{path}: no token of id {begin}, which begins the documents of training; put back the tokenizer of the corpora"
        )
    if tokenizer.encode("x").ids[:1] == [begin] and config.get("add_bos_token") is not False:
        return {} if config.get("bos_token") else {"bos_token": name}
    there = tokenizer.post_processor
    added = before_texts(name, begin)
    kept = isinstance(there, processors.ByteLevel)  # one that adds tokens of its own gives way
    tokenizer.post_processor = processors.Sequence([there, added]) if kept else added
    tokenizer.save(str(path))
    return {"bos_token": name, "add_bos_token": True, "tokenizer_class": LITERAL_CLASS}


def before_texts(name: str, number: int) -> Any:
    """Return what puts a token before each text."""
    from tokenizers import processors

    return processors.TemplateProcessing(single=f"{name} $A", pair=f"{name} $A {name} $B", special_tokens=[(name, number)])


def first_token_of(tokenizer: Any) -> int | None:
    """Return the first token that a tokenizer of transformers puts before each text, None where it puts none."""
    whole, bare = (tokenizer("x", add_special_tokens=added).input_ids for added in (True, False))
    return whole[0] if len(whole) > len(bare) and whole[-len(bare) :] == bare else None
