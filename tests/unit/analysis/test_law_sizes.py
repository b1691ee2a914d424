"""Laws with a term for parameters and tokens: known constants found again, beside scipy alone."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from codemix_megatron.analysis.law_fitting import choose_law, fit_forms
from codemix_megatron.analysis.law_sizes import Chinchilla, Farseer
from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.errors import CorpusError

HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}  # Hoffmann et al. 2022, equation 10
SIZES = np.array([(n, ratio * n) for n in np.geomspace(5e6, 5e9, 6) for ratio in (2, 8, 20, 80)])


def hoffmann(n, d, E, A, B, alpha, beta):
    """Return the loss of Chinchilla's law."""
    return E + A / n**alpha + B / d**beta


def features(sizes: np.ndarray, shares: np.ndarray | None = None) -> np.ndarray:
    """Return what a form sees: shares (of one domain where none are given) and logarithms of sizes."""
    return np.hstack([np.ones((len(sizes), 1)) if shares is None else shares, np.log(sizes)])


def test_published_constants_are_found_again():
    values = hoffmann(*SIZES.T, **HOFFMANN)
    form = Chinchilla(1).fit(features(SIZES), values)
    c, log_a, log_b, alpha, beta = form.coefficients()
    assert c == pytest.approx(1.69, rel=0.01) and alpha == pytest.approx(0.34, rel=0.01) and beta == pytest.approx(0.28, rel=0.01)
    assert np.exp([log_a, log_b]) == pytest.approx([406.4, 410.7], rel=0.05)
    assert form.names(["all"], ("size_parameters", "size_tokens"))[-1] == "exponent of tokens"
    largest = np.array([[7e10, 1.4e12]])  # Chinchilla itself
    assert form.predict(features(largest))[0] == pytest.approx(hoffmann(*largest[0], **HOFFMANN), abs=2e-3)


def test_noisy_runs_give_what_scipy_alone_gives():
    """Judge: scipy's curve_fit of the same law, begun at the truth; asked a thousand times beyond the runs."""
    values = hoffmann(*SIZES.T, **HOFFMANN) + 0.004 * np.random.default_rng(1).normal(size=len(SIZES))
    form = Chinchilla(1).fit(features(SIZES), values)
    found, _ = curve_fit(lambda s, *p: hoffmann(*s, *p), SIZES.T, values, p0=list(HOFFMANN.values()), maxfev=20000)
    far = np.array([[5e9, 1e11], [7e10, 1.4e12]])
    assert form.predict(features(far)) == pytest.approx(hoffmann(*far.T, *found), abs=5e-3)


def table_of(sizes: np.ndarray, shares: np.ndarray, values: np.ndarray) -> MixtureTable:
    """Return a table of runs over text and code."""
    return MixtureTable(
        runs=[str(i) for i in range(len(values))], domains=["text", "code"], shares=shares, metrics=["loss"], values=values[:, None],
        sizes=("size_parameters", "size_tokens"), size_values=sizes,
    )  # fmt: skip


def mixed() -> MixtureTable:
    """Return runs of five mixtures at all sizes, whose truth is Chinchilla's law and an exponential of the share of code."""
    sizes, code = np.repeat(SIZES[::2], 5, axis=0), np.tile([0.0, 0.25, 0.5, 0.75, 1.0], len(SIZES[::2]))
    values = hoffmann(*sizes.T, **HOFFMANN) + np.exp(-1.0 + 0.8 * code) + 0.002 * np.random.default_rng(2).normal(size=len(code))
    return table_of(sizes, np.column_stack([1 - code, code]), values)


def test_mixture_and_size_are_told_apart_and_the_form_is_chosen():
    table = mixed()
    fitted = fit_forms(table, "loss", ("log_linear", "quadratic", "chinchilla"))
    assert fitted[0].kind == "chinchilla" and fitted[0].error.relative < 0.05
    law = choose_law(table, "loss", fitted[:1]).at_sizes(np.array([7e10, 1.4e12]))
    at = np.array([[7e10, 1.4e12]])
    for code in (0.1, 0.9):
        wanted = hoffmann(*at[0], **HOFFMANN) + np.exp(-1.0 + 0.8 * code)
        assert law.predict(np.array([[1 - code, code]]), at)[0] == pytest.approx(wanted, abs=0.02)


def farseer(n, d):
    """Return the loss of a law in which tokens help a large model more."""
    return np.exp(2.0 * n**-0.2 + 0.4) + np.exp(3.0 * n**-0.1 + 4.0) * d ** -np.exp(-3.0 * n**-0.15 - 0.9)


def test_farseer_s_form_follows_where_tokens_help_more_the_larger_the_model():
    values = farseer(*SIZES.T)
    simple, free = Chinchilla(1).fit(features(SIZES), values), Farseer(1).fit(features(SIZES), values)
    errors = [float(np.abs(form.predict(features(SIZES)) - values).max()) for form in (simple, free)]
    assert errors[1] < 0.3 * errors[0] and errors[1] < 5e-3


def test_farseer_s_form_holds_chinchilla_s_law_too():
    values = hoffmann(*SIZES.T, **HOFFMANN)
    assert np.abs(Farseer(1).fit(features(SIZES), values).predict(features(SIZES)) - values).max() < 1e-2


def test_forms_of_size_need_runs_that_differ_in_size():
    table = mixed()
    alike = table_of(np.full_like(table.size_values, 1e8), table.shares, table.values[:, 0])
    plain = MixtureTable(runs=alike.runs, domains=alike.domains, shares=alike.shares, metrics=alike.metrics, values=alike.values)
    assert [form.kind for form in fit_forms(plain, "loss", ("log_linear", "chinchilla"))] == ["log_linear"]
    with pytest.raises(
        CorpusError, match="farseer: needs runs that differ in parameters and in tokens, at least 5 of them; 60 runs differ in neither"
    ):
        fit_forms(plain, "loss", ("farseer",))
