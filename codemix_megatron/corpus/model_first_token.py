"""Which token a public model's tokenizer puts before each text, read from its files without the libraries that do so."""

import json
from pathlib import Path

__all__ = ["BEGINS_WITH_BOS", "model_first_token"]

BEGINS_WITH_BOS = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer")  # unless add_bos_token is false


def model_first_token(folder: Path) -> str | None:
    """Return the name of the token that texts of this model begin with; None where they begin with none.

    `add_bos_token` of tokenizer_config.json decides, although not every version of transformers heeds it with every class; without it
    tokenizer.json's post-processor; without that the tokenizer's class.
    """
    config = read_mapping(folder / "tokenizer_config.json")
    name = token_name(config.get("bos_token"))
    if isinstance(config.get("add_bos_token"), bool):
        return name if config["add_bos_token"] else None
    if (folder / "tokenizer.json").is_file():
        return added_first(read_mapping(folder / "tokenizer.json").get("post_processor"))
    return name if str(config.get("tokenizer_class", "")).removesuffix("Fast") in BEGINS_WITH_BOS else None


def read_mapping(path: Path) -> dict:
    """Return a JSON file's mapping; an empty one for a file that is missing or holds none, which others complain of."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def token_name(token) -> str | None:
    """Return a token's text; configurations write it by itself or in a mapping."""
    return token.get("content") if isinstance(token, dict) else token


def added_first(processor) -> str | None:
    """Return the token that a post-processor of tokenizer.json puts before a text."""
    steps = processor.get("processors", [processor]) if isinstance(processor, dict) else []
    for step in steps:
        first: dict = next(iter(step.get("single") or []), {}) if step.get("type") == "TemplateProcessing" else {}
        if "SpecialToken" in first:
            return first["SpecialToken"]["id"]
    return None
