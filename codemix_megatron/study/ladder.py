"""A ladder: one recipe at several sizes and tokens, learning rate and batch by a stated rule, as a study.

Sizes keep the base model's heads' width and its proportion of width to depth. The rules give how the best learning rate and batch move with
parameters N (without embedding) and tokens D; both are computed from the base recipe's own, which are taken to be right for it:

step      rate ~ N^-0.713 D^0.307, batch ~ D^0.571 (Step Law, Li et al. 2025, arXiv 2503.04715)
deepseek  rate ~ C^-0.125, batch ~ C^0.3271, C = 6 N D (DeepSeek LLM, arXiv 2401.02954)
mup       rate ~ 1 / width for a tuned base, batch as the base (Yang et al. 2022, arXiv 2203.03466); rates of embeddings and attention's scale
          are not moved by this package, so it is the rule for hidden matrices alone
"""

import math
from dataclasses import dataclass, replace

from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.cost import count_parameters
from codemix_megatron.recipe.schema import Model, Recipe

__all__ = ["RULES", "Rung", "ladder_study", "model_of_size", "rungs_of"]

RULES = ("step", "deepseek", "mup")
MOST_LAYERS = 200


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One size and length of training, with what the rule says of it."""

    name: str
    model: Model
    parameters: int
    tokens: int
    rate_factor: float  # of the base recipe's learning rates
    global_sequences: int


def model_of_size(base: Model, parameters: int, vocab_size: int) -> Model:
    """Return the base model at another width and depth, nearest to so many parameters: heads as wide, about as wide for its depth."""
    group = base.num_attention_heads // base.query_groups
    proportion = base.hidden_size / base.num_layers
    found = None
    for groups in range(1, 4 * MOST_LAYERS):
        heads = groups * group
        hidden = heads * base.head_size
        layers = max(1, round(hidden / proportion))
        if layers > MOST_LAYERS:
            break
        ffn = max(16, round(base.ffn_size / base.hidden_size * hidden / 16) * 16)
        model = replace(
            base, num_layers=layers, hidden_size=hidden, num_attention_heads=heads, num_query_groups=groups, ffn_hidden_size=ffn
        )
        total = count_parameters(model, vocab_size).total
        distance = abs(math.log(total / parameters))
        if found is None or distance < found[0]:
            found = (distance, model)
        elif total > 2 * parameters:
            break
    assert found is not None
    if found[0] > math.log(1.5):
        total = count_parameters(found[1], vocab_size).total
        raise CodemixError(
            f"--sizes: the base model comes no nearer to {parameters:,} parameters than {total:,}; give a base with smaller heads"
        )
    return found[1]


def rungs_of(recipe: Recipe, sizes: list[int], ratios: list[float], rule: str, vocab_size: int) -> list[Rung]:
    """Return sizes x tokens, as tokens per parameter; raises CodemixError where a run would be shorter than a batch."""
    base = count_parameters(recipe.model, vocab_size)
    base_tokens = sum(phase.tokens for phase in recipe.phases)
    rungs = []
    for size in sizes:
        model = model_of_size(recipe.model, size, vocab_size)
        own = count_parameters(model, vocab_size)
        for ratio in ratios:
            tokens = round(ratio * own.total)
            growth = (own.without_embedding / base.without_embedding, tokens / base_tokens, model.hidden_size / recipe.model.hidden_size)
            rate, batch = factors(rule, *growth)
            rungs.append(
                Rung(
                    name=f"{short(own.total)}-{ratio:g}x",
                    model=model,
                    parameters=own.total,
                    tokens=tokens,
                    rate_factor=rate,
                    global_sequences=whole_batch(recipe, batch, tokens),
                )
            )
    return rungs


def factors(rule: str, parameters: float, tokens: float, width: float) -> tuple[float, float]:
    """Return by how much learning rate and batch grow when parameters, tokens and width do."""
    if rule == "step":
        return parameters**-0.713 * tokens**0.307, tokens**0.571
    if rule == "deepseek":
        compute = parameters * tokens
        return compute**-0.125, compute**0.3271
    return 1 / width, 1.0


def whole_batch(recipe: Recipe, factor: float, tokens: int) -> int:
    """Return a global batch that divides as the recipe's does, and of which a run has at least ten."""
    own = recipe.batch.global_sequences
    if not isinstance(own, int):
        raise CodemixError("batch.global_sequences: a ladder moves one number, found stages; give the base recipe one batch")
    step = recipe.batch.micro_sequences * (recipe.parallel.data or 1)
    most = tokens // (10 * recipe.model.sequence_length * step) * step
    if most < step:
        raise CodemixError(
            f"--tokens-per-parameter: {tokens} tokens are fewer than ten batches of {step} sequences; give more, or a larger size"
        )
    return min(most, max(step, round(own * factor / step) * step))


def short(count: int) -> str:
    """Return a count as a name may hold it: 12.3M."""
    for suffix, unit in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= unit:
            return f"{count / unit:.3g}{suffix}"
    return str(count)


def ladder_study(recipe: Recipe, base: str, rungs: list[Rung], mixtures: dict[str, dict[str, dict]]) -> dict:
    """Return the study: mixtures (name -> phase -> mixture; none is the base's own) times rungs."""
    points = {}
    whole = sum(phase.tokens for phase in recipe.phases)
    for rung in rungs:
        model = rung.model
        changes: dict = {
            "model.num_layers": model.num_layers,
            "model.hidden_size": model.hidden_size,
            "model.num_attention_heads": model.num_attention_heads,
            "model.num_query_groups": model.query_groups,
            "model.ffn_hidden_size": model.ffn_size,
            "batch.global_sequences": rung.global_sequences,
        }
        for phase in recipe.phases:
            tokens = round(rung.tokens * phase.tokens / whole)
            changes[f"phases.{phase.name}.tokens"] = tokens
            rate = phase.learning_rate
            for name in ("peak", "final", "start"):
                if value := getattr(rate, name):
                    changes[f"phases.{phase.name}.learning_rate.{name}"] = float(f"{value * rung.rate_factor:.3g}")
            if rate.warmup_tokens:
                changes[f"phases.{phase.name}.learning_rate.warmup_tokens"] = round(rate.warmup_tokens * tokens / phase.tokens)
        points[rung.name] = changes
    variants = {
        name: {"overrides": {f"phases.{phase}.mixture": mixture for phase, mixture in phases.items()}} if phases else None
        for name, phases in mixtures.items()
    }
    return {"name": f"{recipe.name}-ladder", "base": base, "variants": variants, "axes": {"rung": points}}
