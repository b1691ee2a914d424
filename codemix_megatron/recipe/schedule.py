"""Learning rate as a pure function of the step within a phase."""

import math

from codemix_megatron.recipe.schema import LearningRate

__all__ = ["learning_rate_at"]


def learning_rate_at(rate: LearningRate, index: int, num_steps: int, batch_tokens: int) -> float:
    """Return the rate of step `index` (from 0) of a phase of `num_steps`; the last step has `rate.final`.

    Warm-up is linear and reaches the peak on its last step. wsd (warmup-stable-decay, Hu et al. 2024) holds
    the peak and falls over the last `decay_share` of the phase, linearly or as 1 - sqrt (Hägele et al. 2024).
    """
    warmup = min(num_steps, -(-rate.warmup_tokens // batch_tokens))
    if index < warmup:
        return rate.start + (rate.peak - rate.start) * (index + 1) / warmup
    if rate.schedule == "constant":
        return rate.peak
    begin = max(warmup, num_steps - max(1, round(rate.decay_share * num_steps))) if rate.schedule == "wsd" else warmup
    if index < begin:
        return rate.peak
    progress = (index - begin + 1) / (num_steps - begin)
    return rate.final + (rate.peak - rate.final) * height(rate, progress)


def height(rate: LearningRate, progress: float) -> float:
    """Return what is left of the way from final to peak, from 1 to 0 as `progress` goes from 0 to 1."""
    if rate.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - math.sqrt(progress) if rate.schedule == "wsd" and rate.decay == "1-sqrt" else 1 - progress
