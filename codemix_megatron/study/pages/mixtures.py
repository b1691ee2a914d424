"""The mixture explorer: what each variant draws in each phase, as numbers for the page's script and as bars without it."""

from html import escape

from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import percent, short_count

__all__ = ["mixture_bars", "mixtures_of"]

COLOURS = 7  # --c0 to --c6 of the reports' style


def mixtures_of(variants: list[RunData]) -> dict[str, list[dict]]:
    """Return variant -> phases, each with its name, tokens, and tokens of each source."""
    return {
        run.name: [
            {
                "name": phase["name"],
                "tokens": phase["tokens"],
                "sources": {name: drawn["tokens"] for name, drawn in phase["sources"].items() if drawn["tokens"]},
            }
            for phase in (run.plan or {}).get("phases", [])
        ]
        for run in variants
    }


def mixture_bars(mixtures: dict[str, list[dict]]) -> str:
    """Return a bar for every phase of every variant; one folded part for each variant, the first open."""
    sources = list(dict.fromkeys(name for phases in mixtures.values() for phase in phases for name in phase["sources"]))
    colour = {name: f"var(--c{index % COLOURS})" for index, name in enumerate(sources)}
    keys = "".join(f'<span class="key"><i style="background:{colour[name]}"></i>{escape(name)}</span>' for name in sources)
    parts = [
        f'<details class="mixture" data-variant="{escape(variant, quote=True)}"{" open" if not number else ""}>'
        f"<summary>{escape(variant)}</summary>{''.join(bar(phase, colour) for phase in phases)}</details>"
        for number, (variant, phases) in enumerate(mixtures.items())
    ]
    return f'<p class="keys">{keys}</p>{"".join(parts)}'


def bar(phase: dict, colour: dict[str, str]) -> str:
    """Return one phase as a bar of its sources."""
    pieces = ""
    for name, tokens in phase["sources"].items():
        share = tokens / phase["tokens"]
        told = f"{name}: {short_count(tokens)} tokens, {percent(share)}"
        label = percent(share, 0) if share >= 0.08 else ""
        pieces += f'<span style="width:{100 * share:.3f}%;background:{colour[name]}" title="{escape(told, quote=True)}">{label}</span>'
    return f'<div class="phase"><b>{escape(phase["name"])}</b> <small>{short_count(phase["tokens"])} tokens</small><div class="bar">{pieces}</div></div>'
