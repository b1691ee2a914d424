"""Held-out bits per byte over a run: at its start, at the end of each phase, at its end."""

from dataclasses import dataclass

from codemix_megatron.report.consumption import find_spans
from codemix_megatron.report.run_data import RunData

__all__ = ["PhaseChange", "kind_series", "phase_changes", "series"]


@dataclass(frozen=True, kw_only=True)
class PhaseChange:
    """Bits per byte of one source as last measured in a phase, and what the phase changed since it was measured before."""

    phase: str
    tokens: int
    value: float
    before: float | None  # None: it was not measured before
    since: int  # tokens at which `before` was measured


def series(run: RunData, source: str) -> tuple[list[int], list[float]]:
    """Return (tokens, bits per byte) of the validations of one source."""
    measured = [(e.tokens, e.bits_per_byte.get(source)) for e in run.validations]
    points = [(tokens, value) for tokens, value in measured if value is not None]
    return [tokens for tokens, _ in points], [value for _, value in points]


def kind_series(run: RunData, kind: str) -> tuple[list[int], list[float]]:
    """Return (tokens, mean over the sources of a kind), only where all of them were measured."""
    sources = [source for source in run.sources if run.kind(source) == kind and series(run, source)[0]]
    tokens, values = [], []
    for event in run.validations:
        found = [event.bits_per_byte[source] for source in sources if event.bits_per_byte.get(source) is not None]
        if found and len(found) == len(sources):
            tokens.append(event.tokens)
            values.append(sum(found) / len(found))
    return tokens, values


def phase_changes(run: RunData, source: str) -> list[PhaseChange]:
    """Return the last value in each phase beside the last one before it (in the first phase: its first value)."""
    points = list(zip(*series(run, source), strict=True))
    changes = []
    for span in find_spans(run):
        inside = [point for point in points if span.first_token < point[0] <= span.last_token]
        earlier = [point for point in points if point[0] <= span.first_token] or inside[:1]
        if inside:
            (tokens, value), (since, before) = inside[-1], earlier[-1]
            known = since < tokens
            changes.append(PhaseChange(phase=span.name, tokens=tokens, value=value, before=before if known else None, since=since))
    return changes
