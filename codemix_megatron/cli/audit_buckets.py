"""What a run has read of the buckets of its sources, recounted and compared with the journal."""

from codemix_megatron.plan.plan import Plan
from codemix_megatron.records.events import StepEvent

__all__ = ["bucket_lines", "compare_buckets", "recount_buckets"]


def recount_buckets(plan: Plan, sequences_seen: int, skipped=()) -> dict[str, list[int]]:
    """Return source -> tokens read of each of its buckets, parents' included, walking the data order; of sources with buckets."""
    from codemix_megatron.mixture.audit import count_buckets
    from codemix_megatron.plan.buckets import round_of

    counted = count_buckets(plan.mixture(), sequences_seen, skipped)
    for name in counted:
        before = plan.sources[name]["tokens_before"] // plan.sequence_length
        counted[name] = counted[name] + round_of(plan.sources[name]["buckets"]).drawn(before)
    return {name: (counts * plan.sequence_length).tolist() for name, counts in counted.items()}


def bucket_lines(plan: Plan, buckets: dict[str, list[int]]) -> list[str]:
    """Return a line for each bucket: how much was read of it, and how often."""
    lines = []
    for name, tokens in buckets.items():
        planned = plan.sources[name]["buckets"]
        for bucket, count, sequences, epochs in zip(planned["names"], tokens, planned["sequences"], planned["epochs"], strict=True):
            if sequences:
                read = count / plan.sequence_length / sequences
                lines.append(f"{name}, {bucket}: {count:,} tokens, read {read:.3f} times; a round reads it {epochs:g} times\n")
    return lines


def compare_buckets(buckets: dict[str, list[int]], last_step: StepEvent) -> list[str]:
    """Say of which sources the journal counts other tokens of buckets."""
    journalled = last_step.tokens_per_bucket or {}
    return [
        f"buckets of {name}: {tokens} recounted, {journalled.get(name)} in the journal"
        for name, tokens in buckets.items()
        if journalled.get(name) != tokens
    ]
