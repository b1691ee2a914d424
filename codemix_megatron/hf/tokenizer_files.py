"""The tokenizer beside a model: written so that Hugging Face's own fast class loads it, kept when a public model brought it."""

import shutil
from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.records.manifest import TokenizerCard

__all__ = ["copy_tokenizer", "write_tokenizer"]

# What a public model's tokenizer consists of, without code.
FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)


def copy_tokenizer(folder: Path, card: TokenizerCard, target: Path) -> Path:
    """Copy the tokenizer of a public model and what belongs to it; return where the card's own file is now."""
    target.mkdir(parents=True, exist_ok=True)
    for name in {Path(card.path).name, *(name for name in FILES if (folder / name).is_file())}:
        source = Path(card.path) if name == Path(card.path).name else folder / name
        if source.absolute() != (target / name).absolute():
            shutil.copyfile(source, target / name)
    return target / Path(card.path).name


def write_tokenizer(card: TokenizerCard, folder: Path, sequence_length: int) -> None:
    """Write tokenizer.json and its configuration into `folder`; raises ConversionError when the file is gone."""
    from transformers import AutoTokenizer

    path = Path(card.path)
    if not path.is_file():
        raise ConversionError(f"{path}: the tokenizer of this checkpoint is gone; put it back")
    if (path.parent / "tokenizer_config.json").is_file():
        copy_tokenizer(path.parent, card, folder)
    else:
        fresh_tokenizer(card, folder, sequence_length).save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    if len(loaded) != card.vocab_size:
        raise ConversionError(f"{path}: {len(loaded)} ids after loading with transformers, {card.vocab_size} before")


def fresh_tokenizer(card: TokenizerCard, folder: Path, sequence_length: int):
    """Return transformers' fast tokenizer around a bare tokenizer.json or sentencepiece model."""
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast

    if card.type == "sentencepiece":
        shutil.copyfile(card.path, folder / "tokenizer.model")
        return LlamaTokenizer.from_pretrained(folder, model_max_length=sequence_length)
    from tokenizers import Tokenizer

    end = Tokenizer.from_file(card.path).id_to_token(card.end_of_document_id)
    return PreTrainedTokenizerFast(
        tokenizer_file=card.path,
        eos_token=end,
        bos_token=end,
        pad_token=end,
        model_max_length=sequence_length,
        clean_up_tokenization_spaces=False,
    )
