"""Scores that were made while a run trained, as curves over tokens."""

from codemix_megatron.records.events import ScoresEvent
from codemix_megatron.records.journal import surviving
from codemix_megatron.report.blocks import Figure, Paragraph
from codemix_megatron.report.canvas import draw_figure, mark_interruptions, mark_phases, token_axis
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import plural

__all__ = ["score_curves", "score_curves_blocks"]

MOST_CURVES = 12  # distinguished in one figure


def score_curves(run: RunData) -> dict[str, list[tuple[int, float]]]:
    """Return name -> (tokens, score) of what was scored while training: corpora by bits per byte, tasks by their main metric."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for event in surviving(run.events, ScoresEvent):
        named = {f"{corpus} bits_per_byte": value for corpus, value in event.bits_per_byte.items()}
        for name, value in {**named, **event.tasks}.items():
            curves.setdefault(name, []).append((event.tokens, value))
    return curves


def score_curves_blocks(run: RunData) -> list:
    """Return the figure of scores while training and what they cost; nothing where none were made."""
    curves, events = score_curves(run), surviving(run.events, ScoresEvent)
    if not curves:
        return []
    share, seconds = events[-1].share_of_time, sum(event.seconds for event in events)
    told = f"Scored {plural(len(events), 'time')} while training, {seconds:.0f} seconds in all; the last start spent {100 * share:.1f} % of its time on it."
    shown = dict(list(curves.items())[:MOST_CURVES])
    more = f" {len(curves) - len(shown)} more are in the journal." if len(shown) < len(curves) else ""
    return [figure(run, shown), Paragraph(told + more, "quiet")]


def figure(run: RunData, curves: dict[str, list[tuple[int, float]]]) -> Figure:
    """Draw bits per byte above and everything else below."""
    bits = {name: points for name, points in curves.items() if name.endswith("bits_per_byte")}
    others = {name: points for name, points in curves.items() if name not in bits}

    def draw(canvas):
        panels = [(bits, "bits per byte"), (others, "score")]
        panels = [(named, label) for named, label in panels if named]
        axes = canvas.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for panel, (named, label) in zip(axes, panels, strict=True):
            for name, points in named.items():
                panel.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.3, label=name.removesuffix(" bits_per_byte"))
            panel.set(ylabel=label)
            panel.legend(fontsize=7, ncols=2)
            mark_phases(panel, run, named=panel is axes[0])
            mark_interruptions(panel, run)
        token_axis(axes[-1], run.planned_tokens or run.tokens, run.first_token)

    caption = "Scores made while training; bits per byte are lower where the model is better."
    return draw_figure(
        "scores-while-training", caption, "Scores of suites over tokens, made while training.", draw, 1.4 if bits and others else 1.0
    )
