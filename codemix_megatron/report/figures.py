"""Figures of one run."""

import numpy as np

from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.canvas import draw_figure, label_ends, mark_interruptions, mark_phases, name_above, token_axis
from codemix_megatron.report.consumption import find_spans, step_deltas
from codemix_megatron.report.held_out import series
from codemix_megatron.report.palette import INK, OTHER, PAPER, SOFT, Look, assign_looks
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import join_words, percent

__all__ = ["held_out_figure", "loss_figure", "mixture_figure", "source_looks", "tasks_figure", "window_shares"]

MOST_SOURCES = 7  # drawn by themselves; further ones are told in the tables
MOST_POINTS = 600  # of a line; a longer run is thinned, its smoothing is not


def source_looks(run: RunData) -> dict[str, Look]:
    """Return the looks of the sources that are drawn by themselves: those that gave the most tokens."""
    last = run.steps[-1].tokens_per_source if run.steps else {}
    largest = sorted(run.sources, key=lambda source: -last.get(source, 0))[:MOST_SOURCES]
    return assign_looks({source: run.kind(source) for source in run.sources if source in largest})


def mixture_figure(run: RunData) -> Figure:
    """Realised share of each source over tokens, and the learning rate below it."""
    looks = source_looks(run)
    tokens, shares = phase_shares(run, list(looks))
    colours = [look.colour for look in looks.values()] + [OTHER]
    hatches = [look.hatch for look in looks.values()] + [""]
    names = [*looks, "others"] if len(looks) < len(run.sources) else list(looks)

    def draw(canvas):
        top, bottom = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        bands = top.stackplot(tokens, shares.T[: len(names)], labels=names, colors=colours, linewidth=0)
        for band, hatch in zip(bands, hatches, strict=False):
            band.set(hatch=hatch, edgecolor=PAPER)
        top.set(ylim=(0, 1), ylabel="share of tokens", yticks=(0, 0.5, 1))
        top.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        top.grid(False)
        name_above(canvas, bands, names)
        bottom.plot([e.tokens for e in run.steps], [e.learning_rate for e in run.steps], color=INK)
        bottom.set(ylabel="learning rate", ylim=(0, None))
        bottom.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        token_axis(bottom, max(tokens[-1], run.planned_tokens or 0), run.first_token)
        mark_phases(top, run)
        mark_phases(bottom, run, named=False)
        mark_interruptions(bottom, run)

    caption = "Mixture as consumed, and learning rate. Vertical lines part the phases; a triangle marks a resume."
    return draw_figure("mixture", caption, describe_mixture(run), draw, 1.25)


def describe_mixture(run: RunData) -> str:
    """Say the mixture figure in words."""
    last = run.steps[-1].tokens_per_source
    total = sum(last.values()) or 1
    said = [f"{source} {percent(last[source] / total)}" for source in run.sources if last.get(source)]
    return f"Shares of tokens, phase by phase; over the whole run: {join_words(said)}." if said else "Shares of tokens over the run."


def phase_shares(run: RunData, sources: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens [points] and shares [points, sources and others]; windows stop at the borders of phases."""
    all_sources = run.sources
    counts = np.array([[e.tokens_per_source.get(s, 0) for s in all_sources] for e in run.steps], dtype=float)
    order = [all_sources.index(s) for s in sources]
    counts = np.column_stack([counts[:, order], counts.sum(axis=1) - counts[:, order].sum(axis=1)])
    ends = np.array([e.tokens for e in run.steps], dtype=float)
    width, tokens, shares = max(1, len(ends) // 50), [], []
    before = np.array([run.tokens_before.get(s, 0) for s in all_sources], dtype=float)
    base = np.append(before[order], before.sum() - before[order].sum())
    for span in find_spans(run):
        inside = (ends > span.first_token) & (ends <= span.last_token)
        if not inside.any():
            continue
        local = window_shares(counts[inside] - base, width)
        local[: width - 1] = local[min(width, len(local)) - 1]  # the first, narrower windows would only show noise
        base = counts[inside][-1]
        step = -(-len(local) * 4 // MOST_POINTS)
        tokens += [span.first_token, *ends[inside][::step], span.last_token]
        shares += [local[0], *local[::step], local[-1]]
    return np.array(tokens), np.array(shares)


def window_shares(counts: np.ndarray, width: int) -> np.ndarray:
    """Return shares [steps, sources] of the tokens consumed in the last `width` steps, from cumulative counts."""
    before = np.vstack([np.zeros((1, counts.shape[1])), counts])
    begin = np.maximum(0, np.arange(len(counts)) + 1 - width)
    differences = before[1:] - before[begin]
    return differences / np.maximum(1, differences.sum(axis=1, keepdims=True))


def loss_figure(run: RunData) -> Figure:
    """Training loss per source, raw faintly and smoothed on top; gradient norm below it."""
    norms = [(e.tokens, e.gradient_norm) for e in run.steps if e.gradient_norm > 0]

    def draw(canvas):
        top, bottom = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        ends = []
        for source, look in source_looks(run).items():
            x, y, smooth = loss_series(run, source)
            if len(x):
                thin = slice(None, None, -(-len(x) // MOST_POINTS))
                top.plot(x[thin], y[thin], color=look.colour, alpha=0.22, linewidth=0.8)
                top.plot(x[thin], smooth[thin], label=source, linewidth=1.8, **look.line)
                ends.append((source, x[-1], smooth[-1], look.colour))
        top.set(ylabel="loss, nats per token")
        if norms:
            thin = norms[:: -(-len(norms) // MOST_POINTS)]
            bottom.plot(*zip(*thin, strict=True), color=SOFT, linewidth=0.9)
        bottom.set(ylabel="gradient\nnorm", ylim=(0, None))
        token_axis(bottom, run.planned_tokens or run.tokens, run.first_token)
        mark_phases(top, run)
        mark_phases(bottom, run, named=False)
        mark_interruptions(bottom, run)
        label_ends(top, ends)

    caption = "Training loss per source: faint lines are single steps, strong ones a running mean weighted by tokens."
    return draw_figure("loss", caption, "Training loss per source and gradient norm over tokens.", draw, 1.2)


def loss_series(run: RunData, source: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tokens, loss and smoothed loss of the steps that drew from a source."""
    points = [
        (event.tokens, event.loss_per_source[source], delta.get(source) or 1)
        for event, delta in zip(run.steps, step_deltas(run.steps, run.tokens_before), strict=True)
        if event.loss_per_source.get(source) is not None
    ]
    if not points:
        return np.empty(0), np.empty(0), np.empty(0)
    tokens, losses, weights = np.array(points, dtype=float).T
    return tokens, losses, smoothed(losses, weights)


def smoothed(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return a weighted running mean over a twentieth of the run, narrower at the ends."""
    width = len(values) // 40
    known = np.isfinite(values)
    index = np.arange(len(values))
    low, high = np.maximum(0, index - width), np.minimum(len(values), index + width + 1)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0) * weights)])
    masses = np.concatenate([[0.0], np.cumsum(known * weights)])
    mass = masses[high] - masses[low]
    return np.divide(sums[high] - sums[low], mass, out=np.full(len(values), np.nan), where=mass > 0)


def held_out_figure(run: RunData) -> Figure:
    """Bits per byte of held-out documents per source."""

    def draw(canvas):
        axes, ends = canvas.subplots(), []
        for source, look in source_looks(run).items():
            tokens, values = series(run, source)
            if values:
                every = max(1, len(values) // 25)
                axes.plot(tokens, values, marker=look.marker, markevery=every, markersize=4.5, label=source, clip_on=False, **look.line)
                ends.append((source, tokens[-1], values[-1], look.colour))
        axes.set(ylabel="bits per byte, held out")
        token_axis(axes, run.planned_tokens or run.tokens, run.first_token)
        mark_phases(axes, run)
        mark_interruptions(axes, run)
        label_ends(axes, ends)

    return draw_figure("held-out", "Held-out bits per byte; lower is better.", "Held-out bits per byte per source over tokens.", draw)


def tasks_figure(run: RunData) -> Figure:
    """Task scores with two standard errors and the level of guessing."""
    tasks = run.scores[-1].tasks
    errors = [2 * (t.standard_error or 0) for t in tasks]

    def draw(canvas):
        axes = canvas.subplots()
        heights = np.arange(len(tasks))[::-1]
        score = {"fmt": "o", "capsize": 4, "linewidth": 1.6, "label": "score, ±2 standard errors"}
        axes.errorbar([t.value for t in tasks], heights, xerr=errors, color=assign_looks({"": "text"})[""].colour, **score)
        for y, task in zip(heights, tasks, strict=True):
            if task.floor is not None:
                axes.plot([task.floor] * 2, [y - 0.32, y + 0.32], color=INK, linewidth=2, linestyle=":")
        axes.plot([], [], color=INK, linestyle=":", linewidth=2, label="chance")
        axes.set(yticks=heights, yticklabels=[f"{t.task}\n{t.metric}" for t in tasks], xlabel="score", ylim=(-0.7, len(tasks) - 0.3))
        lowest = min(t.value - e for t, e in zip(tasks, errors, strict=True))
        highest = max(max(t.value + e, t.floor or 0) for t, e in zip(tasks, errors, strict=True))
        axes.set_xlim(min(0, lowest - 0.02), 0.04 + highest)
        axes.grid(visible=False, axis="y")
        canvas.legend(loc="outside upper center", ncols=2)

    description = "Task scores with error bars and chance levels."
    return draw_figure(
        "tasks", "Task scores beside what guessing, or one answer to all, would score.", description, draw, max(0.7, 0.17 * len(tasks))
    )
