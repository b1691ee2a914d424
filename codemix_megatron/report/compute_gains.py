"""Compute-equivalent gain of each variant of a ladder: loss against FLOPs of the first one, read at equal loss."""

from collections import Counter

import numpy as np

from codemix_megatron.analysis.compute_gain import ComputeGain, compute_gains
from codemix_megatron.report.blocks import Cell, Section, Table
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import short_count

__all__ = ["compute_gain_sections"]

LEAST_AMOUNTS = 3  # of FLOPs that the reference was trained with


def compute_gain_sections(runs: list[RunData], measures: list[Measure]) -> list[Section]:
    """Return the gains where the variants of a study were trained with several amounts of FLOPs, by bits per byte."""
    named = [run for run in runs if run.variant and flops_of(run)]
    variants = list(dict.fromkeys(run.variant for run in named))
    rows = []
    for measure in (measure for measure in measures if measure.unit == "bits per byte"):
        contents = Counter(measure.content(run) for run in named if measure.value(run) is not None)
        usual = max(contents, key=lambda content: contents[content], default=None)
        curves = {variant: curve_of([run for run in named if run.variant == variant], measure, usual) for variant in variants}
        if not curves:
            continue
        reference, others = variants[0], [variant for variant in variants[1:] if len(curves[variant][0])]
        if not len(curves[reference][0]) or not others or len(np.unique(np.round(np.log(curves[reference][0]), 3))) < LEAST_AMOUNTS:
            continue
        for variant in others:
            gains = compute_gains(curves[reference], curves[variant])
            rows += [[measure.label, str(variant), f"{gain.flops:.2e}", f"{gain.loss:.4f}", gain_cell(gain)] for gain in gains]
    if not rows:
        return []
    caption = (
        f"How many times its own FLOPs {variants[0]} would need for the same loss, read from its runs joined by lines in the logarithm of FLOPs."
        " Of each variant the runs that are better than all cheaper ones; nothing is read beyond the reference's own losses."
    )
    table = Table(headings=["measure", "variant", "FLOPs", "loss", "gain"], rows=rows, caption=caption, left=(0, 1))
    return [Section(title="Compute-equivalent gain", anchor="compute-gain", blocks=[table])]


def flops_of(run: RunData) -> float:
    """Return the FLOPs of a run until its scores, parents included."""
    return float((run.plan or {}).get("flops", {}).get("per_token", 0.0)) * run.scored_tokens


def curve_of(runs: list[RunData], measure: Measure, content: object) -> tuple[np.ndarray, np.ndarray]:
    """Return (FLOPs, losses) of the runs that were measured on this content."""
    points = [(flops_of(run), value) for run in runs if (value := measure.value(run)) is not None and measure.content(run) == content]
    flops, losses = zip(*points, strict=True) if points else ((), ())
    return np.array(flops), np.array(losses)


def gain_cell(gain: ComputeGain) -> Cell:
    """Return a gain with its bound, and the FLOPs it stands for."""
    tone = "good" if gain.gain > 1 and gain.bound != "at most" else "bad" if gain.gain < 1 and gain.bound != "at least" else ""
    return Cell(f"{gain.bound} {gain.gain:.2f}".strip(), below=f"{short_count(gain.gain * gain.flops)} FLOPs", tone=tone)
