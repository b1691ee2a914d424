"""One picture of a plan: who is read when, and at which learning rate."""

from pathlib import Path
from typing import Any

from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.drawing import AS_WRITTEN
from codemix_megatron.recipe.quantity import format_tokens

__all__ = ["draw_plan"]

# Okabe & Ito (2008), distinguished by colour-blind readers; ordered so that neighbours differ in lightness too.
COLOURS = ("#56B4E9", "#D55E00", "#F0E442", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999999")
HATCHES = ("", "////", "", "....", "||", "\\\\\\\\", "xx", "--")  # in grey, half of the colours look alike
DARK = {"#D55E00", "#0072B2", "#009E73"}
INK, QUIET = "#222222", "#666666"
FORMATS = (".png", ".pdf", ".svg")
LABEL_HEIGHT, LABEL_WIDTH, NAME_WIDTH = 0.055, 0.07, 0.2  # least share, least part of the run for a label in a band, and for a name


def draw_plan(plan, path) -> Path:
    """Draw bands of planned share and the learning rate over tokens; the suffix of `path` decides the format."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise CodemixError(f"--figure {path}: suffix {path.suffix or 'missing'}; allowed are {', '.join(FORMATS)}")
    import matplotlib

    settings: dict[Any, Any] = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "hatch.linewidth": 0.6,
        **AS_WRITTEN,
    }
    with matplotlib.rc_context(settings):
        figure = compose(plan)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return path


def compose(plan):
    """Return the figure of two panels over one axis of tokens."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    bands, rates = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    figure.suptitle(title(plan), x=0.01, ha="left", fontsize=10, color=INK)
    draw_bands(bands, plan)
    draw_rates(rates, plan)
    for axes in (bands, rates):
        for phase in plan.phases[1:]:
            axes.axvline(plan.tokens_at(phase.first_step - 1), color=INK, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.tick_params(colors=QUIET, labelcolor=INK)
    name_phases(bands, plan)
    rates.set_xlim(plan.first_token, plan.first_token + plan.tokens)
    rates.set_xlabel("tokens seen")
    rates.xaxis.set_major_formatter(lambda value, _: format_tokens(round(value)) if value else "0")
    return figure


def title(plan) -> str:
    """Name the plan, its model and its tokens."""
    assumed = ", sizes of corpora assumed" if plan.assumed else ""
    size, tokens = format_tokens(plan.parameters["total"]), format_tokens(plan.tokens)
    return f"{plan.name}: {size} parameters, {tokens} tokens, {plan.steps - plan.first_step:,} steps{assumed}"


def draw_bands(axes, plan) -> None:
    """Stack the sources of each phase by share; the legend stands in the order of the bands."""
    from matplotlib.patches import Patch

    drawn = [name for name, source in plan.sources.items() if source["sequences"]]
    looks = {name: (COLOURS[i % len(COLOURS)], HATCHES[(i + i // len(COLOURS)) % len(HATCHES)]) for i, name in enumerate(drawn)}
    for phase in plan.phases:
        left, width, height = plan.tokens_at(phase.first_step - 1), phase.tokens, 0.0
        for name in drawn:
            share = phase.sources[name].sequences / phase.sequences if name in phase.sources else 0.0
            if not share:
                continue
            colour, hatch = looks[name]
            axes.bar(left, share, width, bottom=height, align="edge", color=colour, hatch=hatch, edgecolor="white", linewidth=0.8)
            if share >= LABEL_HEIGHT and width >= LABEL_WIDTH * plan.tokens:
                words = f"{name} {percent(share)}" if width >= NAME_WIDTH * plan.tokens else percent(share)
                label_band(axes, left + width / 2, height + share / 2, words, colour)
            height += share
    patches = [Patch(facecolor=look[0], hatch=look[1], edgecolor="white", label=name) for name, look in looks.items()]
    axes.legend(handles=patches[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=1.6, handleheight=1.2)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylabel("share of tokens")


def label_band(axes, x: float, y: float, text: str, colour: str) -> None:
    """Write into a band, on a ground of its own colour so that hatches do not cross the letters."""
    ink = "white" if colour in DARK else INK
    ground = {"facecolor": colour, "edgecolor": "none", "boxstyle": "round,pad=0.15"}
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color=ink, bbox=ground)


def percent(share: float) -> str:
    """Return 0.125 as 12.5 %."""
    return f"{100 * share:.3g} %"


def name_phases(axes, plan) -> None:
    """Write phase names above their stretch; where stretches are narrow, names climb so as not to meet."""
    level, free_from = 0, -1.0
    for phase in plan.phases:
        middle = (plan.tokens_at(phase.first_step - 1) + phase.tokens / 2 - plan.first_token) / plan.tokens
        half = 0.0075 * (len(phase.name) + 1)
        level = level + 1 if middle - half < free_from else 0
        free_from = middle + half
        text = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        axes.annotate(phase.name, (plan.first_token + middle * plan.tokens, 1.0), xytext=(0, 4 + 11 * level), fontsize=9, color=INK, **text)


def draw_rates(axes, plan) -> None:
    """Draw the learning rate; phases are not joined, since it may jump between them."""
    ends = [plan.tokens_at(phase.first_step + phase.steps - 1) for phase in plan.phases]
    for begin, end in zip([plan.first_token, *ends], ends, strict=False):
        inside = [(tokens, rate) for tokens, rate in plan.learning_rate_curve if begin < tokens <= end]
        axes.plot(*zip(*inside, strict=True), color=INK, linewidth=1.5, marker="o" if len(inside) == 1 else "", markersize=3)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_ylabel("learning rate")
    axes.yaxis.set_major_formatter(lambda value, _: rate_text(value))


def rate_text(rate: float) -> str:
    """Return 0.0003 as 3e-4."""
    digits, _, exponent = f"{rate:.2e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}" if rate else "0"
