"""The buckets of sources as a plan holds them: what a round reads of each, and how often the run has read it in the end."""

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from codemix_megatron.errors import RecipeError
from codemix_megatron.mixture.buckets import Round, bucket_names, readings
from codemix_megatron.mixture.recipe_reader import sequences_of_buckets
from codemix_megatron.plan.assumed import AssumedCorpus
from codemix_megatron.recipe.schema import Recipe

__all__ = ["bucket_totals", "distinct_sequences", "plan_buckets", "round_of", "same_buckets", "share_seen"]


def plan_buckets(recipe: Recipe, manifests: Mapping) -> dict[str, dict]:
    """Return source -> its buckets, of sources that have some: names, documents, sequences there are, and those of a round."""
    planned = {}
    for name in recipe.sources:
        manifest = manifests[name]
        if isinstance(manifest, AssumedCorpus):
            raise RecipeError(
                f"sources.{name}: its buckets go by scores, which an assumed corpus has none of; prepare it and `codemix score` it"
            )
        planned[name] = buckets_of(recipe, name, manifest)
    return planned


def buckets_of(recipe: Recipe, name: str, manifest) -> dict:
    """Return the buckets of one source."""
    spec = recipe.sources[name]
    _, stored, of_document = sequences_of_buckets(recipe, name, manifest)
    sequences = [math.ceil(count * recipe.sequences.corpus_share) for count in stored]
    counts = [round(reading * count) for reading, count in zip(readings(spec), sequences, strict=True)]
    if not sum(counts):
        raise RecipeError(f"sources.{name}: a round reads nothing: no bucket with epochs above 0 fills a sequence")
    return {
        "by": spec.by,
        "names": bucket_names(spec),
        "epochs": list(readings(spec)),
        "documents": np.bincount(of_document, minlength=len(stored)).tolist(),
        "digest": hashlib.sha256(of_document.astype(np.int8).tobytes()).hexdigest(),  # which document is in which
        "stored": list(map(int, stored)),
        "sequences": sequences,
        "round": counts,
    }


def round_of(buckets: dict) -> Round:
    """Return the order of a source's draws over its buckets."""
    return Round(buckets["round"], buckets["sequences"], buckets["stored"])


def distinct_sequences(buckets: dict, key: str = "sequences") -> int:
    """Return the sequences that a source can ever draw: those of buckets that are read at all."""
    return sum(count for count, drawn in zip(buckets[key], buckets["round"], strict=True) if drawn)


def bucket_totals(buckets: dict, drawn: int) -> dict:
    """Return the buckets with what was drawn of each, where so much of the source was."""
    of_buckets = round_of(buckets).drawn(drawn)
    realised = [float(d / n) if n else 0.0 for d, n in zip(of_buckets, buckets["sequences"], strict=True)]
    return {**buckets, "drawn": of_buckets.tolist(), "realised": realised}


def share_seen(buckets: dict) -> float:
    """Return which share of the sequences that can be drawn was, at least once."""
    seen = sum(min(d, n) for d, n in zip(buckets["drawn"], buckets["sequences"], strict=True))
    return seen / distinct_sequences(buckets)


def same_buckets(ours: dict | None, theirs: dict | None) -> bool:
    """Say whether two plans draw on the same buckets in the same way."""
    if ours is None or theirs is None:
        return ours is theirs
    return all(ours[key] == theirs[key] for key in ("digest", "stored", "sequences", "round"))
