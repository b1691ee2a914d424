"""What the report of one run says, section by section; numbers come from the records and nowhere else."""

from collections import Counter

from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import CheckpointEvent
from codemix_megatron.records.run_folder import saved_step, step_of
from codemix_megatron.report.blocks import Bullets, Cards, Cell, Details, Missing, Paragraph, Report, Section, Table
from codemix_megatron.report.consumption import SourceUse, use_of_sources
from codemix_megatron.report.figures import held_out_figure, loss_figure, mixture_figure, tasks_figure
from codemix_megatron.report.headline import describe_lead, headline_cards
from codemix_megatron.report.held_out import phase_changes, series
from codemix_megatron.report.paper import paper_blocks
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.scores_while_training import score_curves_blocks
from codemix_megatron.report.training_curves import find_interruptions, read_status, started_at
from codemix_megatron.report.win_rates import win_rate_sections
from codemix_megatron.report.wording import ABSENT, count, duration, percent, plural, short_count, signed, size

__all__ = ["describe_run"]

CHANCE = (
    "Chance is the larger of guessing and of the most frequent class as the answer to all items; right and wrong answers are held against it"
    " by the exact binomial test."
)
MOST_ROWS = 40  # of a table shown at once
NOISE = (
    "Standard errors are over documents and items: they do not cover what another seed would change."
    " Bits per byte here are over whole held-out documents, those drawn while training over a part of them, so the two differ."
)


def describe_run(run: RunData) -> Report:
    """Return the report of one run."""
    status = read_status(run)
    return Report(
        title=run.name,
        eyebrow="What did code do to everything else?",
        lead=describe_lead(run),
        status=status.text,
        status_tone=status.tone,
        date=started_at(run),
        cards=Cards(headline_cards(run)),
        sections=[
            Section(title="Mixture", anchor="mixture", blocks=mixture_blocks(run)),
            Section(title="Loss", anchor="loss", blocks=loss_blocks(run)),
            Section(title="Scores", anchor="scores", blocks=score_blocks(run)),
            *win_rate_sections([run]),
            Section(title="Beside the paper", anchor="paper", blocks=paper_blocks()),
            Section(title="How it was made", anchor="how", blocks=how_blocks(run)),
        ],
    )


def mixture_blocks(run: RunData) -> list:
    """Return the mixture figure and the table of planned and realised tokens."""
    blocks: list = []
    if run.steps:
        blocks.append(mixture_figure(run))
    else:
        blocks.append(Missing("No step has been made yet.", f"codemix train {run.shown_path}/recipe.yaml --folder {run.shown_path}"))
    if not run.plan:
        blocks.append(
            Missing("There is no plan.json to compare with.", f"codemix train {run.shown_path}/recipe.yaml --folder {run.shown_path}")
        )
    uses = use_of_sources(run)
    return [*blocks, *summary(uses), ledger(uses)] if uses else blocks


def summary(uses: list[SourceUse]) -> list[Paragraph]:
    """Say in a sentence whether the finished phases took what was planned."""
    over = [use for use in uses if use.finished and use.difference_sequences is not None]
    wrong = [use for use in over if use.difference_sequences]
    if not over:
        return []
    if not wrong:
        return [Paragraph("Every finished phase consumed exactly the tokens planned of every source.")]
    worst = max(wrong, key=lambda use: abs(use.difference_sequences or 0))
    said = f"Not all was consumed as planned: of {worst.source} in {worst.phase}, {count(worst.realised_tokens)} tokens"
    return [Paragraph(f"{said} instead of {count(worst.planned_tokens)}.", "warning")]


def ledger(uses: list[SourceUse]) -> Table:
    """Return planned and realised tokens of every source in every phase."""
    rows: list[list] = []
    groups: list[int] = []
    phase = None
    for use in uses:
        begins, phase = use.phase != phase, use.phase
        groups += [len(rows)] if begins else []
        name = Cell(use.phase, below="so far" if use.realised_share is not None and not use.finished else "") if begins else ""
        begun = use.realised_share is not None
        rows.append(
            [
                name,
                use.source,
                percent(use.planned_share),
                count(use.planned_tokens),
                count(use.realised_tokens) if begun else ABSENT,
                difference_cell(use),
                percent(use.realised_share),
                ABSENT if use.epochs is None or not begun else f"{use.epochs:.2f}",
            ]
        )
    caption = (
        "Tokens planned and consumed, their difference, the share that was consumed, and passes over the source from the start of the run"
        " to the end of the phase. A phase under way is held against its planned shares of what it has consumed."
    )
    headings = ["phase", "source", "share", "planned", "consumed", "difference", "share consumed", "epochs"]
    folded = f"All {len(rows)} rows: planned and consumed" if len(rows) > MOST_ROWS else ""
    return Table(headings=headings, rows=rows, caption=caption, left=(0, 1), group_starts=tuple(groups), folded=folded)


def difference_cell(use: SourceUse) -> Cell:
    """Return how far a source is from its plan: in tokens where the phase is over, in sequences before."""
    if use.difference_sequences is None:
        return Cell(ABSENT, tone="quiet")
    sequences = use.difference_sequences
    if not use.finished:
        return Cell(f"{signed(sequences, 1)} sequences", tone="quiet")
    if sequences == 0:
        return Cell("exact", tone="good")
    return Cell(signed(use.realised_tokens - (use.planned_tokens or 0), 0), below=f"{signed(sequences, 1)} sequences", tone="bad")


def loss_blocks(run: RunData) -> list:
    """Return the loss and held-out figures, and what each phase changed."""
    blocks = [loss_figure(run)] if run.steps else [Missing("No step has been made yet.")]
    if not run.validations:
        return [*blocks, Missing("No held-out loss was measured; set evaluation.every_steps.")]
    changes = changes_table(run)
    return [*blocks, held_out_figure(run), *([changes] if changes.rows else []), *score_curves_blocks(run)]


def changes_table(run: RunData) -> Table:
    """Return held-out bits per byte at the end of each phase, and what the phase changed."""
    sources = [source for source in run.sources if series(run, source)[0]]
    by_source = {source: {change.phase: change for change in phase_changes(run, source)} for source in sources}
    phases = [name for name in run.phase_names if any(name in changes for changes in by_source.values())]
    rows = []
    first = run.validations[0]
    if not first.tokens:
        rows.append(["before training", "0", *(bits_cell(first.bits_per_byte.get(source)) for source in sources)])
    for phase in phases:
        found = [by_source[source].get(phase) for source in sources]
        tokens = max(change.tokens for change in found if change)
        rows.append([phase, short_count(tokens), *(bits_cell(c.value, c.before) if c else bits_cell(None) for c in found)])
    caption = "Held-out bits per byte as last measured in each phase; below, the change since the phase began. Lower is better."
    return Table(headings=["after", "tokens", *sources], rows=rows, caption=caption)


def bits_cell(value: float | None, before: float | None = None) -> Cell:
    """Return bits per byte and its change, green where it fell."""
    if value is None:
        return Cell(ABSENT, tone="quiet")
    if before is None:
        return Cell(f"{value:.3f}")
    change = value - before
    return Cell(f"{value:.3f}", below=signed(change), tone="good" if change < 0 else "bad" if change > 0 else "")


def score_blocks(run: RunData) -> list:
    """Return the scores of the newest export, and how they moved where several were scored."""
    if not run.scores:
        command = (
            f"codemix evaluate {run.shown_path}" if run.export else f"codemix export {run.shown_path} && codemix evaluate {run.shown_path}"
        )
        return [Missing("Nothing has been scored yet.", command)]
    newest = run.scores[-1]
    blocks: list = []
    if newest.step < run.last_step:
        old = f"Scored at step {count(newest.step)}; training has gone on to step {count(run.last_step)}."
        blocks.append(Missing(old, f"codemix export {run.shown_path} && codemix evaluate {run.shown_path}"))
    if newest.bits_per_byte:
        rows = [
            [b.corpus, f"{b.value:.4f}", f"{b.standard_error:.4f}", count(b.documents), count(b.tokens), count(b.bytes)]
            for b in newest.bits_per_byte
        ]
        headings = ["corpus", "bits per byte", "standard error", "documents", "tokens", "bytes"]
        blocks.append(Table(headings=headings, rows=rows, caption="Held-out documents through the exported model."))
    if newest.tasks:
        headings = ["task", "metric", "score", "standard error", "chance", "items", "against chance"]
        rows = [task_row(t) for t in newest.tasks]
        blocks += [tasks_figure(run), Table(headings=headings, rows=rows, caption=CHANCE, left=(0, 1, 6))]
    if newest.aggregates:
        blocks.append(aggregates_table(newest.aggregates))
    if any(task.contaminated is not None for task in newest.tasks):
        blocks.append(overlap_table([task for task in newest.tasks if task.contaminated is not None and task.is_main]))
    if len(run.scores) > 1:
        blocks.append(scores_along(run))
    return [*blocks, Paragraph(NOISE, "quiet")]


def aggregates_table(means) -> Table:
    """Return the means of suites, and what is missing in them."""
    rows = [
        [
            a.suite,
            a.name.replace("_", " "),
            f"{a.value:.3f}",
            ABSENT if a.standard_error is None else f"{a.standard_error:.3f}",
            ", ".join(a.missing),
        ]
        for a in means
    ]
    return Table(headings=["suite", "mean", "value", "standard error", "without"], rows=rows, caption="Means over tasks.", left=(0, 1, 4))


def overlap_table(tasks) -> Table:
    """Return how many items overlap the training corpora, and the scores without them."""
    rows = []
    for task in tasks:
        clean = ABSENT if task.clean_value is None else f"{task.clean_value:.3f}"
        error = "" if task.clean_standard_error is None else f"± {task.clean_standard_error:.3f}"
        rows.append(
            [task.task, task.metric, f"{count(task.contaminated)} of {count(task.items)}", f"{task.value:.3f}", Cell(clean, below=error)]
        )
    caption = "Items that share a 13-gram with a training document, and scores with and without them."
    return Table(headings=["task", "metric", "overlapping", "all items", "without them"], rows=rows, caption=caption, left=(0, 1))


def task_row(task) -> list:
    """Return one row of the task table."""
    error = ABSENT if task.standard_error is None else f"{task.standard_error:.3f}"
    chance = ABSENT if task.floor is None else f"{task.floor:.3f}"
    items = Cell(count(task.items), below=f"{count(task.cut)} prompts cut" if task.cut else "")
    against = Cell(task.against_chance, tone="good" if task.against_chance == "above chance" else "quiet")
    return [task.task, task.metric, f"{task.value:.3f}", error, chance, items, against]


def scores_along(run: RunData) -> Table:
    """Return every score of every export that was scored, oldest first."""
    columns = []
    for scores in run.scores:
        values = {(b.corpus, "bits per byte"): (b.value, b.standard_error) for b in scores.bits_per_byte}
        columns.append(values | {(t.task, t.metric): (t.value, t.standard_error) for t in scores.tasks})
    rows = []
    for name in dict.fromkeys(key for values in columns for key in values):
        cells = [scored_cell(*values[name]) if name in values else Cell(ABSENT, tone="quiet") for values in columns]
        rows.append([*name, *cells])
    headings = ["score", "metric", *(f"step {count(scores.step)}" for scores in run.scores)]
    return Table(headings=headings, rows=rows, caption="Scores of all exports; below, one standard error.", left=(0, 1))


def scored_cell(value: float, error: float | None) -> Cell:
    """Return a score with its standard error."""
    return Cell(f"{value:.3f}", below="" if error is None else f"± {error:.3f}")


def how_blocks(run: RunData) -> list:
    """Return environment, history, checkpoints and recipe."""
    again = f"To see it again: `codemix train {run.shown_path}/recipe.yaml --folder runs/again`"
    lines = [*environment_lines(run), *checkpoint_lines(run), *history_lines(run), again]
    blocks = [] if run.environment else [Missing("There is no environment.json: versions and command of this run are not known.")]
    return [*blocks, Bullets(lines), Details("The resolved recipe", run.recipe_text)]


def environment_lines(run: RunData) -> list[str]:
    """Return command, code, machine, layout and versions."""
    environment, layout = run.environment or {}, (run.plan or {}).get("layout", {})
    lines = [f"Command: `{' '.join(environment['command'])}`"] if environment.get("command") else []
    git = environment.get("git") or {}
    if git.get("commit"):
        lines.append(f"Code: commit `{git['commit'][:12]}`{', with uncommitted changes' if git.get('dirty') else ''}")
    machine = environment.get("machine") or {}
    if machine:
        said = [plural(machine["cores"], "core")] if machine.get("cores") else []
        said += [f"{size(machine['memory_bytes'])} memory"] if machine.get("memory_bytes") else []
        lines.append("Machine: " + ", ".join([*said, *filter(None, [machine.get("platform")])]))
    if layout:
        lines.append("Layout: " + ", ".join(f"{kind.replace('_', ' ')} {number}" for kind, number in layout.items() if number))
    if environment.get("versions"):
        lines.append("Versions: " + ", ".join(f"{name} {version}" for name, version in environment["versions"].items()))
    return lines


def checkpoint_lines(run: RunData) -> list[str]:
    """Return which checkpoints and exports are kept, and what saving cost."""
    saves = of_kind(run.events, CheckpointEvent)
    lines = ["Checkpoints: steps " + ", ".join(count(step) for step in run.checkpoint_steps)] if run.checkpoint_steps else []
    if saves:
        seconds, largest = sum(save.seconds for save in saves), max(save.bytes for save in saves)
        lines.append(f"Saved {plural(len(saves), 'time')}, {size(largest)} each, {duration(seconds / len(saves))} on average")
    exports = sorted(saved_step(p) for p in run.folder.exports.glob("step-*") if step_of(p) is not None and (p / "export.json").is_file())
    return [*lines, "Exports: steps " + ", ".join(map(count, exports))] if exports else lines


def history_lines(run: RunData) -> list[str]:
    """Return stops, resumes and other interruptions; many of a kind are counted."""
    marks = find_interruptions(run)
    if len(marks) > 40:
        kinds = Counter(mark.kind for mark in marks)
        names = {"stop": "recorded stop", "resume": "resume", "skipped": "skipped step", "rollback": "rollback", "straggler": "slow rank"}
        told = [plural(kinds[kind], name) for kind, name in names.items() if kinds[kind]]
        return [f"{', '.join(told)}; journal.jsonl lists each."]
    told = [f"Step {count(mark.step)}: {mark.text}" + (f" ({mark.at})" if mark.at else "") for mark in marks]
    return told or (["Never interrupted."] if run.steps else [])
