"""What the report of several runs says: the same numbers side by side, and whether they may be compared."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from codemix_megatron.recipe.schema import as_plain
from codemix_megatron.report.arms import group_arms, label_runs
from codemix_megatron.report.blocks import Bullets, Cell, Missing, Paragraph, Report, Section, Table
from codemix_megatron.report.chain import lineage_section
from codemix_megatron.report.choices import Choices
from codemix_megatron.report.comparison_figures import compare_bits_figure, tasks_over_arms
from codemix_megatron.report.consumption import tokens_by_kind
from codemix_megatron.report.held_out import series
from codemix_megatron.report.languages import LANGUAGES
from codemix_megatron.report.law_proposal import law_sections, read_proposals
from codemix_megatron.report.measures import every_measure, task_measures, training_measure
from codemix_megatron.report.paper import paper_blocks
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.signal import order_by_signal
from codemix_megatron.report.study import study_sections
from codemix_megatron.report.study_tables import effect_table, reading_aid
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.training_curves import read_status, started_at
from codemix_megatron.report.verdicts import judge
from codemix_megatron.report.win_rates import win_rate_sections
from codemix_megatron.report.wording import ABSENT, count, join_words, percent, plural, short_count

__all__ = ["compare_runs", "decision_of"]

NOT_SHOWN = ("name", "tokenizer.path", "corpora.*.prefix", "corpora.*.documents", "observers", "checkpoint", "parallel", "phases.*.name")
MOST_COLUMNS = 12
DECISION = ("answers", "decision", "base", "law")
NOISE = (
    "Exported models. A difference is judged over runs: items answered by one run, however many, say nothing of what another seed would change."
    " Runs scored on other items, and variants of another size or token budget, are shown and not judged."
)
MOST_NAMES = 8
USUAL = Choices()


def compare_runs(runs: list[RunData], choices: Choices = USUAL, untrained: Sequence[RunData] = (), view: StudyView | None = None) -> Report:
    """Return a report of several runs, taken together by arm; `untrained` are models that they start from. A `view` of them is not made again."""
    view = view or StudyView(group_arms(runs), runs, choices, untrained)
    labels, arms = label_runs(runs), view.arms
    bases = list(dict.fromkeys(base for _, base in view.pairs))
    at = next((i for i, run in enumerate(runs) if bases and run is bases[0].first), 0)
    unlike = unlike_lines(runs, labels, at)
    warning = [Paragraph("Not all of these runs are alike but for their mixture:", "warning"), Bullets(unlike)] if unlike else []
    against = f"; differences are relative to {join_words(base.label for base in bases)}" if bases else ""
    together = "" if len(arms) == len(runs) else f" in {plural(len(arms), 'variant')}, seeds together"
    return Report(
        title=plural(len(runs), "run"),
        eyebrow="What did code do to everything else?",
        lead=f"{shorten_names([arm.label for arm in arms])}: {plural(len(runs), 'run')}{together}{against}.",
        status="Comparison",
        status_tone="quiet",
        date=started_at(runs[at]),
        sections=[
            *study_sections(view),
            *law_sections(read_proposals(choices.law) if choices.law else []),
            *lineage_section(runs, labels),
            Section(title="Scores", anchor="scores", blocks=[*warning, *score_blocks(view, labels)]),
            *win_rate_sections(runs),
            Section(title="While training", anchor="training", blocks=training_blocks(view)),
            Section(title="Mixtures", anchor="mixtures", blocks=[mixture_table(runs, labels), recipe_table(runs, labels)]),
            Section(title="Beside the paper", anchor="paper", blocks=paper_blocks()),
        ],
    )


def decision_of(report: Report) -> Report:
    """Return the one page of a report to decide by: what can be said, which share and kind, against the untouched model, what a law proposes."""
    return replace(report, sections=[section for section in report.sections if section.anchor in DECISION])


def shorten_names(names: list[str]) -> str:
    """Return the names of arms, or how many there are when they would fill the page."""
    return join_words(names) if len(names) <= MOST_NAMES else f"{join_words(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"


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


def score_blocks(view: StudyView, labels: list[str]) -> list:
    """Return the table of all scores, their figure, and what is not scored."""
    runs = view.runs
    missing = [Missing(f"{label} has not been scored.", commands(run)) for run, label in zip(runs, labels, strict=True) if not run.scores]
    missing += not_scored_blocks(runs)
    measures = order_by_signal(every_measure(runs), view.arms)
    if not measures:
        return missing
    verdicts = judge(view.pairs, measures, view.arms, view.lend)
    folded = f"All {len(measures)} scores of every variant" if len(measures) > MOST_COLUMNS else ""
    table = effect_table([*(arm for arm, _ in view.pairs), *view.alone], None, measures, verdicts, reading_aid(verdicts))
    main = [measure for measure in task_measures(runs) if measure.suite != LANGUAGES]
    figure = [tasks_over_arms(view.arms, main)] if main else []
    return [*missing, *figure, replace(table, folded=folded), Paragraph(NOISE, "quiet")]


def not_scored_blocks(runs: list[RunData]) -> list:
    """Return what was asked for and has no score, and why, each reason once."""
    reasons: dict[str, list[str]] = {}
    for run, label in zip(runs, label_runs(runs), strict=True):
        for line in run.scores[-1].not_scored if run.scores else []:
            reasons.setdefault(line, []).append(label)
    if not reasons:
        return []
    lines = [f"{line} ({'every run' if len(names) == len(runs) else shorten_names(names)})" for line, names in reasons.items()]
    return [Paragraph("Asked for and not scored:", "warning"), Bullets(lines)]


def commands(run: RunData) -> str:
    """Return what scores a run."""
    return f"codemix evaluate {run.shown_path}" if run.export else f"codemix export {run.shown_path} && codemix evaluate {run.shown_path}"


def all_sources(runs: list[RunData]) -> list[str]:
    """Return the sources of all runs, each once."""
    return list(dict.fromkeys(source for run in runs for source in run.sources))


def training_blocks(view: StudyView) -> list:
    """Return held-out curves over tokens of every source, and where they end, judged over seeds as scores are."""
    runs = view.runs
    sources = [source for source in all_sources(runs) if any(series(run, source)[0] for run in runs)]
    if not sources:
        return [Missing("No held-out loss was measured; set evaluation.every_steps.")]
    measures = [training_measure(source) for source in sources]
    verdicts = judge(view.pairs, measures, view.arms)
    caption = f"Held-out bits per byte as last measured while training. {reading_aid(verdicts)}"
    table = effect_table([*(arm for arm, _ in view.pairs), *view.alone], None, measures, verdicts, caption)
    return [*(compare_bits_figure(view.arms, source) for source in sources), table]


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
        items: Iterable = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = ((entry.get("name", i), entry) for i, entry in enumerate(value))
    else:
        return {path: value}
    return {key: leaf for name, entry in items for key, leaf in flatten(entry, f"{path}.{name}" if path else str(name)).items()}
