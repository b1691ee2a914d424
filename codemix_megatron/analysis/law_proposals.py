"""The next mixtures to try: the best a law knows of within an epoch bound, some for exploring, and controls to hold them against.

Mixtures stay within the convex hull of those that were tried, for every draw is a mean of some of them; beyond it nothing is known.
With `extrapolate` they are drawn around a prior instead, as RegMix draws them, and what lies outside the hull is marked.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codemix_megatron.errors import CorpusError

__all__ = [
    "STRENGTHS",
    "Found",
    "draw_around",
    "draw_around_phases",
    "is_within",
    "largest_shares",
    "propose",
    "rounded_shares",
    "search",
    "within",
]

SAMPLES = 100_000
STRENGTHS = (0.1, 5.0)  # of the Dirichlet draws around the sizes, as RegMix takes them
FIRST_DRAWS, DRAWS, ROUNDS = 20_000, 10_000, 20
MOST_JOINED, JOINED_AGAIN = 6, 4  # mixtures that a draw is a mean of
TOP = 512  # the best so far, of which later draws are means
SMALL_GAIN, PATIENCE = 0.01, 3  # rounds in a row that bring less than this part of the law's error are the last
WORST = 128
SEED = 20240820


@dataclass(frozen=True, kw_only=True)
class Found:
    """Mixtures that were looked at [points, domains], the objective's values (small is good), and which cannot be told from the best."""

    drawn: np.ndarray
    values: np.ndarray
    error: float  # of the objective on runs not seen
    objective: Callable[[np.ndarray], np.ndarray]

    @property
    def good(self) -> np.ndarray:
        """Those within one error of the best."""
        return self.drawn[self.values <= self.values.min() + self.error]

    @property
    def best(self) -> np.ndarray:
        """The mean of those, steadier than the single best (Breiman's rule of one standard error).

        Where good mixtures lie apart, as with an optimum at either end, their mean is none of them: then the one nearest to it.
        """
        good = self.good
        mean = good.mean(axis=0)
        if float(self.objective(mean[None])[0]) <= self.values.min() + self.error:
            return mean
        return good[int(np.abs(good - mean).sum(axis=1).argmin())]

    @property
    def worst(self) -> np.ndarray:
        """The mean of the worst that were looked at; the worst one where those lie apart, for what lies between corners is good."""
        order = np.argsort(-self.values, kind="stable")[:WORST]
        mean = self.drawn[order].mean(axis=0)
        return mean if float(self.objective(mean[None])[0]) >= self.values[order].min() else self.drawn[order[0]]


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


def draw_around(prior: np.ndarray, bounds: np.ndarray, number: int = SAMPLES, seed: int = SEED) -> np.ndarray:
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


def draw_around_phases(prior: np.ndarray, num_phases: int, number: int = SAMPLES, seed: int = SEED) -> np.ndarray:
    """Return mixtures over phases [number, phases x domains]: each phase drawn around its own part of the prior, its weight kept."""
    parts = np.split(prior, num_phases)
    free = np.ones(len(parts[0]))
    return np.hstack([draw_around(part / part.sum(), free, number, seed + i) * part.sum() for i, part in enumerate(parts)])


def search(
    tried: np.ndarray, objective: Callable[[np.ndarray], np.ndarray], keeps: Callable[[np.ndarray], np.ndarray], error: float
) -> Found:
    """Look for mixtures where `objective` [points] is small, among means of tried ones that `keeps` (mask [points]) allows.

    Draws of later rounds are means of good ones, until a round brings little. Raises CorpusError where none is allowed.
    """
    random = np.random.default_rng(SEED)
    tried = np.unique(np.round(tried, 9), axis=0)
    drawn = np.concatenate([tried, means_of(random, [tried] * min(MOST_JOINED, len(tried)), FIRST_DRAWS)])
    drawn = drawn[keeps(drawn)]
    if not len(drawn):
        raise CorpusError(
            "no mixture within those that were tried keeps the epoch bound; plan fewer tokens, allow more epochs, or --extrapolate"
        )
    values = objective(drawn)
    idle = 0
    for _ in range(ROUNDS):
        top = drawn[np.argsort(values, kind="stable")[:TOP]]
        fresh = means_of(random, [top] + [np.concatenate([top, tried])] * (JOINED_AGAIN - 1), DRAWS)
        fresh = fresh[keeps(fresh)]
        if not len(fresh):
            break
        before, found = values.min(), objective(fresh)
        drawn, values = np.concatenate([drawn, fresh]), np.concatenate([values, found])
        idle = idle + 1 if before - values.min() <= SMALL_GAIN * error else 0
        if idle == PATIENCE:
            break
    return Found(drawn=drawn, values=values, error=error, objective=objective)


def means_of(random: np.random.Generator, pools: list[np.ndarray], number: int) -> np.ndarray:
    """Return weighted means [number, domains] of one mixture from each pool."""
    weights = random.dirichlet(np.full(len(pools), 0.7), number)
    chosen = [pool[random.integers(len(pool), size=number)] for pool in pools]
    return sum(weights[:, i, None] * some for i, some in enumerate(chosen))


def is_within(shares: np.ndarray, tried: np.ndarray) -> bool:
    """Say whether a mixture is a mean of tried ones, to 1e-6 (a linear programme)."""
    from scipy.optimize import linprog

    equations = np.vstack([tried.T, np.ones(len(tried))])
    slack = np.hstack([equations, np.eye(len(equations)), -np.eye(len(equations))])
    cost = np.concatenate([np.zeros(len(tried)), np.ones(2 * len(equations))])
    solved = linprog(cost, A_eq=slack, b_eq=np.append(shares, 1.0), method="highs")
    return bool(solved.success and solved.fun < 1e-6)


def propose(found: Found, controls: dict[str, np.ndarray], explore: int = 3) -> dict[str, np.ndarray]:
    """Return purpose -> shares: the best, `explore` good ones far from each other, and controls, the worst of the drawn among them."""
    chosen = {"best": found.best}
    for number in range(explore):
        distance = np.min([np.abs(found.good - known).sum(axis=1) for known in chosen.values()], axis=0)
        chosen[f"explore {number + 1}"] = found.good[int(distance.argmax())]
    return chosen | controls | {"control: worst": found.worst}


def rounded_shares(shares: dict[str, float]) -> dict[str, float]:
    """Return shares of six digits that add up to 1, without domains that get nothing."""
    kept = {name: round(share, 6) for name, share in shares.items() if share >= 1e-4}
    largest = max(kept, key=lambda name: kept[name])
    kept[largest] = round(kept[largest] + 1 - sum(kept.values()), 6)
    return kept
