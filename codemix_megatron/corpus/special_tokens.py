"""What the files of a tokenizer say beside its vocabulary: which tokens may stand in documents, what ends one, what it has no token for."""

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import orjson

from codemix_megatron.corpus.unknown_text import UnknownText
from codemix_megatron.errors import CorpusError

__all__ = ["byte_characters", "configured_end", "highest_model_id", "mark_special", "unknown_to"]

SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
SPACES = " \t\n\r▁"


def mark_special(data: bytes, in_documents: Sequence[str], path: Path) -> tuple[bytes, dict]:
    """Return a tokenizer.json, and what it holds, whose added tokens are all special, so that libraries take them for text when a document spells them out.

    But for those named, which become their ids, and those of white space alone: they are how some vocabularies write indentation.
    Raises CorpusError for a name that is none.
    """
    plain = orjson.loads(data)
    added = plain.get("added_tokens") or []
    names = [token["content"] for token in added]
    for name in in_documents:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(names[:8]) or 'none'}"
            raise CorpusError(f"tokenizer.tokens_in_documents: {path} has no added token {name!r}; {hint}")
    changed = False
    for token in added:
        is_special = token["content"] not in in_documents and (token["special"] or bool(token["content"].strip(SPACES)))
        changed |= token["special"] != is_special
        token["special"] = is_special
    changed |= divide_names(plain, [token["content"] for token in added if token["special"]])
    return (orjson.dumps(plain) if changed else data), plain


def divide_names(plain: dict, names: Sequence[str]) -> bool:
    """Have a unigram model meet the names of special tokens in two pieces, and say whether it was needed.

    Its vocabulary holds these names, so that it finds them in any text, whatever the library is told of special tokens; sentencepiece,
    where such models come from, never does. Texts that spell none of them keep their ids.
    """
    vocabulary = plain["model"].get("vocab")
    if not isinstance(vocabulary, list):
        return False
    pieces = {piece for piece, _ in vocabulary}
    found = sorted(name for name in names if name in pieces and len(name) > 1 and name.strip(SPACES))
    if not found:
        return False
    pattern = "|".join(f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in found)
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "MergedWithPrevious", "invert": False}
    before = [plain["pre_tokenizer"]] if plain.get("pre_tokenizer") else []
    plain["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*before, split]}
    return True


def configured_end(path: Path) -> str | None:
    """Return the end token that the settings beside a tokenizer name, None where they name none."""
    for name in SETTINGS:
        try:
            token = json.loads(path.with_name(name).read_text(encoding="utf-8")).get("eos_token")
        except (OSError, ValueError, AttributeError):
            continue
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            return token
    return None


def highest_model_id(plain: dict) -> int:
    """Return the highest id of the model of a tokenizer.json, added tokens aside; the library takes a hundred times as long to say it."""
    vocabulary = plain["model"]["vocab"]
    return max(vocabulary.values(), default=-1) if isinstance(vocabulary, dict) else len(vocabulary) - 1


def unknown_to(plain: dict) -> UnknownText:
    """Return what the model of a tokenizer.json has no token for."""
    model = plain["model"]
    vocabulary = model.get("vocab", {})
    if model.get("byte_fallback"):
        return UnknownText()
    if isinstance(vocabulary, list):  # of a unigram model, pairs of piece and score
        return UnknownText(unknown_id=model.get("unk_id"))
    if model.get("unk_token") in vocabulary:
        return UnknownText(unknown_id=vocabulary[model["unk_token"]])
    if '"ByteLevel"' not in json.dumps(plain.get("pre_tokenizer")):
        return UnknownText()
    return UnknownText(bytes(byte for byte, character in byte_characters().items() if character not in vocabulary))


def byte_characters() -> dict[int, str]:
    """Return the character that stands for each byte in byte-level vocabularies, of the bytes that UTF-8 has (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}
    return {byte: character for byte, character in table.items() if byte not in (0xC0, 0xC1) and byte < 0xF5}
