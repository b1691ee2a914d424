"""What one step of training gave: losses per source, the gradient's norm, whether it counts."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Losses", "StepResult"]


@dataclass(frozen=True)
class Losses:
    """Loss sums and token counts per source, float64 [sources], equal on every rank."""

    sums: np.ndarray
    tokens: np.ndarray

    @property
    def mean(self) -> float:
        """Nats per token over all sources."""
        return float(self.sums.sum() / max(1.0, self.tokens.sum()))

    def per_source(self, names: list[str]) -> dict[str, float]:
        """Return nats per token of each source that was seen."""
        return {n: float(s / t) for n, s, t in zip(names, self.sums, self.tokens, strict=True) if t}


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step gave, equal on every rank."""

    losses: Losses
    gradient_norm: float
    is_finite: bool  # False: loss or gradients are not finite, and weights and moments were left as they are
    stop_asked: bool  # on some rank
    is_saving: bool  # some rank still writes an earlier checkpoint
    gradient_norms: dict[str, float] | None = None  # by kind of weight, where they were asked for
