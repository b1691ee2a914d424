"""What a scorer gets and gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from codemix_megatron.scoring.document_bytes import DocumentBytes

__all__ = ["Columns", "Documents", "Scorer", "empty_column"]

Columns = dict[str, np.ndarray]  # name -> a number for each document, NaN where it has none


@dataclass
class Documents:
    """Some documents: ids without those that begin and end them, and the language of each, empty where it is not known."""

    ids: Sequence[np.ndarray]
    languages: Sequence[str]
    decoder: DocumentBytes

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def texts(self) -> list[bytes]:
        """The text of each, as UTF-8."""
        return self.decoder.texts(self.ids)


class Scorer(Protocol):
    """Gives documents numbers. `settings` decide them, and stand in the manifest beside each column."""

    columns: tuple[str, ...]
    settings: dict
    is_model: bool  # one that is loaded once, into this process

    def score(self, documents: Documents) -> Columns:
        """Return the columns of some documents."""


def empty_column(documents: Documents) -> np.ndarray:
    """Return a column in which no document has a number yet."""
    return np.full(len(documents), np.nan)
