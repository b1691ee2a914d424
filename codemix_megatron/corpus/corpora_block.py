"""The corpora block of a recipe, with comments, for what was found in folders."""

from collections import Counter
from collections.abc import Iterator

import yaml

from codemix_megatron.corpus.company_folders import Found, shares

__all__ = ["corpora_block"]

MOST_REASONS = 8


def corpora_block(corpora: list[Found], left: Counter) -> str:
    """Return YAML: what was counted as comments, and the block, which a recipe may hold as it is."""
    parts = [
        "# Written by codemix corpora init: what was found, what masks would cover, what filters would leave out. Read and change it.\n"
    ]
    if left:
        parts.append(f"# Not read: {named(left)}\n")
    parts.append("corpora:\n")
    for corpus in corpora:
        parts += [f"  # {line}\n" for line in comments(corpus)]
        parts.append(indented(yaml.safe_dump({corpus.name: plain(corpus)}, sort_keys=False, allow_unicode=True, width=140)))
    return "".join(parts)


def comments(corpus: Found) -> Iterator[str]:
    """Yield what was counted of a corpus."""
    yield f"{corpus.about}: {corpus.documents:,} documents, {corpus.num_bytes / 1e6:.2f} MB"
    yield f"languages: {', '.join(shares(corpus.languages))}"
    yield f"licences: {', '.join(shares(corpus.licences))}"
    yield f"personal data found, and masked: {named(corpus.personal) or 'none'}"
    yield f"left out: {named(corpus.left) or 'nothing'}"
    for fault in corpus.faults:
        yield f"not among its documents: {fault}".replace("\n", " ")


def named(counts: Counter) -> str:
    """Return names with their counts, the largest first, on one line."""
    return ", ".join(f"{name} {count:,}".replace("\n", " ") for name, count in counts.most_common(MOST_REASONS))


def plain(corpus: Found) -> dict:
    """Return the keys that say more than their defaults."""
    filters = corpus.spec.filters
    kept: dict = {"personal_data": [entry for entry in filters.personal_data if isinstance(entry, str)]}
    kept |= {"generated_by": True} if filters.generated_by else {}
    kept |= {"licences": list(filters.licences)} if filters.licences else {}
    return {"kind": corpus.spec.kind, "documents": list(corpus.spec.documents), "filters": kept}


def indented(text: str) -> str:
    """Return lines two spaces further in."""
    return "".join(f"  {line}\n" for line in text.splitlines())
