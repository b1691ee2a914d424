"""Mixtures that others have published, phase by phase, under names a recipe can use.

mixture: {preset: smollm3/stage-3, corpora: {text: web, code: {stack: 0.8, notebooks: 0.2}}}

`corpora` says which corpus, or which corpora in which shares, stands for each domain of the preset; a domain that is not named there is
the corpus of that name. What the domains are is the publisher's; `codemix doctor --mixtures` lists them with their sources.
"""

from dataclasses import dataclass

from codemix_megatron.recipe.paper import RUNS

__all__ = ["PUBLISHED", "PublishedMixture", "with_published"]


@dataclass(frozen=True, kw_only=True)
class PublishedMixture:
    """Domain -> share of one phase, how long the phase was, and where that stands."""

    shares: dict[str, float]
    tokens: str
    source: str


SMOLLM3_CONFIGS = (
    "second hand, stage 3 alone recounted (27.7 to 28.1 %): weights of the configurations stage1_8T, stage2_8T_9T and stage3_9T_11T"
    " (huggingface.co/datasets/HuggingFaceTB/smollm3-configs), made to add up to 1; code with what is beside it (pull requests, issues, notebooks)"
)
SMOLLM3_BLOG = "rounded, as told in huggingface.co/blog/smollm3, Data mixture and training stages"
OLMO3 = "README of github.com/allenai/dolma3, the mix of pretraining; PDFs are olmOCR's science documents"
NEMOTRON = (
    "second hand, not checked at the source: technical report of Nemotron 3 Super (arXiv 2604.12374), figure of the data mixture;"
    " code alone is named here, the rest is text"
)
PAPER = "To Code, or Not To Code? (arXiv 2408.10914v1), {where}; shares within code are this package's where the paper gives none"


def normalised(shares: dict[str, float]) -> dict[str, float]:
    """Return shares that add up to 1."""
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def of_the_paper() -> dict[str, PublishedMixture]:
    """Return every phase of the paper's runs, under paper/RUN/PHASE."""
    return {
        f"paper/{run.name}/{phase.name}": PublishedMixture(
            shares=phase.shares(), tokens=f"{phase.tokens // 10**9}B", source=PAPER.format(where=run.where)
        )
        for run in RUNS["470m"]
        for phase in run.phases
    }


PUBLISHED: dict[str, PublishedMixture] = {
    "smollm3/stage-1": PublishedMixture(shares={"text": 0.875, "code": 0.125}, tokens="8T", source=SMOLLM3_CONFIGS),
    "smollm3/stage-2": PublishedMixture(shares={"text": 0.837, "code": 0.163}, tokens="2T", source=SMOLLM3_CONFIGS),
    "smollm3/stage-3": PublishedMixture(shares={"text": 0.718, "code": 0.282}, tokens="1.1T", source=SMOLLM3_CONFIGS),
    "smollm3-blog/stage-1": PublishedMixture(shares={"web": 0.85, "code": 0.12, "math": 0.03}, tokens="8T", source=SMOLLM3_BLOG),
    "smollm3-blog/stage-2": PublishedMixture(shares={"web": 0.75, "code": 0.15, "math": 0.1}, tokens="2T", source=SMOLLM3_BLOG),
    "smollm3-blog/stage-3": PublishedMixture(shares={"web": 0.63, "code": 0.24, "math": 0.13}, tokens="1.1T", source=SMOLLM3_BLOG),
    "olmo3": PublishedMixture(
        shares=normalised({"web": 0.761, "pdf": 0.136, "code": 0.0689, "math": 0.0256, "papers": 0.0086, "wiki": 0.0004}),
        tokens="6T",
        source=OLMO3,
    ),
    "nemotron-3-super": PublishedMixture(shares={"text": 0.86, "code": 0.14}, tokens="20T", source=NEMOTRON),
    **of_the_paper(),
}


def with_published(plain: dict, faults: list[str]) -> dict:
    """Return a plain recipe whose phases have shares where they named a preset; adds to `faults`."""
    phases = plain.get("phases") if isinstance(plain, dict) else None
    if not isinstance(phases, list):
        return plain
    changed = [
        {**phase, "mixture": shares_of(phase["mixture"], f"phases[{i}].mixture", faults)}
        if isinstance(phase, dict) and isinstance(phase.get("mixture"), dict) and "preset" in phase["mixture"]
        else phase
        for i, phase in enumerate(phases)
    ]
    return {**plain, "phases": changed}


def shares_of(mixture: dict, path: str, faults: list[str]) -> dict:
    """Return the mixture that {preset, corpora} stands for; groups where corpora share a domain."""
    faults += [f"{path}.{key}: no such key; beside preset, corpora is allowed" for key in mixture if key not in ("preset", "corpora")]
    name, corpora = mixture["preset"], mixture.get("corpora") or {}
    if not isinstance(name, str) or name not in PUBLISHED:
        faults.append(f"{path}.preset: no mixture {name!r}; `codemix doctor --mixtures` lists {len(PUBLISHED)}, such as smollm3/stage-1")
        return mixture
    published = PUBLISHED[name].shares
    if not isinstance(corpora, dict):
        faults.append(f"{path}.corpora: needs a mapping of the preset's domains ({', '.join(published)}) to corpora")
        return mixture
    faults += [f"{path}.corpora.{key}: no domain of {name}; it has {', '.join(published)}" for key in corpora if key not in published]
    found: dict = {}
    for domain, share in published.items():
        entry = corpora.get(domain, domain)
        if isinstance(entry, dict):
            found[domain] = {"share": share, "mixture": entry}
        else:
            found[str(entry)] = found.get(str(entry), 0.0) + share
    return found
