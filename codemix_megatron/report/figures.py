"""Figures of a run: SVG for the page in two widths, PNG beside the Markdown. Colours are Okabe and Ito's."""

import io
import re

import numpy as np

from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.progress import find_interruptions
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import join_words, short_count

__all__ = ["compare_figure", "held_out_figure", "loss_figure", "mixture_figure", "tasks_figure"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "ooo", "++")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = "os^Dvp*"
WIDE, NARROW = (9.2, 3.4), (4.6, 3.4)
RCPARAMS = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.fonttype": "none",
    "svg.hashsalt": "codemix",
}


def drawn(name: str, caption: str, description: str, draw, height: float = 1.0) -> Figure:
    """Draw twice as SVG and once as PNG; `draw(figure)` fills a figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure as Canvas

    def render(size, kind: str) -> bytes:
        with matplotlib.rc_context(RCPARAMS):
            canvas = Canvas(figsize=(size[0], size[1] * height), layout="constrained")
            draw(canvas)
            buffer = io.BytesIO()
            metadata = {"Date": None} if kind == "svg" else None
            canvas.savefig(buffer, format=kind, dpi=150, metadata=metadata)
            return buffer.getvalue()

    wide, narrow = (inline(render(size, "svg").decode(), f"{name}-{i}") for i, size in enumerate((WIDE, NARROW)))
    return Figure(name=name, caption=caption, description=description, wide_svg=wide, narrow_svg=narrow, png=render(WIDE, "png"))


def inline(svg: str, prefix: str) -> str:
    """Return an SVG that can stand in a page: no prolog, no fixed size, ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", svg)


def look(run: RunData, source: str) -> dict:
    """Return colour and line style of a source, the same in every figure."""
    i = run.sources.index(source) % len(COLOURS)
    return {"color": COLOURS[i], "linestyle": STYLES[i]}


def token_axis(axes) -> None:
    """Label an axis of tokens with short counts."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value) if value else "0"))
    axes.set_xlabel("tokens trained on")


def mark_phases(axes, run: RunData, named: bool = True) -> None:
    """Rule off the phases and write their names above; mark resumes with a triangle on the axis."""
    for i, phase in enumerate((run.plan or {}).get("phases", [])):
        begin = (phase["first_step"] - 1) * run.plan["batch_tokens"]
        if i:
            axes.axvline(begin, color="0.35", linewidth=0.8, zorder=0)
        if named:
            axes.text(
                begin + phase["tokens"] / 2, 1.02, phase["name"], transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=9
            )
    for mark in find_interruptions(run):
        if mark.kind == "resume":
            axes.plot(
                [mark.tokens], [0], marker="^", color="0.2", markersize=7, clip_on=False, transform=axes.get_xaxis_transform(), zorder=5
            )


def mixture_figure(run: RunData) -> Figure:
    """Realised share of each source over tokens, and the learning rate below it."""
    tokens = np.array([e["tokens"] for e in run.steps], dtype=float)
    counts = np.array([[e["tokens_per_source"].get(s, 0) for s in run.sources] for e in run.steps], dtype=float)
    shares = window_shares(counts, max(1, len(tokens) // 60))

    def draw(canvas):
        top, bottom = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        bands = top.stackplot(tokens, shares.T, labels=run.sources, colors=COLOURS, step="pre", alpha=0.85, linewidth=0)
        for band, hatch in zip(bands, HATCHES, strict=False):
            band.set(hatch=hatch, edgecolor="white")
        top.set(ylim=(0, 1), ylabel="share of tokens", xlim=(0, max(tokens[-1], run.planned_tokens or 0)))
        top.grid(False)
        canvas.legend(handles=bands, loc="outside upper center", ncols=min(4, len(run.sources)), frameon=False)
        bottom.plot(tokens, [e["learning_rate"] for e in run.steps], color="0.15")
        bottom.set(ylabel="learning rate", ylim=(0, None))
        bottom.ticklabel_format(axis="y", style="sci", scilimits=(-3, -3), useMathText=True)
        token_axis(bottom)
        mark_phases(top, run)
        mark_phases(bottom, run, named=False)

    caption = "Mixture as consumed, and learning rate. Vertical lines part the phases; a triangle marks a resume."
    return drawn("mixture", caption, f"Shares of {join_words(run.sources)} over tokens, phase by phase.", draw, 1.25)


def window_shares(counts: np.ndarray, width: int) -> np.ndarray:
    """Return shares [steps, sources] of the tokens consumed in the last `width` steps, from cumulative counts."""
    before = np.vstack([np.zeros((1, counts.shape[1])), counts])
    begin = np.maximum(0, np.arange(len(counts)) + 1 - width)
    differences = before[1:] - before[begin]
    return differences / np.maximum(1, differences.sum(axis=1, keepdims=True))


def loss_figure(run: RunData) -> Figure:
    """Training loss per source: raw faintly, smoothed on top."""

    def draw(canvas):
        axes = canvas.subplots()
        for source in run.sources:
            points = [(e["tokens"], e["loss_per_source"][source]) for e in run.steps if source in e["loss_per_source"]]
            if points:
                x, y = np.array(points).T
                axes.plot(x, y, color=look(run, source)["color"], alpha=0.22, linewidth=0.8)
                axes.plot(x, smoothed(y), label=source, linewidth=1.8, **look(run, source))
        axes.set(ylabel="loss, nats per token")
        axes.legend(frameon=False)
        token_axis(axes)
        mark_phases(axes, run)

    return drawn("loss", "Training loss per source; faint lines are single steps.", "Training loss per source over tokens.", draw)


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return a running mean over a twentieth of the run, narrower at the ends."""
    width = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(0, index - width), np.minimum(len(values), index + width + 1)
    return (sums[high] - sums[low]) / (high - low)


def held_out_figure(run: RunData) -> Figure:
    """Bits per byte of held-out documents per source."""

    def draw(canvas):
        axes = canvas.subplots()
        for i, source in enumerate(run.sources):
            points = [(e["tokens"], e["bits_per_byte"][source]) for e in run.validations if source in e["bits_per_byte"]]
            if points:
                axes.plot(*np.array(points).T, marker=MARKERS[i % len(MARKERS)], markersize=4.5, label=source, **look(run, source))
        axes.set(ylabel="bits per byte, held out")
        axes.legend(frameon=False)
        token_axis(axes)
        mark_phases(axes, run)

    return drawn("held-out", "Held-out bits per byte; lower is better.", "Held-out bits per byte per source over tokens.", draw)


def tasks_figure(run: RunData) -> Figure:
    """Task scores with two standard errors and the level of guessing."""
    tasks = run.scores[-1].tasks

    def draw(canvas):
        axes = canvas.subplots()
        places = np.arange(len(tasks))[::-1]
        errors = [2 * (t.standard_error or 0) for t in tasks]
        axes.errorbar(
            [t.value for t in tasks],
            places,
            xerr=errors,
            fmt="o",
            color=COLOURS[0],
            capsize=4,
            linewidth=1.6,
            label="score, ±2 standard errors",
        )
        for place, task in zip(places, tasks, strict=True):
            if task.chance is not None:
                axes.plot([task.chance] * 2, [place - 0.32, place + 0.32], color="0.3", linewidth=2, linestyle=":")
        axes.plot([], [], color="0.3", linestyle=":", linewidth=2, label="guessing")
        axes.set(yticks=places, yticklabels=[f"{t.task}\n{t.metric}" for t in tasks], xlabel="score", ylim=(-0.7, len(tasks) - 0.3))
        axes.set_xlim(0, min(1, 0.1 + max(t.value + e for t, e in zip(tasks, errors, strict=True))))
        canvas.legend(loc="outside upper center", ncols=2, frameon=False)

    return drawn(
        "tasks",
        "Task scores beside what guessing would score.",
        "Task scores with error bars and chance levels.",
        draw,
        max(0.7, 0.17 * len(tasks)),
    )


def compare_figure(runs: list[RunData], source: str) -> Figure:
    """Held-out bits per byte of one source over all runs."""

    def draw(canvas):
        axes = canvas.subplots()
        for i, run in enumerate(runs):
            points = [(e["tokens"], e["bits_per_byte"][source]) for e in run.validations if source in e["bits_per_byte"]]
            if points:
                style = {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)], "marker": MARKERS[i % len(MARKERS)]}
                axes.plot(*np.array(points).T, markersize=4, label=run.name, **style)
        axes.set(ylabel=f"bits per byte, {source}")
        axes.legend(frameon=False)
        token_axis(axes)

    return drawn(f"held-out-{source}", f"Held-out bits per byte of {source} in every run.", f"Bits per byte of {source} per run.", draw)
