"""Planning before anything is prepared: corpora of which only a size is known."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.recipe.yaml_text import parse_yaml

__all__ = ["AssumedCorpus", "AssumedTokenizer", "assume_corpora", "read_sizes"]


@dataclass(frozen=True, kw_only=True)
class AssumedTokenizer:
    """All that planning asks of a tokenizer."""

    vocab_size: int


@dataclass(frozen=True, kw_only=True)
class AssumedCorpus:
    """Stands where a CorpusManifest would: what planning reads of one, and no checksum."""

    name: str
    train_tokens: int
    tokenizer: AssumedTokenizer
    bin_sha256: None = None


def read_sizes(words, corpora) -> dict[str, int]:
    """Return corpus -> training tokens of `--assume-tokens`: NAME=200B[,NAME=...] or YAML files of such lines, later ones win.

    A file may name corpora the recipes do not have; a NAME=... given by hand must be in `corpora`.
    """
    sizes, faults = {}, []
    for word in words:
        by_hand = "=" in word
        for name, value in (split_pairs(word) if by_hand else read_size_file(word)).items():
            try:
                sizes[name] = parse_tokens(value)
            except ValueError as fault:
                faults.append(f"{name}: {fault}")
            if by_hand and name not in corpora:
                close = difflib.get_close_matches(name, list(corpora), n=1)
                faults.append(f"{name}: no such corpus; " + (f"did you mean {close[0]}?" if close else f"corpora are {', '.join(corpora)}"))
    if faults:
        raise RecipeError(faults, where="--assume-tokens")
    return {name: tokens for name, tokens in sizes.items() if name in corpora}


def split_pairs(word: str) -> dict[str, str]:
    """Return NAME -> count of NAME=count,NAME=count."""
    pairs = [pair.partition("=") for pair in word.split(",") if pair]
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_size_file(path: str) -> dict:
    """Return the mapping of a YAML file of sizes."""
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"), where=path)
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise RecipeError(f"{path}: cannot be read ({reason}); give NAME=200B or a YAML file of sizes", where="--assume-tokens") from None


def assume_corpora(recipe: Recipe, sizes: dict[str, int], vocab_size: int | None, manifests: dict) -> dict:
    """Return the recipe's corpora in its order: from `manifests`, or assumed with `sizes`.

    The vocabulary is that of the prepared corpora, else `vocab_size`, else the one the recipe would train.
    """
    prepared = next((m.tokenizer.vocab_size for m in manifests.values()), None)
    if prepared and vocab_size and prepared != vocab_size:
        fault = f"{vocab_size} ids, but {', '.join(manifests)} were prepared with {prepared}; leave it out"
        raise RecipeError(fault, where="--assume-vocab")
    vocab = prepared or vocab_size or recipe.tokenizer.train_vocab_size
    if vocab is None:
        raise RecipeError("missing, and the recipe has no tokenizer.train_vocab_size; give the number of ids", where="--assume-vocab")
    tokenizer = AssumedTokenizer(vocab_size=vocab)
    assumed = {name: AssumedCorpus(name=name, train_tokens=tokens, tokenizer=tokenizer) for name, tokens in sizes.items()}
    return {name: manifests.get(name) or assumed[name] for name in recipe.corpora}
