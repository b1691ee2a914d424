"""From records - lines of JSON, rows of tables - to documents: under which keys data sets keep what we need."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from codemix_megatron.readers.conversations import COLUMNS, ConversationRule, conversation_document
from codemix_megatron.readers.documents import BadDocument, Document, check_text
from codemix_megatron.readers.licences import all_of
from codemix_megatron.recipe.languages import ADJACENT, MARKUP, canonical_language
from codemix_megatron.recipe.schema import KINDS, CorpusSpec

__all__ = ["ConversationKeys", "RecordKeys", "first_word", "kind_of_language", "licence_at", "record_document"]

MISSING = object()
ADJACENT_WORDS = ("commit", "notebook", "issue", "pull request", "stackexchange")


@dataclass(frozen=True)
class RecordKeys:
    """Keys of a record, the first that holds something counting; `corpus_kind` is what documents are unless they say."""

    corpus_kind: str = "text"
    text: str = "text"
    language: tuple[str, ...] = ("lang", "language", "programming_language")
    licence: tuple[str, ...] = ("license", "licence", "max_stars_repo_licenses", "detected_licenses", "licenses")
    origin: tuple[str, ...] = ("source", "url", "max_stars_repo_name", "repo_name", "repository")
    partitions: tuple[tuple[str, str], ...] = ()  # what the folders above a file say: (lang, python) of lang=python/

    @classmethod
    def of(cls, spec: CorpusSpec) -> "RecordKeys":
        """Return the keys a corpus names, and the usual ones where it names none."""
        named = {name: getattr(spec, f"{name}_key") for name in ("language", "licence", "origin")}
        return cls(spec.kind, spec.text_key, **{name: (key,) for name, key in named.items() if key})

    @property
    def all(self) -> tuple[str, ...]:
        """Every key that is looked at."""
        return (self.text, *self.language, *self.licence, *self.origin, "kind")


@dataclass(frozen=True)
class ConversationKeys(RecordKeys):
    """Keys of records that are conversations."""

    rule: ConversationRule = ConversationRule("", False, None)

    @property
    def all(self) -> tuple[str, ...]:
        """Every key that is looked at."""
        return (*COLUMNS, *self.language, *self.licence, *self.origin, "kind")


def record_document(record: dict, location: str, keys: RecordKeys, *, encodable: bool = False) -> Document | BadDocument:
    """Return the document of one record, or why there is none; `encodable` as in `check_text`."""
    record = {**dict(keys.partitions), **record} if keys.partitions else record
    language = first_word(record, keys.language)
    kind = record.get("kind")
    about = {
        "language": language,
        "licence": licence_at(record, keys.licence),
        "origin": first_word(record, keys.origin),
        "kind": kind if kind in KINDS else kind_of_language(language, keys.corpus_kind) if language else None,
    }
    if isinstance(keys, ConversationKeys):
        return conversation_document(record, location, keys.rule, **about)
    text = value_at(record, keys.text)
    return BadDocument(location, f"no key {keys.text!r}") if text is MISSING else check_text(text, location, encodable=encodable, **about)


@functools.lru_cache(maxsize=4096)
def kind_of_language(language: str, corpus_kind: str) -> str | None:
    """Return markup or code_adjacent for such a document inside a corpus of code; None where it is what its corpus is.

    >>> kind_of_language("Markdown", "code"), kind_of_language("python", "code"), kind_of_language("Markdown", "text")
    ('markup', None, None)
    """
    if corpus_kind != "code":
        return None
    name = canonical_language(language)
    return "markup" if name in MARKUP and name != "latex" else "code_adjacent" if name in ADJACENT or name in ADJACENT_WORDS else None


def value_at(record: dict, key: str) -> object:
    """Return what a record holds under a key, or under a path of keys such as doc.text; MISSING where it holds nothing."""
    if key in record or "." not in key:
        return record.get(key, MISSING)
    value: object = record
    for step in key.split("."):
        value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
    return value


def keys_held(record: dict, keys: Iterable[str]) -> list[str]:
    """Return the keys that a record may hold something under: most records hold few of those that are looked for."""
    return [key for key in keys if key in record or "." in key]


def first_word(record: dict, keys: Iterable[str]) -> str | None:
    """Return what the first of the keys holds that holds a word, or several."""
    for key in keys_held(record, keys):
        value = value_at(record, key)
        if value is None or value is MISSING:
            continue
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
            return " AND ".join(value)
    return None


def licence_at(record: dict, keys: tuple[str, ...]) -> str | None:
    """Return the licence of a record; of several, as for a file under all of a repository's licences, each holds as a whole."""
    for key in keys_held(record, keys):
        value = value_at(record, key)
        if isinstance(value, list) and len(value) > 1 and all(isinstance(word, str) for word in value):
            return all_of(value)
        if found := first_word(record, (key,)):
            return found
    return None
