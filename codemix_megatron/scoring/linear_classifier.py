"""A classifier of a few hundred labelled documents: logistic regression over hashed words and pairs of words, in one file of numbers.

The file is an .npz without pickles: weights, intercept, and as JSON what it was trained on. scikit-learn hashes and fits.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import writing
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.scoring.scorer import Columns, Documents, empty_column

__all__ = ["LinearClassifier", "LinearModel", "train_linear"]

BITS = 18
READ_CHARACTERS = 20_000  # of each document
TOKENS = r"(?u)\w+|[^\w\s]"
FOLDS = 5


@dataclass(frozen=True)
class LinearModel:
    """Weights of hashed words; `about` says what they were trained on and how well it went."""

    weights: np.ndarray
    intercept: float
    about: dict

    def write(self, path) -> None:
        """Write the file, complete or not at all."""
        with writing(path, "wb") as handle:
            np.savez_compressed(handle, weights=self.weights.astype(np.float32), intercept=self.intercept, about=json.dumps(self.about))

    @classmethod
    def read(cls, path) -> "LinearModel":
        """Read a file; raises CorpusError for one that is no such classifier."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                model = cls(stored["weights"].astype(np.float64), float(stored["intercept"]), json.loads(str(stored["about"])))
        except (OSError, ValueError, KeyError) as fault:
            raise CorpusError(f"{path}: no classifier that `codemix score --train` wrote ({fault})") from None
        if model.weights.shape != (1 << BITS,):
            raise CorpusError(f"{path}: {model.weights.shape} weights, expected {1 << BITS}; train it again")
        return model

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return for each text how probable it is that it is a good one."""
        if not texts:
            return np.zeros(0)
        return 1 / (1 + np.exp(-(hashed(texts) @ self.weights + self.intercept)))


def hashed(texts: Sequence[str]) -> Any:
    """Return the sparse counts of words and pairs of words, scaled to length one."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(n_features=1 << BITS, ngram_range=(1, 2), token_pattern=TOKENS, lowercase=False)
    return vectorizer.transform([text[:READ_CHARACTERS] for text in texts])


def train_linear(texts: Sequence[str], labels: Sequence[bool], where: str) -> LinearModel:
    """Fit labels; `about` holds the area under the curve over folds. Raises CorpusError when there are too few of either label."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.metrics import roc_auc_score  # isort: skip

    truth, features = np.asarray(labels, dtype=bool), hashed(texts)
    if min(truth.sum(), (~truth).sum()) < 2 * FOLDS:
        raise CorpusError(
            f"{where}: {int(truth.sum())} documents above the threshold and {int((~truth).sum())} below; at least {2 * FOLDS} of each are needed:"
            " label more, or choose another --threshold"
        )
    regression = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    guessed = cross_val_predict(regression, features, truth, cv=folds, method="predict_proba")[:, 1]
    regression.fit(features, truth)
    about = {"labels": len(truth), "good": int(truth.sum()), "area_under_curve": round(float(roc_auc_score(truth, guessed)), 4)}
    return LinearModel(regression.coef_[0], float(regression.intercept_[0]), about)


class LinearClassifier:
    """The probability that a document is a good one, by such a file."""

    is_model = False

    def __init__(self, path, column: str = "quality"):
        self.model, self.columns = LinearModel.read(path), (column,)
        self.settings = {"by": Path(path).name, "sha256": file_sha256(path)[:16], **self.model.about}

    def score(self, documents: Documents) -> Columns:
        """Return the column; an empty document has no number."""
        column, chosen = empty_column(documents), [i for i, text in enumerate(documents.texts) if text]
        column[chosen] = self.model.probabilities([documents.texts[i].decode("utf-8", "replace") for i in chosen])
        return {self.columns[0]: column}
