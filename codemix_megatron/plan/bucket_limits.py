"""What more than a round of a source with buckets is: a fault, or a price that is told."""

from collections.abc import Mapping

from codemix_megatron.plan.repetition import price_of_epochs

__all__ = ["bucket_fault", "unread_buckets"]

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


def unread_buckets(sources: Mapping[str, dict]) -> list[str]:
    """Return a warning for each bucket that should be read, holds documents, and is so small that a round takes no sequence of it."""
    return [
        f"sources.{name}: {bucket} is never read: {epochs:g} epochs of the {sequences} sequences that its {documents} documents make are"
        " less than half of one; raise its epochs, or part the buckets elsewhere"
        for name, source in sources.items()
        if (of_source := source.get("buckets"))
        for bucket, epochs, documents, sequences, count in zip(
            *(of_source[key] for key in ("names", "epochs", "documents", "sequences", "round")), strict=True
        )
        if epochs and documents and not count
    ]
