"""Mixtures that a law begins with: draws around a prior within bounds, and D-optimal designs beside those that are known from theory."""

import numpy as np
import pytest
from scipy.stats import kstest

from codemix_megatron.analysis.law_design import d_optimal, design_runs, draw_runs, quadratic_terms, tempered

PRIOR = np.array([[0.8, 0.15, 0.05], [0.2, 0.3, 0.5]])
WEIGHTS = np.array([0.7, 0.3])
FREE = np.ones(3)


def test_draws_have_the_prior_as_their_mean_and_the_spread_of_a_dirichlet_distribution():
    """Judge: scipy's Dirichlet distribution has beta marginals."""
    drawn = draw_runs(PRIOR, WEIGHTS, FREE, 20_000, strengths=(2.0, 2.0), seed=1)
    assert drawn.mean(axis=0) == pytest.approx(PRIOR, abs=0.01)
    assert drawn.sum(axis=2) == pytest.approx(1)
    alpha = 2.0 * PRIOR[1] * 3
    assert kstest(drawn[:, 1, 2], "beta", args=(alpha[2], alpha.sum() - alpha[2])).pvalue > 0.01


def test_strength_says_how_closely_draws_keep_to_the_prior():
    wide, close = (draw_runs(PRIOR, WEIGHTS, FREE, 4000, strengths=(s, s), seed=2) for s in (0.2, 50.0))
    assert wide.std(axis=0).mean() > 4 * close.std(axis=0).mean()
    assert tempered(PRIOR, 1.0) == pytest.approx(PRIOR) and np.ptp(tempered(PRIOR[0], 1e6)) < 1e-4


@pytest.mark.parametrize("trunks", [None, 5])
def test_draws_keep_the_bounds_over_all_phases(trunks):
    bounds = np.array([0.45, 0.5, 0.3])
    drawn = draw_runs(PRIOR, WEIGHTS, bounds, 3000, trunks=trunks, seed=3)
    assert drawn.sum(axis=2) == pytest.approx(1) and (drawn >= -1e-12).all()
    assert (np.einsum("p,npd->nd", WEIGHTS, drawn) <= bounds + 1e-9).all()
    firsts = len(np.unique(np.round(drawn[:, 0], 9), axis=0))
    assert firsts == trunks if trunks else firsts > 2500


def test_design_of_two_components_is_their_ends_and_the_middle():
    """Scheffe's quadratic for two components: a third of the runs at each of 0, 1/2 and 1 (Kiefer 1961)."""
    grid = np.linspace(0, 1, 101)
    runs = np.column_stack([1 - grid, grid])[:, None]
    chosen = grid[d_optimal(quadratic_terms(runs), 12)]
    assert sorted(chosen) == pytest.approx([0.0] * 4 + [0.5] * 4 + [1.0] * 4)


def test_design_of_three_components_is_the_simplex_lattice():
    """Corners and middles of edges, all with the same weight: the {3, 2} lattice (Kiefer 1961)."""
    steps = [(i, j, 20 - i - j) for i in range(21) for j in range(21 - i)]
    runs = np.array(steps)[:, None] / 20
    points, counts = np.unique(runs[d_optimal(quadratic_terms(runs), 12), 0], axis=0, return_counts=True)
    assert len(points) == 6 and set(counts) == {2}
    assert {tuple(sorted(point)) for point in points} == {(0.0, 0.0, 1.0), (0.0, 0.5, 0.5)}


def test_design_over_two_phases_tells_more_than_draws_do():
    """Judge: numpy's determinant of the information matrix."""
    half = np.array([0.5, 0.5])
    design = design_runs(half, np.ones(2), 18, seed=4)
    drawn = draw_runs(np.full((2, 2), 0.5), half, np.ones(2), 18, strengths=(1, 1), seed=4)
    information = [np.linalg.slogdet(quadratic_terms(runs).T @ quadratic_terms(runs))[1] for runs in (design, drawn)]
    assert information[0] > information[1] + 2
    corners = {tuple(run[:, 1]) for run in design}
    assert {(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)} <= corners


def test_design_keeps_bounds_and_trunks():
    bounds = np.array([1.0, 0.4])
    design = design_runs(WEIGHTS, bounds, 20, trunks=4, seed=5)
    assert len(np.unique(np.round(design[:, 0], 9), axis=0)) <= 4
    assert (np.einsum("p,npd->nd", WEIGHTS, design) <= bounds + 1e-9).all() and design.sum(axis=2) == pytest.approx(1)
