"""What more than a round of a source with buckets is: a fault, or a price that is told."""

from collections.abc import Mapping

from codemix_megatron.plan.repetition import price_of_epochs

__all__ = ["bucket_fault"]

ROUNDING = 0.01  # of a round, that whole batches may ask for beyond it


def bucket_fault(name: str, source: dict, drawing: Mapping[str, int], length: int, *, is_warned: bool) -> tuple[str, str] | None:
    """Return ("fault" or "warning", text) where more than a round of a source is asked for; None where not."""
    buckets, whole, drawn = source["buckets"], sum(source["buckets"]["round"]), sum(source["buckets"]["drawn"])
    if drawn <= whole * (1 + ROUNDING):
        return None
    most = max(range(len(buckets["drawn"])), key=lambda bucket: buckets["realised"][bucket])
    if is_warned:
        return "warning", price_of_epochs(f"{name} ({buckets['names'][most]})", buckets["realised"][most], buckets["epochs"][most])
    listed = ", ".join(f"{phase} {tokens}" for phase, tokens in drawing.items())
    return "fault", (
        f"sources.{name}: {drawn * length} tokens are asked for ({listed}), a round of its buckets has {whole * length}: documents with"
        f" {buckets['names'][most]} would be read {buckets['realised'][most]:.2f} times, sources.{name}.epochs says {buckets['epochs'][most]:g};"
        f" lower its share, raise epochs, or take it on with corpora.{name}.beyond_max_epochs: warn"
    )
