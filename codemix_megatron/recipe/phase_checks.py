"""Faults in the phases of a recipe: names, budgets, lengths, learning rates."""

from codemix_megatron.recipe.mixture_checks import mixture_faults
from codemix_megatron.recipe.schema import Recipe

__all__ = ["phase_faults"]


def phase_faults(recipe: Recipe) -> list[str]:
    """Check every phase: names, budgets, shares, learning rates."""
    faults, names = [], set()
    batch_tokens = min(recipe.batch.sizes) * recipe.model.sequence_length
    for i, phase in enumerate(recipe.phases):
        path = f"phases[{i}]"
        if phase.name in names:
            faults.append(f"{path}.name: {phase.name!r} is used twice")
        names.add(phase.name)
        if phase.tokens < batch_tokens:
            faults.append(f"{path}.tokens: {phase.tokens} is less than one global batch of {batch_tokens} tokens")
        faults += phase_length_faults(recipe, phase.sequence_length, f"{path}.sequence_length")
        faults += mixture_faults(phase.mixture, f"{path}.mixture", recipe.corpora, phase.tokens)
        faults += learning_rate_faults(phase, f"{path}.learning_rate")
    return faults


def phase_length_faults(recipe: Recipe, length: int | None, path: str) -> list[str]:
    """Check a phase's own sequence length: whole parts of the model's, which ranks can share."""
    whole, parallel = recipe.model.sequence_length, recipe.parallel
    if length is None or length == whole or whole < 1:
        return []
    if length < 1 or whole % length:
        allowed = [size for size in range(whole // 2, 0, -1) if whole % size == 0][:4]
        more = "; model.sequence_length is that of the longest sequences, of any phase or branch" if length > whole else ""
        return [f"{path}: found {length}, which does not divide model.sequence_length {whole}; {allowed} would{more}"]
    faults = []
    if recipe.sequences.packing != "concatenate":
        faults.append(f"{path}: {length} would cut the documents that packing {recipe.sequences.packing} keeps whole; set one of them back")
    if parallel.sequence_parallel and parallel.tensor > 0 and length % parallel.tensor:
        faults.append(f"{path}: found {length}, which sequence_parallel cannot split over {parallel.tensor} tensor ranks")
    if parallel.context > 1 and length % (2 * parallel.context):
        faults.append(f"{path}: found {length}, not a multiple of 2 x parallel.context {parallel.context}")
    return faults


def learning_rate_faults(phase, path: str) -> list[str]:
    """Check that the schedule fits into its phase."""
    rate, faults = phase.learning_rate, []
    if not rate.peak > 0:
        faults.append(f"{path}.peak: found {rate.peak}, must be above 0")
    for name in ("final", "start"):
        if not 0 <= getattr(rate, name):
            faults.append(f"{path}.{name}: found {getattr(rate, name)}, must be at least 0")
    if rate.warmup_tokens > phase.tokens:
        faults.append(f"{path}.warmup_tokens: {rate.warmup_tokens} is more than the phase's {phase.tokens} tokens")
    if not 0 < rate.decay_share <= 1:
        faults.append(f"{path}.decay_share: found {rate.decay_share}, must be above 0 and at most 1")
    return faults
