"""The share of each corpus in a phase, from a mixture of groups."""

from codemix_megatron.recipe.moving_mixture import is_moving

__all__ = ["entry_share", "flatten_mixture"]


def flatten_mixture(mixture: dict, phase_tokens: float, sizes: dict[str, int]) -> dict[str, float]:
    """Return corpus -> share of the phase; groups are multiplied out, shares that move are the mean over the phase.

    `phase_tokens` turns shares given as tokens into shares, `sizes` (corpus -> training tokens) is what
    proportional mixtures go by: a corpus of n tokens gets a share proportional to n ** (1 / temperature).

    >>> flatten_mixture({"text": 0.8, "code": {"share": 0.2, "mixture": {"web": 0.5, "markup": 0.5}}}, 100, {})
    {'text': 0.8, 'web': 0.1, 'markup': 0.1}
    >>> flatten_mixture({"proportional": "tokens", "temperature": 2, "corpora": ["a", "b"]}, 100, {"a": 1, "b": 9})
    {'a': 0.25, 'b': 0.75}
    """
    if is_moving(mixture):
        ends = [flatten_mixture(mixture[end], phase_tokens, sizes) for end in ("from", "to")]
        return {name: sum(end.get(name, 0.0) for end in ends) / 2 for name in dict.fromkeys([*ends[0], *ends[1]])}
    if "proportional" in mixture:
        heights = {name: sizes[name] ** (1 / mixture["temperature"]) for name in mixture["corpora"]}
        return {name: height / sum(heights.values()) for name, height in heights.items()}
    shares: dict[str, float] = {}
    for name, entry in mixture.items():
        share = entry_share(entry, phase_tokens)
        inner = entry.get("mixture") if isinstance(entry, dict) else None
        # Tokens inside a group count against the group's tokens.
        parts = flatten_mixture(inner, share * phase_tokens, sizes) if inner else {name: 1.0}
        for corpus, part in parts.items():
            shares[corpus] = shares.get(corpus, 0.0) + share * part
    return shares


def entry_share(entry, whole_tokens: float) -> float:
    """Return the share of one entry of a mixture: a number, or given as share or tokens."""
    if not isinstance(entry, dict):
        return float(entry)
    return float(entry["share"]) if "share" in entry else entry["tokens"] / whole_tokens if whole_tokens else 0.0
