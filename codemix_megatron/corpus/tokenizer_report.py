"""How many bytes of each corpus and language a token of each tokenizer holds, and whether the text comes back."""

from collections.abc import Callable
from dataclasses import dataclass, field

from codemix_megatron.corpus.tokenizers import DocumentTokenizer
from codemix_megatron.corpus.training_sample import Sampled

__all__ = ["ReportRow", "compare_tokenizers"]

BATCH_DOCUMENTS = 64
UNKNOWN = "unknown"


@dataclass
class ReportRow:
    """One language of one corpus, or a whole corpus where `language` is empty; lists have one entry per tokenizer."""

    corpus: str
    language: str
    documents: int = 0
    bytes: int = 0
    tokens: list[int] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)  # documents that decode to the text they were

    def bytes_per_token(self, tokenizer: int) -> float:
        """Return the compression; higher is better."""
        return self.bytes / max(1, self.tokens[tokenizer])

    def add(self, num_bytes: int, tokens: list[int], unchanged: list[bool]) -> None:
        """Count one document."""
        self.documents += 1
        self.bytes += num_bytes
        self.tokens = [a + b for a, b in zip(self.tokens, tokens, strict=True)]
        self.unchanged = [a + b for a, b in zip(self.unchanged, unchanged, strict=True)]


def compare_tokenizers(
    tokenizers: list[DocumentTokenizer], samples: dict[str, list[Sampled]], progress: Callable[[int], None] = lambda documents: None
) -> list[ReportRow]:
    """Encode and decode every sampled document with every tokenizer; a row per corpus, then one per language, largest first."""
    rows = []
    for corpus, documents in samples.items():
        whole = blank_row(corpus, "", tokenizers)
        languages: dict = {}
        for start in range(0, len(documents), BATCH_DOCUMENTS):
            batch = documents[start : start + BATCH_DOCUMENTS]
            encoded = [tokenizer.encode_batch([document.text for document in batch]) for tokenizer in tokenizers]
            for document, *ids in zip(batch, *encoded, strict=True):
                language = document.language or UNKNOWN
                row = languages.setdefault(language, blank_row(corpus, language, tokenizers))
                back = [tokenizer.decode(i) == document.text for tokenizer, i in zip(tokenizers, ids, strict=True)]
                for counted in (whole, row):
                    counted.add(len(document.text.encode()), [len(i) for i in ids], back)
            progress(len(batch))
        rows += [whole, *sorted(languages.values(), key=lambda row: -row.bytes)] if len(languages) > 1 else [whole]
    return rows


def blank_row(corpus: str, language: str, tokenizers: list) -> ReportRow:
    """Return a row that has counted nothing yet."""
    return ReportRow(corpus, language, tokens=[0] * len(tokenizers), unchanged=[0] * len(tokenizers))
