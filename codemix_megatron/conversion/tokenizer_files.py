"""The tokenizer of an export: what came with a public model as it was, or one that a corpus was made with; its ids are proved."""

import shutil
from pathlib import Path
from typing import Any

from codemix_megatron.conversion.first_token import LITERAL_CLASS, add_first_token, begin_texts, first_token_of
from codemix_megatron.conversion.model_files import TOKENIZER_CONFIG, TOKENIZER_FILES
from codemix_megatron.conversion.sample_texts import TOKENIZER_TEXTS
from codemix_megatron.conversion.sentencepiece_model import convert_sentencepiece
from codemix_megatron.corpus.tokenizers import tokenizer_json
from codemix_megatron.errors import ConversionError
from codemix_megatron.records.atomic import read_json, write_json
from codemix_megatron.records.manifest import TokenizerMetadata

__all__ = ["check_tokenizer", "write_tokenizer"]


def write_tokenizer(metadata: TokenizerMetadata, folder: Path, sequence_length: int, origin: dict) -> None:
    """Write tokenizer.json and its configuration into `folder`; `origin` is what a checkpoint's metadata says of a public model.

    Raises ConversionError when a file is gone, or a sentencepiece model's ids cannot be had from a tokenizer.json.
    """
    path = Path(metadata.path)
    if not path.is_file():
        raise ConversionError(f"{path}: the tokenizer of this checkpoint is gone; put it back, or a copy into the run's folder `tokenizer`")
    came_with_it = set(origin.get("files") or TOKENIZER_FILES) | {"generation_config.json"}
    if origin and "files" not in origin and not (path.parent / TOKENIZER_CONFIG).is_file():
        raise ConversionError(
            f"{path.parent / TOKENIZER_CONFIG}: gone, and with it the special tokens and the chat template of the model this run started"
            " from; put it back"
        )
    own_config = origin or (path.parent / TOKENIZER_CONFIG).is_file()
    for name in sorted(name for name in came_with_it if own_config and (path.parent / name).is_file()):
        shutil.copyfile(path.parent / name, folder / name)
    if metadata.type == "sentencepiece":
        shutil.copyfile(path, folder / "tokenizer.model")
    else:
        (folder / "tokenizer.json").write_bytes(tokenizer_json(path))
    converted = None if (folder / "tokenizer.json").is_file() else convert_sentencepiece(path.read_bytes(), path)
    config = read_configuration(folder) if own_config else fresh_configuration(metadata, folder, sequence_length)
    if converted is not None:
        add_first_token(converted, config)
        config["tokenizer_class"] = LITERAL_CLASS
        converted.save(str(folder / "tokenizer.json"))
    if metadata.beginning_of_document_id is not None:
        config |= begin_texts(folder / "tokenizer.json", metadata.beginning_of_document_id, config)
    if config:
        write_json(folder / TOKENIZER_CONFIG, config)


def fresh_configuration(metadata: TokenizerMetadata, folder: Path, sequence_length: int) -> dict:
    """Return the configuration of a tokenizer that has none: what ends a document, and no token that training has not seen."""
    kind = {"tokenizer_class": LITERAL_CLASS, "clean_up_tokenization_spaces": False, "model_max_length": sequence_length}
    return {**kind, "eos_token": end_of_document_name(metadata)}


def end_of_document_name(metadata: TokenizerMetadata) -> str | None:
    """Return the name of the token after each document."""
    if metadata.type == "sentencepiece":
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_file=metadata.path).id_to_piece(metadata.end_of_document_id)
    from tokenizers import Tokenizer

    return Tokenizer.from_str(tokenizer_json(metadata.path).decode()).id_to_token(metadata.end_of_document_id)


def read_configuration(folder: Path) -> dict:
    """Return a model's own tokenizer configuration, in the words that every version of transformers knows."""
    path = folder / TOKENIZER_CONFIG
    try:
        config = read_json(path) if path.is_file() else {}
    except ValueError as fault:
        raise ConversionError(f"{fault}; get it again") from None
    if not isinstance(config, dict):
        raise ConversionError(f"{path}: holds no mapping; get it again")
    if config.get("tokenizer_class") == "TokenizersBackend":  # transformers 5's name of it
        config["tokenizer_class"] = LITERAL_CLASS
    if isinstance(config.get("extra_special_tokens"), list):  # a mapping before transformers 5, which wants it under this name
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config


def check_tokenizer(metadata: TokenizerMetadata, folder: Path) -> int | None:
    """Raise ConversionError unless transformers loads the folder's tokenizer and gives texts the ids that training gave them.

    Return the token that it puts before each text.

    Where only the class that tokenizer_config.json names gives others, that name is replaced by the one that takes tokenizer.json as it is.
    """
    loaded = loaded_tokenizer(folder)
    if differing_text(metadata, loaded) is None:
        return first_token_of(loaded)
    write_json(folder / TOKENIZER_CONFIG, read_configuration(folder) | {"tokenizer_class": LITERAL_CLASS})
    loaded = loaded_tokenizer(folder)
    if fault := differing_text(metadata, loaded):
        raise ConversionError(
            f"{folder}: loaded with transformers, its tokenizer gives {fault}; transformers gives some model types (qwen2 among them) one"
            " tokenizer, whatever the folder says: choose another --family, or --no-parity and load tokenizer.json by itself",
            exit_code=1,
        )
    return first_token_of(loaded)


def loaded_tokenizer(folder: Path) -> Any:
    """Return a folder's tokenizer as transformers has it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def differing_text(metadata: TokenizerMetadata, loaded: Any) -> str | None:
    """Compare ids of code with indentation, scripts of the world and every special token; say what differs, or return None."""
    encode, special = reference(metadata)
    if (begin := metadata.beginning_of_document_id) is not None and first_token_of(loaded) != begin:
        return f"texts no first token; documents of training begin with id {begin}"
    for name, number in special.items():
        if loaded.convert_tokens_to_ids(name) != number:
            return f"{name} the id {loaded.convert_tokens_to_ids(name)}, it is {number}"
    texts = list(TOKENIZER_TEXTS)
    if metadata.type == "huggingface":
        texts += [f"x {name} y{name}" for name in special]
    for text in texts:
        if encode(text) != loaded(text, add_special_tokens=False, verbose=False).input_ids:
            return f"other ids to {text[:40]!r}"
    return None


def reference(metadata: TokenizerMetadata) -> tuple[Any, dict[str, int]]:
    """Return what gave texts their ids in training, and the special tokens' ids."""
    if metadata.type == "sentencepiece":
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor(model_file=metadata.path)
        control = [number for number in range(processor.vocab_size()) if processor.is_control(number)]
        return processor.encode, {processor.id_to_piece(number): number for number in control}
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json(metadata.path).decode())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items()}
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids, special
