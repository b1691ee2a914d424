"""The keys of a corpus that decide what its documents are made of, as its manifest keeps them."""

from pathlib import PurePath

from codemix_megatron.recipe.schema import CorpusSpec, as_plain

__all__ = ["how_documents_are_read"]

KEYS = ("text_key", "language_key", "licence_key", "origin_key", "text_documents", "repositories", "conversations")


def how_documents_are_read(spec: CorpusSpec) -> dict:
    """Return these keys with plain values; the file of a chat template by its last name, wherever the project lies."""
    plain = {key: as_plain(getattr(spec, key)) for key in KEYS}
    if spec.conversations is not None:
        plain["conversations"]["template"] = PurePath(spec.conversations.template).name
    return plain
