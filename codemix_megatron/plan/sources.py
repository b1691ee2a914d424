"""What a run draws of each source over all its phases, and whether that is more than there is."""

from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.assumed import AssumedCorpus
from codemix_megatron.plan.branch import BranchPoint
from codemix_megatron.plan.bucket_limits import bucket_fault
from codemix_megatron.plan.buckets import bucket_totals, share_seen
from codemix_megatron.plan.phases import PhasePlan, drawn_before
from codemix_megatron.plan.repetition import price_of_epochs
from codemix_megatron.recipe.schema import Recipe

__all__ = ["guard_epochs", "plan_sources"]


def plan_sources(
    recipe: Recipe,
    manifests,
    phases: list[PhasePlan],
    per_epoch: dict[str, int],
    stored: dict[str, int],
    buckets: dict[str, dict],
    branch: BranchPoint | None,
) -> dict[str, dict]:
    """Return what is drawn of each source and of its buckets; `stored` sequences are there, of which an epoch has `per_epoch`."""
    sources = with_buckets(total_sources(recipe, manifests, phases, per_epoch, branch), buckets, recipe, branch)
    if recipe.sequences.corpus_share < 1:
        sources = {name: {**source, "stored_sequences": max(1, stored[name])} for name, source in sources.items()}
    return sources


def total_sources(
    recipe: Recipe, manifests, phases: list[PhasePlan], per_epoch: dict[str, int], branch: BranchPoint | None
) -> dict[str, dict]:
    """Sum each source over the phases; `epochs` and `share_seen` count what a parent read too."""
    totals, drawn = {}, drawn_before(recipe, branch)
    for name, manifest in manifests.items():
        sequences = sum(p.sources[name].sequences for p in phases if name in p.sources)
        mask = getattr(manifest, "loss_mask_sha256", "")  # assumed corpora have none
        totals[name] = {
            "kind": recipe.corpora[name].kind,
            "bin_sha256": manifest.bin_sha256,
            "train_tokens": manifest.train_tokens,
            "sequences_per_epoch": max(1, per_epoch[name]),
            "sequences": sequences,
            "tokens": sequences * recipe.model.sequence_length,
            "epochs": (drawn[name] + sequences) / max(1, per_epoch[name]),
            "share_seen": min(1.0, (drawn[name] + sequences) / max(1, per_epoch[name])),
            "tokens_before": drawn[name] * recipe.model.sequence_length,
            "assumed": isinstance(manifest, AssumedCorpus),
            **({"loss_mask_sha256": mask} if mask else {}),
        }
    return totals


def with_buckets(sources: dict[str, dict], buckets: dict[str, dict], recipe: Recipe, branch: BranchPoint | None) -> dict[str, dict]:
    """Return the sources with what is drawn of their buckets, where they have some."""
    drawn = drawn_before(recipe, branch)
    for name, of_source in buckets.items():
        totals = bucket_totals(of_source, drawn[name] + sources[name]["sequences"])
        sources[name] |= {"buckets": totals, "share_seen": share_seen(totals)}
    return sources


def guard_epochs(recipe: Recipe, sources: dict[str, dict], phases: list[PhasePlan]) -> list[str]:
    """Refuse sources that are too small or read more often than `max_epochs`; return warnings where the recipe takes that on."""
    faults: list[str] = []
    warnings: list[str] = []
    for name, total in sources.items():
        limit = recipe.corpora[name].max_epochs
        drawing = {p.name: p.sources[name].tokens for p in phases if name in p.sources and p.sources[name].tokens}
        if drawing and total["train_tokens"] <= recipe.model.sequence_length:
            faults.append(
                f"corpora.{name}: {total['train_tokens']} training tokens do not fill one sequence of {recipe.model.sequence_length};"
                " add documents or shorten model.sequence_length"
            )
        elif drawing and "buckets" in total:
            is_warned = recipe.corpora[name].beyond_max_epochs == "warn"
            if found := bucket_fault(name, total, drawing, recipe.model.sequence_length, is_warned=is_warned):
                (warnings if found[0] == "warning" else faults).append(found[1])
        elif drawing and total["epochs"] > limit and recipe.corpora[name].beyond_max_epochs == "warn":
            warnings.append(price_of_epochs(name, total["epochs"], limit))
        elif drawing and total["epochs"] > limit:
            before = {"before the branch": total["tokens_before"]} if total["tokens_before"] else {}
            listed = ", ".join(f"{phase} {tokens}" for phase, tokens in {**before, **drawing}.items())
            faults.append(
                f"corpora.{name}: {total['tokens_before'] + total['tokens']} tokens are asked for ({listed}), it holds {total['train_tokens']}:"
                f" {total['epochs']:.2f} epochs, at most {limit:g} are allowed;"
                f" lower its share, add documents, raise corpora.{name}.max_epochs or take it on with beyond_max_epochs: warn"
            )
    if faults:
        raise RecipeError(faults)
    return warnings
