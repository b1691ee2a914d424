"""Scores by a Hugging Face sequence classifier."""

from codemix_megatron.scoring.perplexity import folder_settings
from codemix_megatron.scoring.scorer import Columns, Documents, empty_column

__all__ = ["FolderClassifier"]


class FolderClassifier:
    """What a sequence classifier says of the beginning of each document."""

    is_model = True

    def __init__(self, folder, column: str = "quality"):
        from codemix_megatron.inference.sequence_classifier import SequenceClassifier

        self.model, self.columns, self.settings = SequenceClassifier(folder), (column,), folder_settings(folder)

    def score(self, documents: Documents) -> Columns:
        """Return the column; an empty document has no number."""
        column, chosen = empty_column(documents), [i for i, text in enumerate(documents.texts) if text]
        column[chosen] = self.model.scores([documents.texts[i].decode("utf-8", "replace") for i in chosen])
        return {self.columns[0]: column}
