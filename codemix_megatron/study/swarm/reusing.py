"""An earlier swarm as one domain of a new one (as Olmix reuses mixtures when a source changes): only what is new is drawn against it."""

from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.plan import read_manifests
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.study.swarm.folder import SwarmFolder
from codemix_megatron.study.swarm.settings import SwarmSettings
from codemix_megatron.study.swarm.space import make_space

__all__ = ["best_of"]


def best_of(path: str, recipe: Recipe, phases: int | None) -> list[dict[str, float]]:
    """Return corpus -> share in each phase that varies, of the best mixture that an earlier swarm knows.

    Raises CodemixError where it knows none, has other phases, or corpora that the recipe lacks.
    """
    folder = SwarmFolder.existing(path)
    state = folder.read()
    learned = [entry["learned"] for entry in state["rounds"] if entry.get("learned")]
    best = next((p for p in learned[-1]["proposals"] if p["purpose"] == "best"), None) if learned else None
    if best is None:
        raise CodemixError(f"--reuse {path}: no best mixture is known there yet; finish a round of it first")
    settings = SwarmSettings.from_plain(state["settings"])
    before = read_recipe(settings.base)
    space = make_space(
        before, read_manifests(before), settings, best_of(settings.reuse, before, settings.phases) if settings.reuse else None
    )
    number = phases or len(recipe.phases)
    if len(space.phases) != number:
        raise CodemixError(f"--reuse {path}: {len(space.phases)} phases vary there, {number} here")
    shares = list(best["shares"].values())
    found = []
    for i, inner in enumerate(space.contents):
        own = shares[i * len(space.domains) : (i + 1) * len(space.domains)]
        mixed: dict[str, float] = {}
        for share, (_, part) in zip(own, inner.items(), strict=True):
            for corpus, within in part.items():
                mixed[corpus] = mixed.get(corpus, 0.0) + share / sum(own) * within
        found.append(mixed)
    if missing := [name for name in found[0] if name not in recipe.corpora]:
        raise CodemixError(f"--reuse {path}: corpora that the recipe does not have: {', '.join(missing)}")
    return found
