"""Tokens each source gave, as the journal counted them, beside what was planned."""

from dataclasses import dataclass

from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import PhaseEndEvent, StepEvent
from codemix_megatron.report.run_data import RunData

__all__ = ["PhaseSpan", "SourceUse", "find_spans", "step_deltas", "tokens_by_kind", "use_of_sources"]


@dataclass(frozen=True, kw_only=True)
class PhaseSpan:
    """Where a phase lies on the axis of tokens, as far as it was trained."""

    name: str
    first_token: int
    last_token: int
    finished: bool


@dataclass(frozen=True, kw_only=True)
class SourceUse:
    """One source in one phase; planned values are None where there is no plan.

    `difference_sequences` is realised minus expected; expected is the plan of the whole phase once it is
    finished, before that the planned share of what the phase has consumed so far.
    """

    phase: str
    source: str
    planned_share: float | None
    realised_share: float | None
    planned_tokens: int | None
    realised_tokens: int
    difference_sequences: float | None
    epochs: float | None  # passes over the source since the start of the run
    finished: bool


def step_deltas(steps: list[StepEvent], before: dict[str, int] | None = None) -> list[dict[str, int]]:
    """Return tokens per source of every step, from the cumulative counts; `before` are those of the parent of a branch."""
    deltas, before = [], before or {}
    for event in steps:
        now = event.tokens_per_source or before
        deltas.append({source: total - before.get(source, 0) for source, total in now.items()})
        before = now
    return deltas


def find_spans(run: RunData) -> list[PhaseSpan]:
    """Return the phases that were begun, in order."""
    ended = {event.phase for event in of_kind(run.events, PhaseEndEvent) if event.step <= run.last_step}
    ends: dict[str, int] = {}
    counts: dict[str, int] = {}
    for event in run.steps:
        ends[event.phase] = event.tokens
        counts[event.phase] = counts.get(event.phase, 0) + 1
    planned = {phase["name"]: phase["steps"] for phase in (run.plan or {}).get("phases", [])}
    spans, first = [], run.first_token
    for i, (name, last) in enumerate(ends.items()):
        finished = name in ended or i < len(ends) - 1 or (name in planned and counts[name] >= planned[name])
        spans.append(PhaseSpan(name=name, first_token=first, last_token=last, finished=finished))
        first = last
    return spans


def use_of_sources(run: RunData) -> list[SourceUse]:
    """Return planned and realised use of every source in every phase, phases not begun included."""
    realised: dict[str, dict[str, int]] = {}
    for event, delta in zip(run.steps, step_deltas(run.steps, run.tokens_before), strict=True):
        into = realised.setdefault(event.phase, {})
        for source, tokens in delta.items():
            into[source] = into.get(source, 0) + tokens
    spans = {span.name: span for span in find_spans(run)}
    uses, consumed = [], dict.fromkeys(run.sources, 0) | run.tokens_before
    for phase in dict.fromkeys([*run.phase_names, *realised]):
        planned, got = plan_of(run, phase), realised.get(phase, {})
        for source in run.sources:
            tokens = got.get(source, 0)
            consumed[source] += tokens
            if tokens or source in planned:
                finished = phase in spans and spans[phase].finished
                uses.append(describe_use(run, phase, source, planned.get(source), got, consumed[source], finished))
    return uses


def describe_use(run, phase, source, planned, got, consumed, finished) -> SourceUse:
    """Put one row together."""
    total, tokens = sum(got.values()), got.get(source, 0)
    planned_tokens, share = (planned["tokens"], planned["share"]) if planned else (None, None)
    moves = bool(phase_plan(run, phase).get("stretches"))  # what a part of the phase is to have had is not its mean share
    expected = planned_tokens if finished else share * total if share is not None and not moves else None
    comparable = total and expected is not None and run.sequence_length
    epoch_tokens = epoch_length(run, source)
    return SourceUse(
        phase=phase,
        source=source,
        planned_share=share,
        realised_share=tokens / total if total else None,
        planned_tokens=planned_tokens,
        realised_tokens=tokens,
        difference_sequences=(tokens - expected) / run.sequence_length if comparable else None,
        epochs=consumed / epoch_tokens if epoch_tokens else None,
        finished=finished,
    )


def plan_of(run: RunData, phase: str) -> dict[str, dict]:
    """Return the planned sources of a phase."""
    return phase_plan(run, phase).get("sources", {})


def phase_plan(run: RunData, phase: str) -> dict:
    """Return a phase as it was planned; nothing where there is no plan of it."""
    return next((p for p in (run.plan or {}).get("phases", []) if p["name"] == phase), {})


def epoch_length(run: RunData, source: str) -> int | None:
    """Return the tokens of one pass over a source."""
    entry = (run.plan or {}).get("sources", {}).get(source, {})
    if entry.get("sequences_per_epoch") and run.sequence_length:
        return entry["sequences_per_epoch"] * run.sequence_length
    return None


def tokens_by_kind(run: RunData) -> dict[str, int]:
    """Return tokens consumed so far by kind of source; text first."""
    totals: dict[str, int] = {}
    last = run.steps[-1].tokens_per_source if run.steps else {}
    for source in sorted(run.sources, key=lambda name: run.kind(name) != "text"):
        totals[run.kind(source)] = totals.get(run.kind(source), 0) + last.get(source, 0)
    return totals
