"""The next mixtures to try: the best a law knows of within an epoch bound, some for exploring, and controls to hold them against."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codemix_megatron.errors import CorpusError

__all__ = ["Proposal", "largest_shares", "propose", "sample_mixtures"]

SAMPLES = 100_000
STRENGTHS = (0.1, 5.0)  # of the Dirichlet draws around the sizes, as RegMix takes them
BEST = 128  # predictions whose mean is the proposal, as RegMix does: steadier than the single best
SEED = 20240820


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A mixture, what it is for, what the laws expect of it, and how often it reads its scarcest domain."""

    purpose: str
    shares: dict[str, float]
    predicted: float
    most_epochs: float | None


def largest_shares(domains: list[str], sizes_tokens: dict[str, int] | None, tokens: int | None, max_epochs: float) -> np.ndarray:
    """Return the largest share of each domain that reads it at most `max_epochs` times in a run of `tokens`; 1 without sizes."""
    if not sizes_tokens or not tokens:
        return np.ones(len(domains))
    if missing := [name for name in domains if name not in sizes_tokens]:
        raise CorpusError(f"no size known of {', '.join(missing)}; give the tokens of every domain")
    bounds = np.array([min(1.0, max_epochs * sizes_tokens[name] / tokens) for name in domains])
    if bounds.sum() < 1:
        there = sum(sizes_tokens[name] for name in domains)
        raise CorpusError(f"{tokens} tokens cannot be had from {there} with at most {max_epochs:g} epochs; plan fewer tokens or allow more")
    return bounds


def sample_mixtures(prior: np.ndarray, bounds: np.ndarray, number: int = SAMPLES, seed: int = SEED) -> np.ndarray:
    """Return mixtures [number, domains] drawn around a prior with all strengths, within bounds: what is too much goes to the others."""
    random = np.random.default_rng(seed)
    strengths = np.exp(random.uniform(math.log(STRENGTHS[0]), math.log(STRENGTHS[1]), number))
    drawn = random.standard_gamma(strengths[:, None] * np.maximum(prior, 1e-3) * len(prior)) + 1e-12
    return within(drawn / drawn.sum(axis=1, keepdims=True), bounds)


def within(shares: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return shares cut at their bounds; what is cut off is spread over the rest in proportion to the room left."""
    shares = np.minimum(shares, bounds)
    room = bounds - shares
    missing = 1 - shares.sum(axis=1, keepdims=True)
    return shares + room * missing / np.maximum(room.sum(axis=1, keepdims=True), 1e-12)


def propose(
    domains: list[str],
    objective: Callable[[np.ndarray], np.ndarray],
    prior: np.ndarray,
    bounds: np.ndarray,
    *,
    explore: int = 3,
    lower_is_better: bool = True,
    epochs: Callable[[np.ndarray], float | None] = lambda shares: None,
) -> list[Proposal]:
    """Return the best mixture, `explore` good ones far from each other, the prior and the worst as controls.

    `objective` maps shares [points, domains] to predicted values. The best is the mean of the 128 best of 100,000 draws.
    """
    drawn = sample_mixtures(prior, bounds)
    values = objective(drawn) * (1 if lower_is_better else -1)
    order = np.argsort(values)
    best = drawn[order[:BEST]].mean(axis=0)
    chosen = [("best", best)]
    good = drawn[order[: max(BEST, len(order) // 50)]]
    for number in range(explore):
        distance = np.min([np.abs(good - known).sum(axis=1) for _, known in chosen], axis=0)
        chosen.append((f"explore {number + 1}", good[int(distance.argmax())]))
    chosen += [("control: in proportion to size", within(prior[None], bounds)[0]), ("control: worst", drawn[order[-BEST:]].mean(axis=0))]
    predicted = objective(np.array([shares for _, shares in chosen]))
    return [
        Proposal(
            purpose=purpose,
            shares={name: float(share) for name, share in zip(domains, shares, strict=True)},
            predicted=float(value),
            most_epochs=epochs(shares),
        )
        for (purpose, shares), value in zip(chosen, predicted, strict=True)
    ]
