"""What a report says, section by section; numbers come from the records and nowhere else."""

import json
from importlib import resources

from codemix_megatron.records.run_folder import step_of
from codemix_megatron.report.blocks import Bullets, Card, Cards, Cell, Details, Missing, Paragraph, Report, Section, Table
from codemix_megatron.report.figures import compare_figure, held_out_figure, loss_figure, mixture_figure, tasks_figure
from codemix_megatron.report.progress import find_interruptions, read_status, started_at, training_seconds
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import (
    ABSENT,
    count,
    duration,
    flops_per_second,
    join_words,
    percent,
    plural,
    relative,
    short_count,
    signed,
    size,
)

__all__ = ["compare_runs", "describe_run"]


def describe_run(run: RunData) -> Report:
    """Return the report of one run."""
    status = read_status(run)
    return Report(
        title=run.name,
        eyebrow="What did code do to everything else?",
        lead=lead(run),
        status=status.text,
        status_tone=status.tone,
        date=started_at(run),
        cards=Cards(cards(run)),
        sections=[
            Section(title="Mixture", anchor="mixture", blocks=mixture_blocks(run)),
            Section(title="Loss", anchor="loss", blocks=loss_blocks(run)),
            Section(title="Scores", anchor="scores", blocks=score_blocks(run)),
            Section(title="Beside the paper", anchor="paper", blocks=paper_blocks()),
            Section(title="How it was made", anchor="how", blocks=how_blocks(run)),
        ],
    )


def lead(run: RunData) -> str:
    """Return one sentence of what was run."""
    plan, environment = run.plan or {}, run.environment or {}
    layout, machine = plan.get("layout", {}), environment.get("machine", {})
    where = {"cpu": "CPU", "cuda": "CUDA"}.get(machine.get("device"), "")
    spread = " x ".join(f"{kind} {layout[kind]}" for kind in ("tensor", "pipeline", "data") if layout.get(kind, 1) > 1) or "one rank"
    trained = f"{short_count(run.tokens)} tokens" if run.tokens else "no tokens yet"
    model = f"A model of {short_count(run.parameters)} parameters, " if run.parameters else "A model "
    phases = f" in {plural(len(run.phase_names), 'phase')} ({join_words(run.phase_names)})" if run.phase_names else ""
    took = f", {duration(training_seconds(run))} in training steps" if run.steps else ""
    return f"{model}trained on {trained}{phases}, spread over {spread}{f' on {where}' if where else ''}{took}."


def cards(run: RunData) -> list[Card]:
    """Return the headline numbers."""
    made = [bits_card(run, source) for source in run.sources[:4]]
    made.append(Card(label="tokens", value=short_count(run.tokens), note=f"{count(run.last_step)} of {count(run.planned_steps)} steps"))
    if run.steps:
        speed = run.tokens / max(1e-9, training_seconds(run))
        flops = (run.plan or {}).get("flops", {}).get("per_token")
        made.append(Card(label="speed", value=short_count(speed), unit="tokens/s", note=flops_per_second(speed * flops) if flops else ""))
    parity = (run.export or {}).get("parity")
    if parity:
        largest = parity["largest_logit_difference"]
        compared = f"{'bit for bit, ' if largest == 0 else ''}over {count(parity['tokens_compared'])} tokens"
        value = "0" if largest == 0 else f"{largest:.1e}"
        made.append(Card(label="export: logits differ by at most", value=value, note=compared))
    else:
        made.append(Card(label="export", value=ABSENT, note="none yet", present=False))
    return made


def bits_card(run: RunData, source: str) -> Card:
    """Return the newest held-out bits per byte of a source: of the export where it was scored, else of training."""
    trend = [e["bits_per_byte"][source] for e in run.validations if source in e["bits_per_byte"]]
    scored = next((b for b in run.scores[-1].bits_per_byte if b.corpus == source), None) if run.scores else None
    if scored is None and not trend:
        return Card(label=f"{source}, bits per byte", value=ABSENT, note="not scored yet", present=False)
    value = scored.value if scored else trend[-1]
    note = f"± {scored.standard_error:.3f} over {plural(scored.documents, 'document')}" if scored else "estimated while training"
    if len(trend) > 1:
        note += f"; {relative(trend[-1], trend[0])} since the start"
    return Card(label=f"{source}, bits per byte", value=f"{value:.3f}", note=note, trend=tuple(trend))


def mixture_blocks(run: RunData) -> list:
    """Return the mixture figure and the table of planned and realised tokens."""
    if not run.steps:
        return [Missing("No step has been made yet.", f"codemix train {run.place}/recipe.yaml --folder {run.place}")]
    blocks = [mixture_figure(run)]
    if run.plan:
        blocks.append(ledger(run))
    return blocks


def ledger(run: RunData) -> Table:
    """Return planned and realised tokens of every source in every phase."""
    rows, groups = [], []
    for phase in run.plan["phases"]:
        realised = realised_in(run, phase)
        groups.append(len(rows))
        for i, (source, planned) in enumerate(phase["sources"].items()):
            done = realised.get(source)
            difference = None if done is None else done - planned["tokens"]
            tone = "quiet" if difference is None else "good" if difference == 0 else "bad"
            rows.append(
                [
                    phase["name"] if i == 0 else "",
                    source,
                    percent(planned["share"]),
                    count(planned["tokens"]),
                    count(done),
                    Cell("exact" if difference == 0 else ABSENT if difference is None else signed(difference, 0), tone=tone),
                    f"{planned['epochs_after']:.2f}",
                ]
            )
    caption = "Tokens planned and consumed; epochs are those of the whole run up to the end of the phase."
    headings = ["phase", "source", "share", "planned", "consumed", "difference", "epochs"]
    return Table(headings=headings, rows=rows, caption=caption, left=(0, 1), group_starts=tuple(groups))


def realised_in(run: RunData, phase: dict) -> dict[str, int]:
    """Return the tokens of each source consumed in a phase that has ended; empty before that."""
    last = phase["first_step"] + phase["steps"] - 1
    at = {e["step"]: e["tokens_per_source"] for e in run.steps if e["step"] in (phase["first_step"] - 1, last)}
    if last not in at:
        return {}
    before = at.get(phase["first_step"] - 1, {})
    return {source: tokens - before.get(source, 0) for source, tokens in at[last].items()}


def loss_blocks(run: RunData) -> list:
    """Return the loss and held-out figures."""
    blocks = [loss_figure(run)] if run.steps else [Missing("No step has been made yet.")]
    blocks.append(held_out_figure(run) if run.validations else Missing("No held-out loss was measured; set evaluation.every_steps."))
    return blocks


def score_blocks(run: RunData) -> list:
    """Return the scores of the newest export."""
    if not run.scores:
        command = f"codemix evaluate {run.place}" if run.export else f"codemix export {run.place} && codemix evaluate {run.place}"
        return [Missing("Nothing has been scored yet.", command)]
    newest = run.scores[-1]
    rows = [
        [b.corpus, f"{b.value:.4f}", f"{b.standard_error:.4f}", count(b.documents), count(b.tokens), count(b.bytes)]
        for b in newest.bits_per_byte
    ]
    headings = ["corpus", "bits per byte", "standard error", "documents", "tokens", "bytes"]
    blocks = [Table(headings=headings, rows=rows, caption="Held-out documents through the exported model.")] if rows else []
    if newest.tasks:
        headings = ["task", "metric", "score", "standard error", "guessing", "items", "against guessing"]
        blocks += [tasks_figure(run), Table(headings=headings, rows=[task_row(t) for t in newest.tasks], left=(0, 1, 6))]
    return blocks


def task_row(task) -> list:
    """Return one row of the task table."""
    error = ABSENT if task.standard_error is None else f"{task.standard_error:.3f}"
    chance = ABSENT if task.chance is None else f"{task.chance:.3f}"
    return [task.task, task.metric, f"{task.value:.3f}", error, chance, count(task.items), Cell(task.against_chance, tone="quiet")]


def paper_blocks() -> list:
    """Return the paper's reference table with gains over text-only."""
    paper = json.loads(resources.files("codemix_megatron.report").joinpath("paper.json").read_text(encoding="utf-8"))
    base = paper["variants"][0]
    rows, groups = [], []
    for i, line in enumerate(paper["variants"]):
        is_new = i == 0 or line["variant"] != paper["variants"][i - 1]["variant"]
        groups += [i] if is_new else []
        cells = [Cell(f"{line[k]:.1f}", below="" if i == 0 else relative(line[k], base[k])) for k in ("reason", "know", "code")]
        rows.append([line["variant"] if is_new else "", line["stage"], *cells])
    note = "For orientation, not for comparison: a small run is another model on other data, scored on other items."
    table = Table(
        headings=["variant", "stage", "reasoning", "knowledge", "code"],
        rows=rows,
        caption=f"{paper['source']}. {paper['models']}. Small figures: relative to text-only before its cooldown.",
        left=(0, 1),
        group_starts=tuple(groups),
    )
    return [Paragraph(note, "quiet"), table]


def how_blocks(run: RunData) -> list:
    """Return environment, history, checkpoints and recipe."""
    environment = run.environment or {}
    lines = []
    if environment.get("command"):
        lines.append(f"Command: `{' '.join(environment['command'])}`")
    git = environment.get("git")
    if git:
        lines.append(f"Code: commit `{git['commit'][:12]}`{', with uncommitted changes' if git.get('dirty') else ''}")
    machine = environment.get("machine", {})
    if machine:
        lines.append(f"Machine: {machine.get('cores')} cores, {size(machine.get('memory_bytes'))} memory, {machine.get('platform', '')}")
    if environment.get("versions"):
        lines.append("Versions: " + ", ".join(f"{name} {version}" for name, version in environment["versions"].items()))
    if run.checkpoint_steps:
        lines.append("Checkpoints: steps " + ", ".join(count(step) for step in run.checkpoint_steps))
    exports = [step_of(p) for p in sorted(run.folder.exports.glob("step-*")) if (p / "export.json").is_file()]
    if exports:
        lines.append("Exports: steps " + ", ".join(map(count, exports)))
    history = [f"Step {count(mark.step)}: {mark.text}" for mark in find_interruptions(run)] or ["Never interrupted."]
    again = f"To see it again: `codemix train {run.place}/recipe.yaml --folder runs/again`"
    return [Bullets([*lines, *history, again]), Details("The resolved recipe", run.recipe_text)]


def compare_runs(runs: list[RunData]) -> Report:
    """Return a report of several runs beside each other; the reference is the run named text-only, else the first."""
    reference = next((run for run in runs if run.name == "text-only"), runs[0])
    sources = list(dict.fromkeys(source for run in runs for source in run.sources))
    figures = [
        compare_figure(runs, source) for source in sources if any(source in e["bits_per_byte"] for run in runs for e in run.validations)
    ]
    blocks = [comparison_table(runs, reference, sources), *figures]
    return Report(
        title=f"{len(runs)} runs",
        eyebrow="What did code do to everything else?",
        lead=f"{join_words([run.name for run in runs])}; differences are relative to {reference.name}.",
        status="Comparison",
        status_tone="quiet",
        date=started_at(reference),
        sections=[
            Section(title="Scores", anchor="scores", blocks=blocks),
            Section(title="Beside the paper", anchor="paper", blocks=paper_blocks()),
        ],
    )


def comparison_table(runs: list[RunData], reference: RunData, sources: list[str]) -> Table:
    """Return bits per byte and task scores of each run, with the relative difference below."""
    columns = {f"{source}, bits per byte": lambda run, s=source: bits_of(run, s) for source in sources}
    names = dict.fromkeys((t.task, t.metric) for run in runs if run.scores for t in run.scores[-1].tasks)
    columns |= {f"{task} {metric}": lambda run, k=(task, metric): score_of(run, k) for task, metric in names}
    rows = []
    for run in runs:
        cells = []
        for value_of in columns.values():
            (value, error), (base, base_error) = value_of(run), value_of(reference)
            cells.append(compared_cell(value, error, base, base_error, run is reference))
        rows.append([run.name, short_count(run.tokens), *cells])
    caption = "Below each score: its difference from the reference, or that two standard errors of the difference cover it."
    return Table(headings=["run", "tokens", *columns], rows=rows, caption=caption)


def compared_cell(value, error, base, base_error, is_reference: bool) -> Cell:
    """Return a score with its relative difference from the reference."""
    if value is None:
        return Cell(ABSENT, tone="quiet")
    if is_reference or base is None:
        return Cell(f"{value:.3f}", below="reference" if is_reference else "")
    covered = error is not None and base_error is not None and abs(value - base) < 2 * (error**2 + base_error**2) ** 0.5
    return Cell(f"{value:.3f}", below="not distinguishable" if covered else relative(value, base))


def bits_of(run: RunData, source: str) -> tuple[float | None, float | None]:
    """Return held-out bits per byte and its standard error."""
    found = next((b for b in run.scores[-1].bits_per_byte if b.corpus == source), None) if run.scores else None
    return (found.value, found.standard_error) if found else (None, None)


def score_of(run: RunData, key: tuple[str, str]) -> tuple[float | None, float | None]:
    """Return one task's score and its standard error."""
    found = next((t for t in run.scores[-1].tasks if (t.task, t.metric) == key), None) if run.scores else None
    return (found.value, found.standard_error) if found else (None, None)
