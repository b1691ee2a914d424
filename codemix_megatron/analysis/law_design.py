"""Mixtures to begin a law with, [runs, phases, domains]: drawn around a prior (Dirichlet), or chosen by D-optimal design.

Weights are what each phase has of the tokens, bounds what each domain may have of them. With fewer trunks than runs, several runs
have one first phase, which a study trains once.
"""

import math
from itertools import combinations, product

import numpy as np

from codemix_megatron.analysis.law_proposals import STRENGTHS, within

__all__ = ["d_optimal", "design_runs", "draw_runs", "quadratic_terms", "tempered"]

SMALLEST_PRIOR = 1e-3  # a domain that a phase of the prior lacks may still be drawn there
INSIDE = 256  # points within one phase's simplex that a design may choose from
POOL = 4096  # runs that a design chooses from
RIDGE = 1e-6
PASSES = 20


def tempered(prior: np.ndarray, temperature: float) -> np.ndarray:
    """Return shares proportional to prior ** (1 / temperature), as a recipe's proportional mixtures have them."""
    heights = prior ** (1 / temperature)
    return heights / heights.sum(axis=-1, keepdims=True)


def draw_runs(
    prior: np.ndarray,
    weights: np.ndarray,
    bounds: np.ndarray,
    number: int,
    *,
    strengths: tuple[float, float] = STRENGTHS,
    trunks: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Return runs drawn around a prior [phases, domains] within bounds; strengths are drawn log-uniformly, as RegMix takes them.

    Run i goes on from trunk i modulo `trunks`. What a draw has too much of a domain goes to the others, by the room they have left.
    """
    random = np.random.default_rng(seed)
    trunk = within(dirichlet(random, prior[0], trunks or number, strengths), np.minimum(1.0, bounds / weights[0]))
    first = trunk[np.arange(number) % len(trunk)]
    later = [dirichlet(random, part, number, strengths) for part in prior[1:]]
    return with_first(first, np.stack(later, axis=1) if later else np.empty((number, 0, len(bounds))), weights, bounds)


def dirichlet(random: np.random.Generator, center: np.ndarray, number: int, strengths: tuple[float, float]) -> np.ndarray:
    """Return mixtures [number, domains] around a center; a strength of 1 is uniform around an even center."""
    strength = np.exp(random.uniform(math.log(strengths[0]), math.log(strengths[1]), number))
    drawn = random.standard_gamma(strength[:, None] * np.maximum(center, SMALLEST_PRIOR) * len(center)) + 1e-12
    return drawn / drawn.sum(axis=1, keepdims=True)


def with_first(first: np.ndarray, later: np.ndarray, weights: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return first [runs, domains] and later phases as runs; later ones are changed where a bound on the whole asks for it."""
    most = bounds - weights[0] * first
    totals = (later * weights[1:, None]).sum(axis=1)
    factor = np.minimum(1.0, most / np.maximum(totals, 1e-12))
    room = most - totals * factor
    kept = later * factor[:, None]
    missing = 1 - kept.sum(axis=2)
    kept += missing[:, :, None] * (room / np.maximum(room.sum(axis=1, keepdims=True), 1e-12))[:, None]
    return np.concatenate([first[:, None], kept], axis=1)


def design_runs(weights: np.ndarray, bounds: np.ndarray, number: int, *, trunks: int | None = None, seed: int = 0) -> np.ndarray:
    """Return the runs that tell most of a quadratic law over all phases (D-optimal), out of corners, edges, centres and points within."""
    random = np.random.default_rng(seed)
    phases, domains = len(weights), len(bounds)
    lattice = simplex_lattice(domains)
    points = np.concatenate([lattice, random.dirichlet(np.ones(domains), INSIDE)])
    firsts = within(points, np.minimum(1.0, bounds / weights[0]))
    if trunks and trunks < number:
        firsts = firsts[d_optimal(quadratic_terms(firsts[:, None]), trunks)]
    later = later_points(random, lattice, points, phases - 1)
    # All combinations of the first of both, among them the lattices' own, and combinations drawn at random.
    sides = [min(len(side), int(math.sqrt(POOL / 2))) for side in (firsts, later)]
    drawn = np.column_stack([random.integers(len(side), size=POOL // 2) for side in (firsts, later)])
    pairs = np.concatenate([np.array(list(product(*map(range, sides)))), drawn])
    pool = with_first(firsts[pairs[:, 0]], later[pairs[:, 1]], weights, bounds)
    return pool[d_optimal(quadratic_terms(pool), number)]


def simplex_lattice(domains: int) -> np.ndarray:
    """Return corners, middles of edges and the centre of the simplex (Scheffe 1958)."""
    corners = np.eye(domains)
    edges = [(corners[i] + corners[j]) / 2 for i, j in combinations(range(domains), 2)]
    return np.concatenate([corners, *([edges] if edges else []), [np.full(domains, 1 / domains)]])


def later_points(random: np.random.Generator, lattice: np.ndarray, points: np.ndarray, phases: int) -> np.ndarray:
    """Return what later phases may be [points, phases, domains]: all combinations of the lattice where there are few, and drawn ones."""
    if not phases:
        return np.empty((1, 0, points.shape[1]))
    drawn = points[random.integers(len(points), size=(INSIDE, phases))]
    if len(lattice) ** phases > INSIDE:
        return drawn
    return np.concatenate([np.array(list(product(lattice, repeat=phases))), drawn])


def quadratic_terms(runs: np.ndarray) -> np.ndarray:
    """Return the terms [runs, terms] of a quadratic law in all shares but the last of each phase: Scheffe's polynomial without redundancy."""
    free = runs[:, :, :-1].reshape(len(runs), -1)
    first, second = np.triu_indices(free.shape[1])
    return np.hstack([np.ones((len(runs), 1)), free, free[:, first] * free[:, second]])


def d_optimal(terms: np.ndarray, number: int) -> np.ndarray:
    """Return rows [number], repeats allowed, that make the determinant of X'X large: one by one, then by Fedorov's exchanges (1972)."""
    x = terms / np.maximum(np.abs(terms).max(axis=0), 1e-12)
    inverse, variance = np.eye(x.shape[1]) / RIDGE, (x**2).sum(axis=1) / RIDGE
    chosen: list[int] = []
    for _ in range(number):
        chosen.append(int(np.argmax(variance)))
        inverse, variance = changed(inverse, variance, x, chosen[-1], 1)
    for _ in range(PASSES):
        before = list(chosen)
        for index, row in enumerate(before):
            along = x @ (inverse @ x[row])
            ratio = (1 + variance) * (1 - variance[row]) + along**2  # of the determinants after and before
            best = int(np.argmax(ratio))
            if ratio[best] > 1 + 1e-6:
                inverse, variance = changed(*changed(inverse, variance, x, best, 1), x, row, -1)
                chosen[index] = best
        if chosen == before:
            break
    return np.array(chosen)


def changed(inverse: np.ndarray, variance: np.ndarray, x: np.ndarray, row: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (X'X)^-1 and the variances x (X'X)^-1 x of all rows with one row more or fewer (Sherman and Morrison)."""
    direction = inverse @ x[row]
    scale = 1 + sign * float(x[row] @ direction)
    return inverse - sign * np.outer(direction, direction) / scale, variance - sign * (x @ direction) ** 2 / scale
