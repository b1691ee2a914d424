"""Which checkpoints stay. A pure function of their steps, so that every listing and every prune agree."""

from collections.abc import Callable

from codemix_megatron.recipe.schema import CheckpointPolicy

__all__ = ["is_token_mark", "why_kept"]


def why_kept(
    steps: list[int], policy: CheckpointPolicy, tokens_at: Callable[[int], int], phase_ends: set[int], begun_at: int = 0
) -> dict[int, str]:
    """Return step -> reason for each of `steps` (those of the checkpoints there) that is to be kept.

    The end of each phase is kept for ever, so is the first checkpoint at or after every multiple of
    `keep_every_tokens`, those aside that a branch's parent had passed when it `begun_at` that step; of the rest the newest `keep_last`.
    `tokens_at` gives the tokens seen after a step.
    """

    def mark_at(step: int) -> int:
        return tokens_at(step) // policy.keep_every_tokens if policy.keep_every_tokens else 0

    kept, marks = {}, {mark_at(begun_at)}
    for step in sorted(steps):
        mark = mark_at(step)
        if step in phase_ends:
            kept[step] = "phase end"
        elif mark and mark not in marks:
            kept[step] = f"every {policy.keep_every_tokens} tokens"
        marks.add(mark)
    newest = [step for step in sorted(steps) if step not in kept][-policy.keep_last :]
    return kept | dict.fromkeys(newest, f"last {policy.keep_last}")


def is_token_mark(step: int, policy: CheckpointPolicy, tokens_at: Callable[[int], int]) -> bool:
    """Say whether this step is the first at or after a multiple of `keep_every_tokens`."""
    every = policy.keep_every_tokens
    return every is not None and tokens_at(step) // every > tokens_at(step - 1) // every
