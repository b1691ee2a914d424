"""Mixtures whose shares move from one to another within a phase: {from: MIXTURE, to: MIXTURE, stages: N}."""

__all__ = ["LINEAR_STRETCHES", "is_moving", "moving_faults", "stretches_of"]

LINEAR_STRETCHES = 128  # of a phase whose shares move linearly: each has the mean shares of its own part
KEYS_OF_ENTRIES = {"share", "tokens", "mixture"}


def is_moving(mixture) -> bool:
    """Say whether a mixture names where its shares move from and to; a group that is called `from` has a share or tokens."""
    if not isinstance(mixture, dict):
        return False
    ends = [mixture.get(key) for key in ("from", "to")]
    return all(isinstance(end, dict) and not KEYS_OF_ENTRIES & set(end) for end in ends)


def stretches_of(mixture: dict, sequences: int) -> int:
    """Return into how many stretches a phase of so many sequences is cut, each with shares of its own."""
    return min(mixture.get("stages") or LINEAR_STRETCHES, sequences) if is_moving(mixture) else 1


def moving_faults(mixture: dict, path: str) -> list[str]:
    """Check what a moving mixture says beside its two ends."""
    stages = mixture.get("stages")
    return (
        [f"{path}.stages: found {stages}, must be at least 2; leave it out for shares that move linearly"]
        if stages is not None and stages < 2
        else []
    )
