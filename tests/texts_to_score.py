"""Texts as what scorers get, without a corpus."""

from codemix_megatron.scoring.scorer import Documents

__all__ = ["documents_of"]


class Plain:
    """Gives texts back that were put in as ids."""

    def texts(self, documents):
        """Return them."""
        return list(documents)


def documents_of(texts) -> Documents:
    """Return (text, language) pairs as Documents."""
    return Documents([text.encode() for text, _ in texts], [language for _, language in texts], Plain())
