"""The tokenizer of a recipe's corpora as Megatron-LM reads one: a sentencepiece model, or a folder that transformers loads.

Megatron-LM takes the end of a document from the folder's tokenizer_config.json; without one it stops with a TypeError, or reads another
token. Where the file of the corpora has no such folder around it, the printed script makes one.
"""

import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata

__all__ = ["MegatronTokenizer", "megatron_tokenizer"]

MADE_FOLDER = "megatron-tokenizer"  # beside where the script runs


@dataclass(frozen=True)
class MegatronTokenizer:
    """Arguments, lines of shell that have to run before, and what the reader has to know."""

    arguments: list[tuple]
    preparation: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def megatron_tokenizer(recipe: Recipe, corpora: dict) -> MegatronTokenizer:
    """Return how Megatron-LM gets the ids of the corpora; raises RecipeError when a file is not what it was."""
    tokenizers = [corpus.tokenizer for corpus in corpora.values() if isinstance(corpus, CorpusManifest)]
    path = found_file(recipe, tokenizers[0]) if tokenizers else Path(os.path.normpath(recipe.tokenizer.path))
    notes = [] if path.exists() else [f"The tokenizer {path} is NOT THERE; put it back, or give another --tokenizer-model."]
    if tokenizers[0].type == "sentencepiece" if tokenizers else path.suffix == ".model":
        if tokenizers and path.is_file():
            notes += other_end_notes(path, tokenizers[0])
        return MegatronTokenizer([("--tokenizer-type", "GPTSentencePieceTokenizer"), ("--tokenizer-model", path)], notes=notes)
    kind, folder = ("--tokenizer-type", "HuggingFaceTokenizer"), path if path.is_dir() else path.parent
    if not tokenizers or not path.is_file():
        return MegatronTokenizer([kind, ("--tokenizer-model", folder)], notes=notes)
    end = token_name(path, tokenizers[0].end_of_document_id)
    if path.name == "tokenizer.json" and configured_end(folder) == end:
        return MegatronTokenizer([kind, ("--tokenizer-model", folder)], notes=notes)
    return MegatronTokenizer([kind, ("--tokenizer-model", MADE_FOLDER)], folder_commands(path, end), notes)


def found_file(recipe: Recipe, metadata: TokenizerMetadata) -> Path:
    """Return the file that made the corpora: the recipe's where it has the same content, for corpora may have been copied from elsewhere."""
    own = Path(os.path.normpath(recipe.tokenizer.path))
    candidates = [own / "tokenizer.json", own / "tokenizer.model"] if own.is_dir() else [own]
    same = (path for path in candidates if path.is_file() and file_sha256(path) == metadata.sha256)
    return next(same, Path(os.path.normpath(metadata.path)))


def folder_commands(path: Path, end: str) -> list[str]:
    """Return shell that makes a folder transformers loads as what the corpora were made with."""
    config = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end}, ensure_ascii=False)
    return [
        f"mkdir -p {MADE_FOLDER} && cp {shlex.quote(str(path))} {MADE_FOLDER}/tokenizer.json \\",
        f"  && printf '%s\\n' {shlex.quote(config)} > {MADE_FOLDER}/tokenizer_config.json || exit 1",
    ]


def token_name(path: Path, number: int) -> str:
    """Return the name of an id in a tokenizer.json."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        names = {token["id"]: token["content"] for token in plain.get("added_tokens") or ()}
        if number in names:
            return names[number]
        vocabulary = plain["model"]["vocab"]
        if isinstance(vocabulary, dict):
            return next(name for name, other in vocabulary.items() if other == number)
        return vocabulary[number][0]
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration) as fault:
        raise RecipeError(f"{path}: holds no token {number}, which ends the documents of the corpora ({fault})") from None


def configured_end(folder: Path) -> str | None:
    """Return what a folder's tokenizer_config.json calls the end token."""
    try:
        name = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("eos_token")
    except (OSError, ValueError, AttributeError):
        return None
    return name.get("content") if isinstance(name, dict) else name


def other_end_notes(path: Path, metadata: TokenizerMetadata) -> list[str]:
    """Say where Megatron-LM would take another token for the end of a document than the corpora have."""
    from sentencepiece import SentencePieceProcessor

    end = SentencePieceProcessor(model_file=str(path)).eos_id()
    if end == metadata.end_of_document_id:
        return []
    return [
        f"Documents of the corpora end with id {metadata.end_of_document_id}; Megatron-LM takes this model's end of sentence, {end}, for it."
    ]
