"""What a study says about code: variants, the share of code, kinds of code, cooldowns, seeds, cost. Everything is judged over runs."""

from itertools import groupby

from codemix_megatron.report.answers import answer_blocks
from codemix_megatron.report.arms import Arm
from codemix_megatron.report.base_models import base_sections
from codemix_megatron.report.blocks import Bullets, Cell, Missing, Paragraph, Section, Table
from codemix_megatron.report.compute_gains import compute_gain_sections
from codemix_megatron.report.decision import Judged, decision_lines, decision_sections, judge_choices
from codemix_megatron.report.languages import language_sections
from codemix_megatron.report.measures import task_measures
from codemix_megatron.report.paper import PAPER_COLUMNS, read_paper
from codemix_megatron.report.paper_gains import gain_blocks
from codemix_megatron.report.roles import parent_of
from codemix_megatron.report.scales import find_scales, scale_sections, scale_sentences
from codemix_megatron.report.seeds import seed_sections
from codemix_megatron.report.signal import order_by_signal, signal_sections
from codemix_megatron.report.study_figures import forest_figure, quality_figure, sweep_figure
from codemix_megatron.report.study_tables import arm_name, effect_cell, effect_table, reading_aid
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.sweeps import find_kinds, find_sweeps
from codemix_megatron.report.training_curves import training_seconds
from codemix_megatron.report.verdicts import judge
from codemix_megatron.report.wording import count, distinct_percents, duration, flops_per_second, join_words, plural, short_count

__all__ = ["study_sections", "variant_blocks"]


def study_sections(view: StudyView) -> list[Section]:
    """Return the sections that these arms have something to say for."""
    sections = []
    if view.measures:
        judged = judge_choices(view)
        sections.append(Section(title="What can be said", anchor="answers", blocks=first_screen(view, judged)))
        sections += decision_sections(judged, view)
        sections.append(Section(title="Variants", anchor="variants", blocks=variant_blocks(view)))
        sections += base_sections(view)
        sections += sweep_sections(view)
        sections += kind_sections(view)
        sections += cooldown_sections(view)
        sections += scale_sections(view)
        sections += language_sections(view)
        sections += compute_gain_sections(view.runs, view.measures)
        sections += seed_sections(view.arms, view.measures)
        sections += signal_sections([*view.measures, *order_by_signal(task_measures(view.runs), view.arms)], view.arms)
    return [*sections, Section(title="Cost", anchor="cost", blocks=cost_blocks(view.arms))]


def first_screen(view: StudyView, judged: Judged) -> list:
    """Return what can be said: sentences against the reference, on shares and kinds of code, on sizes; then all effects as a forest plot."""
    lines = [*decision_lines(judged, view), *scale_sentences(find_scales(view), view)]
    has_effects = any(verdict.effect.low is not None for verdict in view.verdicts.values())
    return [*answer_blocks(view), *([Bullets(lines)] if lines else []), *([forest_figure(view)] if has_effects else [])]


def variant_blocks(view: StudyView) -> list:
    """Return a table for each reference, and what has none."""
    blocks: list = []
    for base in dict.fromkeys(base for _, base in view.pairs):
        chosen = [i for i, (_, other) in enumerate(view.pairs) if other is base]
        arms = [view.pairs[i][0] for i in chosen]
        verdicts = {
            (row, j): view.verdicts[i, j] for row, i in enumerate(chosen) for j in range(len(view.measures)) if (i, j) in view.verdicts
        }
        runs = plural(base.seeds, "seed") if base.seeds > 1 else "one run"
        blocks.append(Paragraph(f"Against {base.label} ({runs}, {short_count(base.tokens)} tokens):"))
        blocks.append(effect_table(arms, base, view.measures, verdicts, reading_aid(view.verdicts), view.grey))
    if view.alone:
        names = join_words(arm.label for arm in view.alone)
        blocks.append(
            Paragraph(
                f"No variant without code stands at the same point of the other axes as {names}: nothing is compared there.", "warning"
            )
        )
        blocks.append(effect_table(view.alone, None, view.measures, {}, "Mean ± standard deviation over seeds."))
    for label, tasks in view.left_out.items():
        without = f"left out: {join_words(tasks)}" if tasks else "no task is left out"
        blocks.append(Paragraph(f"{label}: the paper's filter keeps tasks that every run here is above chance in; {without}.", "quiet"))
    return [*blocks, *gain_blocks(view)]


def sweep_sections(view: StudyView) -> list[Section]:
    """Return the share of code in each phase where it varies over at least three shares: a line for each size and token budget."""
    sweeps, blocks = find_sweeps(view.arms, fewest=3), []
    for (phase_index, num_phases), group in groupby(sweeps, key=lambda sweep: (sweep.phase_index, sweep.num_phases)):
        lines = list(group)
        blocks.append(sweep_figure(lines, view.measures, read_paper() if num_phases == 1 else None, f"{phase_index + 1}-of-{num_phases}"))
    return [Section(title="Share of code", anchor="sweep", blocks=blocks)] if blocks else []


def kind_sections(view: StudyView) -> list[Section]:
    """Return kinds of code beside each other."""
    kinds = find_kinds(view.arms)
    blocks = [quality_figure(arms, view.measures, read_paper(), str(i)) for i, arms in enumerate(kinds)]
    return [Section(title="Kind of code", anchor="quality", blocks=blocks)] if blocks else []


def cooldown_sections(view: StudyView) -> list[Section]:
    """Return what each arm changed from the one it went on from, and the paper's cooldown."""
    owner = {id(run): arm for arm in view.arms for run in arm.runs}
    pairs = [(arm, owner[id(parent)]) for arm in view.arms if (parent := parent_of(arm.first, view.runs)) is not None]
    pairs = [(arm, parent) for arm, parent in pairs if parent is not arm]
    if not pairs:
        return []
    verdicts = judge(pairs, view.measures, view.arms, view.lend, same_budget=False)
    rows = []
    for i, (arm, from_arm) in enumerate(pairs):
        cells = [effect_cell(measure, arm, verdicts.get((i, j)), False) for j, measure in enumerate(view.measures)]
        rows.append([arm_name(arm), from_arm.label, *cells])
    paper = read_paper()
    arms = [[arm["arm"], *(f"{arm[key]:.1f}" for key in PAPER_COLUMNS)] for arm in paper["cooldown"]]
    headings = ["variant", "went on from", *(measure.label for measure in view.measures)]
    caption = f"What training on changed: the reference is the run it went on from, which has fewer tokens. {reading_aid(verdicts)}"
    blocks = [
        Table(headings=headings, rows=rows, caption=caption, left=(0, 1)),
        Table(
            headings=["the paper's cooldown", *PAPER_COLUMNS.values()], rows=arms, caption=f"{paper['source']}, {paper['cooldown_from']}."
        ),
    ]
    lines = [cooldown_line(sweep, view) for sweep in find_sweeps(view.arms) if sweep.num_phases > 1]
    return [Section(title="Cooldowns and continued runs", anchor="cooldown", blocks=[*([Bullets(lines)] if lines else []), *blocks])]


def cooldown_line(sweep, view: StudyView) -> str:
    """Say which arms differ in one phase alone."""
    shares = distinct_percents(sweep.shares)
    arms = join_words(f"{arm.label} ({share})" for share, arm in zip(shares, sweep.arms, strict=True))
    return f"Code {sweep.where}, all else alike: {arms}."


def cost_blocks(arms: list[Arm]) -> list:
    """Return what each run took, and what the paper's took."""
    if not any(run.steps for arm in arms for run in arm.runs):
        return [Missing("No run has trained yet.")]
    rows = [cost_row(arm) for arm in arms]
    headings = ["variant", "parameters", "tokens of a run", "in training steps", "rank hours", "tokens/s", "model FLOP/s"]
    paper = read_paper()
    there = "; ".join(f"{entry['run']}: {count(entry['chip_hours'])}" for entry in paper["cost"])
    return [
        Table(headings=headings, rows=rows, caption="All seeds together. Ranks as started, so of training in steps only."),
        Paragraph(f"The paper's, in {paper['cost_from']}: {there}.", "quiet"),
    ]


def cost_row(arm: Arm) -> list:
    """Return what all seeds of an arm took."""
    seconds = [training_seconds(run) for run in arm.runs]
    ranks = [(run.environment or {}).get("ranks") or 1 for run in arm.runs]
    # What a parent trained is not among this run's seconds, nor are its tokens.
    tokens, per_token = sum(run.tokens - run.first_token for run in arm.runs), (arm.first.plan or {}).get("flops", {}).get("per_token")
    speed = tokens / sum(seconds) if sum(seconds) else None
    hours = sum(each * of for each, of in zip(seconds, ranks, strict=True)) / 3600
    flops = flops_per_second(speed * per_token) if speed and per_token else ""
    name = Cell(arm.label, below=plural(arm.seeds, "seed")) if arm.seeds > 1 else arm.label
    return [
        name,
        short_count(arm.parameters),
        short_count(arm.first.tokens),
        duration(sum(seconds)),
        f"{hours:.2f}",
        short_count(speed),
        flops,
    ]
