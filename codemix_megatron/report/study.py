"""What a set of runs says about code: variants beside the paper's, the sweep, kinds of code, cooldowns, seeds, cost."""

import math

from codemix_megatron.analysis.comparing import NOT_DISTINGUISHABLE, Difference
from codemix_megatron.analysis.estimates import spread_over_seeds
from codemix_megatron.report.blocks import Bullets, Cell, Missing, Paragraph, Section, Table
from codemix_megatron.report.differences import (
    difference_in_aggregate,
    difference_in_bits,
    find_aggregate,
    find_bits,
)
from codemix_megatron.report.paper import read_paper
from codemix_megatron.report.roles import code_share, paper_variant, parent_of, quality_runs, seed_groups, sweep_runs
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.study_figures import quality_figure, sweep_figure
from codemix_megatron.report.training_curves import training_seconds
from codemix_megatron.report.wording import ABSENT, count, duration, flops_per_second, join_words, percent, relative, short_count, signed

__all__ = ["study_measures", "study_sections"]

PAPER_KEYS = {"reasoning": "reason", "knowledge": "know", "code": "code"}
STAGE_NOTE = "beside it the paper's relative gain over text-only at the same stage (470M, its data, its items: shapes can be compared, levels cannot)"


class Measure:
    """One column of the study's tables: a mean of a suite, or held-out bits per byte of a source."""

    def __init__(self, label: str, higher_is_better: bool, value, difference, paper_key: str | None = None):
        self.label, self.higher_is_better, self.value, self.difference, self.paper_key = (
            label,
            higher_is_better,
            value,
            difference,
            paper_key,
        )


def study_measures(runs: list[RunData]) -> list[Measure]:
    """Return what the runs can be compared by: means of suites first, then bits per byte of each source."""
    found = {}
    for run in runs:
        for mean in run.scores[-1].aggregates if run.scores else []:
            found.setdefault((mean.suite, mean.name), run)
    measures = [aggregate_measure(suite, name, run) for (suite, name), run in found.items()]
    sources = list(dict.fromkeys(b.corpus for run in runs if run.scores for b in run.scores[-1].bits_per_byte))
    return measures + [bits_measure(source) for source in sources]


def aggregate_measure(suite: str, name: str, run: RunData) -> Measure:
    """Return a mean over tasks as a measure; the suite `paper` has the paper's own numbers beside it."""
    higher = all(task.higher_is_better for task in run.scores[-1].tasks if task.suite == suite and task.is_main)

    def value(of: RunData):
        mean = find_aggregate(of, suite, name)
        return (mean.value, mean.standard_error) if mean else (None, None)

    label = f"{name.replace('_', ' ')}{'' if suite == 'paper' else f' ({suite})'}"
    key = PAPER_KEYS.get(name) if suite == "paper" else None
    return Measure(label, higher, value, lambda run, base: difference_in_aggregate(run, base, suite, name), key)


def bits_measure(source: str) -> Measure:
    """Return held-out bits per byte of one source as a measure."""

    def value(of: RunData):
        bits = find_bits(of, source)
        return (bits.value, bits.standard_error) if bits else (None, None)

    return Measure(f"{source}, bits per byte", False, value, lambda run, base: difference_in_bits(run, base, source))


def study_sections(runs: list[RunData], labels: list[str], at: int) -> list[Section]:
    """Return the sections that these runs have something to say for."""
    measures, names = study_measures(runs), dict(zip((id(run) for run in runs), labels, strict=True))
    sections = []
    if measures:
        sections.append(Section(title="Variants", anchor="variants", blocks=variant_blocks(runs, labels, at, measures)))
    if sweep := sweep_runs([run for run in runs if run.scores]):
        figure = sweep_figure(sweep, [code_share(run) for run in sweep], measures, read_paper())
        sections.append(Section(title="Share of code", anchor="sweep", blocks=[figure, sweep_table(sweep, names, measures)]))
    if kinds := quality_runs([run for run in runs if run.scores]):
        figure = quality_figure(kinds, [names[id(run)] for run in kinds], measures, read_paper())
        sections.append(Section(title="Kind of code", anchor="quality", blocks=[figure]))
    if cooled := [(run, parent) for run in runs if (parent := parent_of(run, runs)) is not None]:
        sections.append(Section(title="Cooldowns and continued runs", anchor="cooldown", blocks=cooldown_blocks(cooled, names, measures)))
    if groups := seed_groups(runs):
        sections.append(Section(title="Seeds", anchor="seeds", blocks=seed_blocks(groups, names, measures)))
    return [*sections, Section(title="Cost", anchor="cost", blocks=cost_blocks(runs, labels))]


def variant_blocks(runs, labels, at: int, measures) -> list:
    """Return the table of runs against the reference, with the paper's gains where a run is one of its variants, and in words what differs."""
    paper, rows = read_paper(), []
    for run, label in zip(runs, labels, strict=True):
        told = paper_variant(run, paper)
        cells = [gain_cell(measure, run, runs[at], paper_gain(told, measure.paper_key, paper)) for measure in measures]
        rows.append([label, percent(code_share(run), 0), *cells])
    caption = f"Below each value: its relative change from {labels[at]}, or that the two cannot be told apart; {STAGE_NOTE}."
    return [
        Table(headings=["run", "code", *(m.label for m in measures)], rows=rows, caption=caption),
        Bullets(in_words(runs, labels, at, measures)),
    ]


def paper_gain(row: dict | None, key: str | None, paper: dict) -> str:
    """Return the paper's gain of a variant over text-only, empty where it has none."""
    if row is None or key is None or row["against"] is None:
        return ""
    return relative(row[key], paper["variants"][row["against"]][key])


def gain_cell(measure: Measure, run: RunData, base: RunData, paper: str = "") -> Cell:
    """Return a value, and its change from the reference."""
    value, error = measure.value(run)
    if value is None:
        return Cell(ABSENT, tone="quiet")
    text = f"{value:.3f}" + (f" ± {error:.3f}" if error is not None and not math.isnan(error) else "")
    beside = f" (paper {paper})" if paper else ""
    if run is base:
        return Cell(text, below="reference")
    difference = measure.difference(run, base)
    if difference is None:
        return Cell(text, below=f"not comparable{beside}")
    if not difference.is_distinguishable:
        return Cell(text, below=f"{NOT_DISTINGUISHABLE}{beside}")
    better = (difference.value > 0) == measure.higher_is_better
    return Cell(text, below=f"{relative(value, value - difference.value)}{beside}", tone="good" if better else "bad")


def in_words(runs, labels, at: int, measures) -> list[str]:
    """Say for each measure which runs are better, worse, and not told apart from the reference."""
    lines = []
    for measure in measures:
        groups: dict[str, list[str]] = {"better": [], "worse": [], NOT_DISTINGUISHABLE: []}
        for run, label in zip(runs, labels, strict=True):
            difference = measure.difference(run, runs[at]) if run is not runs[at] else None
            if difference is not None:
                groups[verdict(difference, measure.higher_is_better)].append(label)
        said = [f"{words}: {join_words(names)}" for words, names in groups.items() if names]
        if said:
            lines.append(f"{measure.label}, against {labels[at]}: {'; '.join(said)}.")
    return lines


def verdict(difference: Difference, higher_is_better: bool) -> str:
    """Return better, worse or not distinguishable."""
    if not difference.is_distinguishable:
        return NOT_DISTINGUISHABLE
    return "better" if (difference.value > 0) == higher_is_better else "worse"


def sweep_table(sweep, names, measures) -> Table:
    """Return the sweep's values against the run with the least code."""
    rows = [[names[id(run)], percent(code_share(run), 0), *(gain_cell(m, run, sweep[0]) for m in measures)] for run in sweep]
    caption = "One run per share of code. Below: change from the run with the least code, on the items both have answered."
    return Table(headings=["run", "code", *(m.label for m in measures)], rows=rows, caption=caption)


def cooldown_blocks(cooled, names, measures) -> list:
    """Return what each run changed from the one it started from, and the paper's cooldown arms."""
    rows = []
    for run, parent in cooled:
        rows.append([names[id(run)], names[id(parent)], *(change_cell(m.difference(run, parent), m) for m in measures)])
    paper = read_paper()
    arms = [[arm["arm"], *(f"{arm[key]:.1f}" for key in PAPER_KEYS.values())] for arm in paper["cooldown"]]
    headings, caption = ["run", "started from", *(m.label for m in measures)], "Change from the parent run, ± one standard error."
    return [
        Table(headings=headings, rows=rows, caption=caption, left=(0, 1)),
        Table(headings=["the paper's cooldown", *PAPER_KEYS], rows=arms, caption=f"{paper['source']}, {paper['cooldown_from']}."),
    ]


def change_cell(difference: Difference | None, measure: Measure) -> Cell:
    """Return a change with its error."""
    if difference is None:
        return Cell(ABSENT, tone="quiet")
    text = signed(difference.value) + (f" ± {difference.standard_error:.3f}" if difference.standard_error is not None else "")
    words = verdict(difference, measure.higher_is_better)
    return Cell(text, below=words, tone={"better": "good", "worse": "bad"}.get(words, "quiet"))


def seed_blocks(groups, names, measures) -> list:
    """Return mean and spread over seeds."""
    rows = []
    for group in groups:
        cells = []
        for measure in measures:
            spread = spread_over_seeds([value for run in group if (value := measure.value(run)[0]) is not None])
            cells.append(
                Cell(ABSENT, tone="quiet")
                if spread is None
                else Cell(f"{spread.mean:.3f}", below=f"± {spread.deviation:.3f} over {spread.seeds} seeds")
            )
        rows.append([join_words(names[id(run)] for run in group), *cells])
    caption = "Runs whose recipes differ in the seed alone: mean, and standard deviation over seeds. A difference between variants smaller than this is noise."
    return [Table(headings=["runs", *(m.label for m in measures)], rows=rows, caption=caption)]


def cost_blocks(runs, labels) -> list:
    """Return what each run took, and what the paper's took."""
    rows = []
    for run, label in zip(runs, labels, strict=True):
        seconds, per_token = training_seconds(run), (run.plan or {}).get("flops", {}).get("per_token")
        ranks = (run.environment or {}).get("ranks") or 1
        speed = run.tokens / seconds if seconds else None
        flops = "" if not (speed and per_token) else flops_per_second(speed * per_token)
        rows.append(
            [
                label,
                short_count(run.parameters),
                short_count(run.tokens),
                duration(seconds),
                f"{seconds * ranks / 3600:.2f}",
                short_count(speed),
                flops,
            ]
        )
    headings = ["run", "parameters", "tokens", "in training steps", "rank hours", "tokens/s", "model FLOP/s"]
    paper = read_paper()
    there = "; ".join(f"{entry['run']}: {count(entry['chip_hours'])}" for entry in paper["cost"])
    if not any(run.steps for run in runs):
        return [Missing("No run has trained yet.")]
    return [
        Table(headings=headings, rows=rows, caption="Ranks as started, so of training in steps only."),
        Paragraph(f"The paper's, in {paper['cost_from']}: {there}.", "quiet"),
    ]
