"""The tokenizer beside a model: written so that Hugging Face's own fast class loads it, kept when a public model brought it."""

import shutil
from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.records.atomic import write_json
from codemix_megatron.records.manifest import TokenizerCard

__all__ = ["check_tokenizer", "copy_tokenizer", "write_tokenizer"]

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
    "generation_config.json",
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
    path = Path(card.path)
    if not path.is_file():
        raise ConversionError(f"{path}: the tokenizer of this checkpoint is gone; put it back")
    if (path.parent / "tokenizer_config.json").is_file():
        copy_tokenizer(path.parent, card, folder)
    elif card.type == "sentencepiece":
        from transformers import LlamaTokenizer  # converts it; a tokenizer.json needs no conversion

        shutil.copyfile(path, folder / "tokenizer.model")
        LlamaTokenizer.from_pretrained(folder, model_max_length=sequence_length).save_pretrained(folder)
    else:
        from tokenizers import Tokenizer

        shutil.copyfile(path, folder / "tokenizer.json")
        end = Tokenizer.from_file(str(path)).id_to_token(card.end_of_document_id)
        special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), end)
        kind = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "model_max_length": sequence_length}
        write_json(folder / "tokenizer_config.json", {**kind, **special})


def check_tokenizer(card: TokenizerCard, folder: Path, texts) -> None:
    """Raise ConversionError unless transformers loads the folder's tokenizer and gives texts the ids that training gave them."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if card.type == "sentencepiece":
        fault = f"{len(loaded)} ids, {card.vocab_size} before" if len(loaded) != card.vocab_size else None
    else:
        from tokenizers import Tokenizer

        ours = Tokenizer.from_file(card.path)
        same = all(
            ours.encode(text, add_special_tokens=False).ids == loaded(text, add_special_tokens=False, verbose=False).input_ids
            for text in texts
        )
        fault = None if same else "other ids"
    if fault:
        raise ConversionError(f"{folder}: loaded with transformers, its tokenizer gives {fault}", exit_code=1)
