"""Faults in the shares of a mixture."""

import math

from codemix_megatron.recipe.mixture_shares import entry_share
from codemix_megatron.recipe.moving_mixture import is_moving, moving_faults

__all__ = ["mixture_faults"]

SHARE_TOLERANCE = 1e-6


def mixture_faults(mixture: dict, path: str, corpora, whole_tokens: float) -> list[str]:
    """Check that shares sum to 1 at every level and that every leaf is a corpus."""
    if is_moving(mixture):
        ends = [fault for end in ("from", "to") for fault in mixture_faults(mixture[end], f"{path}.{end}", corpora, whole_tokens)]
        return [*ends, *moving_faults(mixture, path)]
    if "proportional" in mixture:
        return proportional_faults(mixture, path, corpora)
    faults = []
    shares = {name: entry_share(entry, whole_tokens) for name, entry in mixture.items()}
    for name, entry in mixture.items():
        if shares[name] < 0 or not math.isfinite(shares[name]):
            faults.append(f"{path}.{name}: share {shares[name]} is not between 0 and 1")
        if isinstance(entry, dict) and "mixture" in entry:
            faults += mixture_faults(entry["mixture"], f"{path}.{name}.mixture", corpora, shares[name] * whole_tokens)
        elif name not in corpora:
            faults.append(f"{path}.{name}: no such corpus; corpora are {', '.join(corpora)}")
    total = math.fsum(shares.values())
    if not faults and abs(total - 1) > SHARE_TOLERANCE:
        listed = ", ".join(f"{name} {share:.2f}" if round(share, 2) == share else f"{name} {share:.4g}" for name, share in shares.items())
        faults.append(f"{path}: shares add up to {total:.6g}, not 1 ({listed})")
    return faults


def proportional_faults(mixture: dict, path: str, corpora) -> list[str]:
    """Check a mixture that goes by the size of its corpora."""
    names = mixture["corpora"]
    faults = [
        f"{path}.corpora[{i}]: no such corpus {name!r}; corpora are {', '.join(corpora)}"
        for i, name in enumerate(names)
        if name not in corpora
    ]
    faults += [f"{path}.corpora: {name!r} is listed twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if not names:
        faults.append(f"{path}.corpora: empty; list the corpora to share among")
    if not mixture["temperature"] > 0:
        faults.append(f"{path}.temperature: found {mixture['temperature']}, must be above 0")
    return faults
