"""Shares -> whole numbers that add up exactly."""

import math

__all__ = ["apportion", "whole_batches"]


def whole_batches(tokens: int, batch_tokens: int) -> int:
    """Return the number of global batches nearest to a token budget, at least one."""
    return max(1, (tokens + batch_tokens // 2) // batch_tokens)


def apportion(total: int, shares: dict[str, float]) -> dict[str, int]:
    """Split `total` sequences by share with the largest-remainder method; the counts sum to `total`.

    Every count is within one of total x share. Ties go to the earlier source.
    """
    whole = math.fsum(shares.values())
    exact = {name: total * share / whole for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    missing = total - sum(counts.values())
    by_remainder = sorted(shares, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[:missing]:
        counts[name] += 1
    return counts
