"""What the report of several runs says: the same numbers side by side, and whether they may be compared."""

from functools import partial

from codemix_megatron.analysis.comparing import NOT_DISTINGUISHABLE, Difference
from codemix_megatron.recipe.schema import as_plain
from codemix_megatron.report.blocks import Bullets, Cell, Missing, Paragraph, Report, Section, Table
from codemix_megatron.report.chain import lineage_section
from codemix_megatron.report.comparison_figures import compare_bits_figure, compare_tasks_figure
from codemix_megatron.report.consumption import tokens_by_kind
from codemix_megatron.report.differences import difference_in_bits, difference_in_task, find_bits, find_task
from codemix_megatron.report.held_out import series
from codemix_megatron.report.paper import paper_blocks
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.study import study_sections
from codemix_megatron.report.training_curves import read_status, started_at
from codemix_megatron.report.win_rates import win_rate_sections
from codemix_megatron.report.wording import ABSENT, count, join_words, percent, relative, short_count

__all__ = ["compare_runs", "label_runs"]

TEXT_ONLY = ("text-only", "text_only")
NOT_SHOWN = ("name", "tokenizer.path", "corpora.*.prefix", "corpora.*.documents", "observers", "checkpoint", "parallel", "phases.*.name")
MOST_COLUMNS = 12
NOISE = (
    "`not distinguishable`: the 95 % interval of the difference holds zero. Where both runs' items are kept, the difference is taken item by item,"
    " else from standard errors as if the items were different ones. Neither covers what another seed would change."
)


def label_runs(runs: list[RunData]) -> list[str]:
    """Return a name for each run that no other one has."""
    names = [run.name for run in runs]
    folders = [run.folder.path.name for run in runs]
    places = folders if len(set(folders)) == len(folders) else [run.place for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({place})" for name, place in zip(names, places, strict=True)]


def compare_runs(runs: list[RunData]) -> Report:
    """Return a report of several runs beside each other; the reference is the run named text-only, else the first."""
    labels = label_runs(runs)
    at = next((i for i, run in enumerate(runs) if run.name in TEXT_ONLY), 0)
    unlike = unlike_lines(runs, labels, at)
    warning = [Paragraph("Not all of these runs are alike but for their mixture:", "warning"), Bullets(unlike)] if unlike else []
    return Report(
        title=f"{len(runs)} runs",
        eyebrow="What did code do to everything else?",
        lead=f"{join_words(labels)}; differences are relative to {labels[at]}.",
        status="Comparison",
        status_tone="quiet",
        date=started_at(runs[at]),
        sections=[
            *study_sections(runs, labels, at),
            *lineage_section(runs, labels),
            Section(title="Scores", anchor="scores", blocks=[*warning, *score_blocks(runs, labels, at)]),
            *win_rate_sections(runs),
            Section(title="While training", anchor="training", blocks=training_blocks(runs, labels, at)),
            Section(title="Mixtures", anchor="mixtures", blocks=[mixture_table(runs, labels), recipe_table(runs, labels)]),
            Section(title="Beside the paper", anchor="paper", blocks=paper_blocks()),
        ],
    )


def unlike_lines(runs: list[RunData], labels: list[str], at: int) -> list[str]:
    """Return what besides the mixture sets runs apart from the reference: size, tokens, being unfinished."""
    lines, base = [], runs[at]
    for run, label in zip(runs, labels, strict=True):
        if run.parameters and base.parameters and run.parameters != base.parameters:
            lines.append(f"{label} has {count(run.parameters)} parameters, {labels[at]} {count(base.parameters)}")
        if run.tokens != base.tokens:
            lines.append(f"{label} was trained on {count(run.tokens)} tokens, {labels[at]} on {count(base.tokens)}")
        if not read_status(run).finished:
            lines.append(f"{label}: {read_status(run).text[:1].lower()}{read_status(run).text[1:]}")
    return lines


def score_blocks(runs: list[RunData], labels: list[str], at: int) -> list:
    """Return the table of scores, its figure, and what is not scored yet."""
    missing = [Missing(f"{label} has not been scored.", commands(run)) for run, label in zip(runs, labels, strict=True) if not run.scores]
    sources = [s for s in all_sources(runs) if any(find_bits(run, s) for run in runs)]
    columns = {
        f"{source}, bits per byte": (partial(find_bits, source=source), partial(difference_in_bits, source=source)) for source in sources
    }
    names = dict.fromkeys((t.task, t.metric) for run in runs if run.scores for t in run.scores[-1].tasks)
    columns |= {
        f"{task} {metric}": (partial(find_task, key=(task, metric)), partial(difference_in_task, key=(task, metric)))
        for task, metric in names
    }
    if not columns:
        return missing
    rows = []
    for run, label in zip(runs, labels, strict=True):
        rows.append([label, short_count(run.tokens), *(score_cell(run, runs[at], *column) for column in columns.values())])
    caption = "Exported models. Below each score: its difference from the reference."
    folded = f"All {len(columns)} scores of every run" if len(columns) > MOST_COLUMNS else ""
    table = Table(headings=["run", "tokens", *columns], rows=rows, caption=caption, folded=folded)
    main = dict.fromkeys((t.task, t.metric) for run in runs if run.scores for t in run.scores[-1].tasks if t.is_main)
    figure = [compare_tasks_figure(runs, labels, list(main))] if main else []
    return [*missing, table, *figure, Paragraph(NOISE, "quiet")]


def score_cell(run: RunData, base: RunData, find, differ) -> Cell:
    """Return one score of one run beside the reference."""
    ours, theirs = find(run), find(base)
    difference = None if run is base else differ(run, base)
    return compared_cell(ours and ours.value, theirs and theirs.value, difference, run is base)


def commands(run: RunData) -> str:
    """Return what scores a run."""
    return f"codemix evaluate {run.place}" if run.export else f"codemix export {run.place} && codemix evaluate {run.place}"


def all_sources(runs: list[RunData]) -> list[str]:
    """Return the sources of all runs, each once."""
    return list(dict.fromkeys(source for run in runs for source in run.sources))


def compared_cell(value, base, difference: Difference | None, is_reference: bool) -> Cell:
    """Return a score with its relative difference from the reference; `difference` is None where no error is known."""
    if value is None:
        return Cell(ABSENT, tone="quiet")
    if is_reference or base is None:
        return Cell(f"{value:.3f}", below="reference" if is_reference else "")
    covered = difference is not None and difference.low is not None and not difference.is_distinguishable
    return Cell(f"{value:.3f}", below=NOT_DISTINGUISHABLE if covered else relative(value, base))


def training_blocks(runs: list[RunData], labels: list[str], at: int) -> list:
    """Return held-out curves over tokens of every source, and where they end."""
    sources = [source for source in all_sources(runs) if any(series(run, source)[0] for run in runs)]
    if not sources:
        return [Missing("No held-out loss was measured; set evaluation.every_steps.")]
    rows = []
    for run, label in zip(runs, labels, strict=True):
        ends = [(last_of(run, source), last_of(runs[at], source)) for source in sources]
        rows.append([label, short_count(run.tokens), *(compared_cell(value, base, None, run is runs[at]) for value, base in ends)])
    caption = "Held-out bits per byte as last measured while training. One run each: no standard error is known here."
    table = Table(headings=["run", "tokens", *sources], rows=rows, caption=caption)
    return [*(compare_bits_figure(runs, labels, source) for source in sources), table]


def last_of(run: RunData, source: str) -> float | None:
    """Return the last held-out bits per byte of a source."""
    values = series(run, source)[1]
    return values[-1] if values else None


def mixture_table(runs: list[RunData], labels: list[str]) -> Table:
    """Return what each run has consumed, by kind."""
    consumed = [tokens_by_kind(run) for run in runs]
    kinds = list(dict.fromkeys(kind for counts in consumed for kind in counts))
    rows = []
    for run, label, counts in zip(runs, labels, consumed, strict=True):
        total = sum(counts.values())
        shares = [Cell(count(counts.get(k, 0)), below=percent(counts.get(k, 0) / total) if total else "") for k in kinds]
        phases = ", ".join(run.phase_names)
        rows.append([label, phases, short_count(run.parameters), count(run.last_step), *shares])
    headings = ["run", "phases", "parameters", "steps", *(kind.replace("_", " ") for kind in kinds)]
    return Table(headings=headings, rows=rows, caption="Tokens consumed, by kind of source.", left=(0, 1))


def recipe_table(runs: list[RunData], labels: list[str]) -> Table | Paragraph:
    """Return the recipe keys in which the runs differ; names, paths, layout and saving are left out."""
    known = [(label, flatten(as_plain(run.recipe))) for run, label in zip(runs, labels, strict=True) if run.recipe]
    keys = list(dict.fromkeys(key for _, values in known for key in values))
    differing = [key for key in keys if not is_left_out(key, known) and len({str(values.get(key)) for _, values in known}) > 1]
    if not differing:
        return Paragraph("The recipes differ in names, paths, layout or saving at most.", "quiet")
    rows = [[key, *(str(values.get(key, ABSENT)) for _, values in known)] for key in differing]
    caption = "Recipe keys in which the runs differ; names, paths, layout and saving are left out."
    return Table(headings=["key", *(label for label, _ in known)], rows=rows, caption=caption)


def is_left_out(key: str, known: list[tuple[str, dict]]) -> bool:
    """Say whether a key cannot change what a model learns, or tells more than tokens and mixture of a phase not all runs have."""
    parts = key.split(".")
    if parts[0] == "phases" and parts[2] not in ("tokens", "mixture"):
        phase = f"phases.{parts[1]}.tokens"
        if not all(phase in values for _, values in known):
            return True
    patterns = [pattern.split(".") for pattern in NOT_SHOWN]
    return any(len(wanted) <= len(parts) and all(w in ("*", p) for w, p in zip(wanted, parts, strict=False)) for wanted in patterns)


def flatten(value, path: str = "") -> dict:
    """Return dotted key -> value of nested dicts and lists; phases go by their names, short lists stay whole."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = ((entry.get("name", i), entry) for i, entry in enumerate(value))
    else:
        return {path: value}
    return {key: leaf for name, entry in items for key, leaf in flatten(entry, f"{path}.{name}" if path else str(name)).items()}
