"""What every form of a law has in common."""

from abc import ABC, abstractmethod

import numpy as np

__all__ = ["Form"]


class Form(ABC):
    """A law's shape; `num_shares` of its features are shares, the others logarithms of sizes, of which it needs at least `least_sizes`."""

    least_sizes = 0

    def __init__(self, num_shares: int):
        self.num_shares = num_shares

    @abstractmethod
    def fit(self, x: np.ndarray, y: np.ndarray) -> "Form":
        """Tune and fit."""

    @abstractmethod
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return predicted values [points]."""

    def refit(self, x: np.ndarray, y: np.ndarray) -> "Form":
        """Return another one fitted to other runs, with what `fit` tuned."""
        return type(self)(self.num_shares).fit(x, y)

    def coefficients(self) -> np.ndarray | None:
        """Return the law's numbers, where they mean something to a reader."""
        return None

    def names(self, domains: list[str], sizes: tuple[str, ...]) -> list[str]:
        """Return what the coefficients are called."""
        return ["c", "k", *domains, *sizes]
