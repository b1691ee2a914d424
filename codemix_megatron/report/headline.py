"""The top of a run's page: one sentence and the headline numbers."""

from pathlib import Path

from codemix_megatron.report.blocks import Card
from codemix_megatron.report.consumption import tokens_by_kind
from codemix_megatron.report.held_out import kind_series, series
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.training_curves import training_seconds
from codemix_megatron.report.wording import ABSENT, count, duration, flops_per_second, join_words, percent, plural, relative, short_count

__all__ = ["describe_lead", "headline_cards"]

MOST_CARDS = 4  # sources with a card each; more of them share one per kind

MOST_NAMES = 5  # phases named in the sentence


def describe_lead(run: RunData) -> str:
    """Return one sentence of what was run."""
    layout, machine = (run.plan or {}).get("layout", {}), (run.environment or {}).get("machine", {})
    where = {"cpu": "CPU", "cuda": "CUDA"}.get(machine.get("device"), "")
    spread = " x ".join(f"{kind} {layout[kind]}" for kind in ("tensor", "pipeline", "data") if (layout.get(kind) or 1) > 1) or "one rank"
    trained = f"{short_count(run.tokens)} tokens" if run.tokens else "no tokens yet"
    model = f"A model of {short_count(run.parameters)} parameters, " if run.parameters else "A model "
    names = run.phase_names
    phases = f" in {plural(len(names), 'phase')}" + (f" ({join_words(names)})" if len(names) <= MOST_NAMES else "") if names else ""
    took = f", {duration(training_seconds(run))} in training steps" if run.steps else ""
    if run.branch:
        trained += f" ({short_count(run.first_token)} of them by {Path(run.branch['run']).name}, whose step {count(run.branch['step'])} it went on from)"
    return f"{model}trained on {trained}{phases}, spread over {spread}{f' on {where}' if where else ''}{took}."


def headline_cards(run: RunData) -> list[Card]:
    """Return the headline numbers."""
    sources = sorted(run.sources, key=lambda source: run.kind(source) != "text")
    if len(sources) <= MOST_CARDS:
        made = [bits_card(run, source) for source in sources]
    else:
        made = [kind_card(run, kind) for kind in dict.fromkeys(map(run.kind, sources))]
    if run.parameters:
        bare = (run.plan or {}).get("parameters", {}).get("without_embedding")
        made.append(
            Card(label="parameters", value=short_count(run.parameters), note=f"{short_count(bare)} without embedding" if bare else "")
        )
    made.append(tokens_card(run))
    if run.steps:
        made.append(speed_card(run))
    return [*made, parity_card(run)]


def bits_card(run: RunData, source: str) -> Card:
    """Return the newest held-out bits per byte of a source: of the export where it was scored, else of training."""
    _, trend = series(run, source)
    scored = next((b for b in run.scores[-1].bits_per_byte if b.corpus == source), None) if run.scores else None
    if scored is None and not trend:
        return Card(label=f"{source}, bits per byte", value=ABSENT, note="not scored yet", present=False)
    value = scored.value if scored else trend[-1]
    late = f" at step {count(run.scores[-1].step)}" if scored and run.scores[-1].step < run.last_step else ""
    note = f"± {scored.standard_error:.3f} over {plural(scored.documents, 'document')}{late}" if scored else "estimated while training"
    if len(trend) > 1:
        note += f"; in training {relative(trend[-1], trend[0])} from its start"
    return Card(label=f"{source}, bits per byte", value=f"{value:.3f}", note=note, trend=tuple(trend))


def kind_card(run: RunData, kind: str) -> Card:
    """Return the mean of the sources of one kind, as measured while training."""
    number = sum(run.kind(source) == kind for source in run.sources)
    _, trend = kind_series(run, kind)
    label = f"{kind.replace('_', ' ')}, bits per byte"
    if not trend:
        return Card(label=label, value=ABSENT, note="not measured yet", present=False)
    note = f"mean of {plural(number, 'source')}, while training"
    if len(trend) > 1:
        note += f"; {relative(trend[-1], trend[0])} from the start"
    return Card(label=label, value=f"{trend[-1]:.3f}", note=note, trend=tuple(trend))


def tokens_card(run: RunData) -> Card:
    """Return tokens seen, with how far that is and how much of it was text."""
    kinds = {kind: tokens for kind, tokens in tokens_by_kind(run).items() if tokens}
    total = sum(kinds.values())
    note = f"{count(run.last_step)} of {count(run.planned_steps)} steps" if run.planned_steps else plural(run.last_step, "step")
    if total:
        note += "; " + ", ".join(f"{percent(tokens / total, 0)} {kind.replace('_', ' ')}" for kind, tokens in kinds.items())
    return Card(label="tokens", value=short_count(run.tokens), note=note)


def speed_card(run: RunData) -> Card:
    """Return tokens per second over all steps."""
    speed = (run.tokens - run.first_token) / max(1e-9, training_seconds(run))
    flops = (run.plan or {}).get("flops", {}).get("per_token")
    return Card(label="speed", value=short_count(speed), unit="tokens/s", note=flops_per_second(speed * flops) if flops else "")


def parity_card(run: RunData) -> Card:
    """Return how far the exported model's logits are from those of training."""
    parity = (run.export or {}).get("parity")
    if not parity:
        return Card(label="export", value=ABSENT, note=f"none yet; codemix export {run.shown_path}", present=False)
    largest = parity["largest_logit_difference"]
    note = f"{'' if largest else 'bit for bit, '}over {count(parity.get('tokens_compared'))} tokens"
    note += f"; allowed {parity['tolerance']:.2g}" if "tolerance" in parity else ""
    return Card(label="export: logits differ by at most", value=f"{largest:.1e}" if largest else "0", note=note)
