"""What a swarm may mix: the phases and domains of its base recipe, around which mixtures, and how much of each there is.

A domain is a corpus, or a group of them whose inner shares stay as they are: one that was frozen, or the best of an earlier swarm.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codemix_megatron.analysis.law_design import tempered
from codemix_megatron.analysis.law_proposals import rounded_shares
from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.plan import Plan, make_plan
from codemix_megatron.recipe.fault_lines import nearest
from codemix_megatron.recipe.mixture_shares import flatten_mixture
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.study.swarm.settings import SwarmSettings

__all__ = ["REUSED", "Space", "make_space"]

REUSED = "reused"  # the domain that stands for all of an earlier swarm
NEW_SHARE = 0.5  # of the prior for corpora that the base recipe reads nothing of, beside a reused domain


@dataclass(frozen=True, kw_only=True)
class Space:
    """Phases that vary, in order, and domains, with what a phase reads of each domain: corpus -> share within it."""

    phases: tuple[str, ...]
    weights: np.ndarray  # [phases] of the tokens of all phases that vary
    domains: tuple[str, ...]
    contents: tuple[dict[str, dict[str, float]], ...]
    base: np.ndarray  # [phases, domains] the base recipe's own mixtures
    prior: np.ndarray  # [phases, domains]
    bounds: np.ndarray  # [domains] largest share of the tokens of all phases that vary
    run_tokens: int  # of these phases
    seed: int
    sizes: dict[str, int]  # training tokens of each domain

    def mixture(self, phase: int, shares: np.ndarray) -> dict:
        """Return one phase's shares [domains] as a recipe writes them; groups nest."""
        mixture: dict = {}
        for name, share in rounded_shares(dict(zip(self.domains, map(float, shares), strict=True))).items():
            inner = self.contents[phase][name]
            mixture[name] = share if list(inner) == [name] else {"share": share, "mixture": rounded_shares(inner)}
        return mixture

    def keeps(self, run: np.ndarray) -> bool:
        """Say whether a run [phases, domains] keeps the bounds."""
        return bool((self.weights @ run <= self.bounds + 1e-9).all())

    def own_table(self, table: MixtureTable) -> MixtureTable:
        """Return a table of runs over these phases and domains alone, in this order."""
        groups = {name: tuple(dict.fromkeys(c for part in self.contents for c in part[name])) for name in self.domains}
        return table.grouped(groups).of_phases(self.phases)


def make_space(recipe: Recipe, corpora: Mapping, settings: SwarmSettings, reused: list[dict[str, float]] | None = None) -> Space:
    """Return what a swarm over a recipe and its corpora's manifests may mix; `reused` is corpus -> share in each phase that varies.

    Raises CodemixError where phases, groups or corpora do not suffice.
    """
    number = settings.phases or len(recipe.phases)
    if number > len(recipe.phases):
        raise CodemixError(f"--phases {number}: the base recipe has {len(recipe.phases)}; write as many into it")
    plan = make_plan(recipe, corpora)
    varied, planned = recipe.phases[-number:], plan.phases[-number:]
    sizes = {name: source["train_tokens"] for name, source in plan.sources.items()}
    flat = [flatten_mixture(phase.mixture, phase.tokens, sizes) for phase in varied]
    contents = contents_of(recipe, varied, flat, settings, sizes, reused)
    domains = tuple(contents[0])
    tokens = np.array([phase.tokens for phase in planned], dtype=float)
    bounds = bounds_of(recipe, plan, number, contents, tokens.sum())
    if bounds.sum() < 1:
        listed = ", ".join(f"{name} {bound:.2f}" for name, bound in zip(domains, bounds, strict=True))
        raise CodemixError(f"the largest shares that max_epochs allows add up to {bounds.sum():.2f}, not 1 ({listed}); plan fewer tokens")
    return Space(
        phases=tuple(phase.name for phase in varied),
        weights=tokens / tokens.sum(),
        domains=domains,
        contents=contents,
        base=own_mixtures(flat, contents),
        prior=prior_of(flat, contents, settings, sizes),
        bounds=bounds,
        run_tokens=int(tokens.sum()),
        seed=recipe.seed if settings.seed is None else settings.seed,
        sizes={name: sum(sizes[corpus] for corpus in largest(contents, name)) for name in domains},
    )


def contents_of(recipe: Recipe, varied, flat, settings: SwarmSettings, sizes, reused) -> tuple[dict[str, dict[str, float]], ...]:
    """Return domain -> corpus -> share within it, for each phase; all phases have the same domains."""
    groups = [frozen_groups(phase, settings.freeze, sizes) for phase in varied]
    if reused is not None:
        groups = [{**group, REUSED: inner} for group, inner in zip(groups, reused, strict=True)]
    named = list(dict.fromkeys(name for group in groups for name in group))
    if missing := [name for name in settings.freeze if name not in named]:
        known = [name for phase in varied for name, entry in phase.mixture.items() if isinstance(entry, dict) and "mixture" in entry]
        raise CodemixError(f"--freeze {missing[0]}: no group of the base recipe's mixtures is called so{nearest(missing[0], known)}")
    inside = {corpus for group in groups for inner in group.values() for corpus in inner}
    mentioned = [name for shares in flat for name in shares]
    own = list(dict.fromkeys(name for name in [*mentioned, *(recipe.corpora if reused is not None else ())] if name not in inside))
    if len(own) + len(named) < 2:
        raise CodemixError("one domain alone is left, so there is nothing to mix; freeze less, or name more corpora in the mixtures")
    first = {name: next(group[name] for group in groups if name in group) for name in named}
    return tuple({**{name: group.get(name, first[name]) for name in named}, **{name: {name: 1.0} for name in own}} for group in groups)


def frozen_groups(phase, names: tuple[str, ...], sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    """Return group -> corpus -> share within it, of the groups of a phase's mixture that are asked for."""
    found = {}
    for name, entry in phase.mixture.items():
        if name in names and isinstance(entry, dict) and "mixture" in entry:
            found[name] = flatten_mixture(entry["mixture"], phase.tokens, sizes)
    return found


def own_mixtures(flat: list[dict[str, float]], contents) -> np.ndarray:
    """Return what the base recipe reads of each domain [phases, domains]; half of it is new where nothing of a new corpus is read yet."""
    rows = []
    for shares, inner in zip(flat, contents, strict=True):
        row = [sum(shares.get(corpus, 0.0) for corpus in part) for part in inner.values()]
        if REUSED in inner and not all(row):
            row = [1 - NEW_SHARE if name == REUSED else NEW_SHARE / (len(inner) - 1) for name in inner]
        rows.append(row)
    own = np.array(rows)
    return own / own.sum(axis=1, keepdims=True)


def prior_of(flat: list[dict[str, float]], contents, settings: SwarmSettings, sizes: dict[str, int]) -> np.ndarray:
    """Return the prior [phases, domains], tempered: the base recipe's mixtures, in proportion to size, or even."""
    own = own_mixtures(flat, contents)
    if settings.prior == "even":
        own = np.full_like(own, 1 / own.shape[1])
    elif settings.prior == "size":
        rows = np.array([[float(sum(sizes[corpus] for corpus in part)) for part in inner.values()] for inner in contents])
        own = rows / rows.sum(axis=1, keepdims=True)
    return tempered(own, settings.temperature)


def bounds_of(recipe: Recipe, plan: Plan, number: int, contents, tokens: float) -> np.ndarray:
    """Return the largest share of each domain by max_epochs, what earlier phases read taken off."""
    length, fixed = recipe.model.sequence_length, plan.phases[: len(plan.phases) - number]
    most = {}
    for name, source in plan.sources.items():
        before = sum(phase.sources[name].tokens for phase in fixed if name in phase.sources) + source["tokens_before"]
        whole = recipe.corpora[name].max_epochs * source["sequences_per_epoch"] * length
        most[name] = max(0.0, whole - before - number * length) / tokens  # a sequence for rounding in each phase
    rows = [min(most[c] / max(part[name].get(c, 0.0) for part in contents) for c in largest(contents, name)) for name in contents[0]]
    return np.minimum(1.0, np.array(rows))


def largest(contents, name: str) -> list[str]:
    """Return the corpora that a domain reads anything of, in any phase."""
    return list(dict.fromkeys(corpus for part in contents for corpus, share in part[name].items() if share > 0))
