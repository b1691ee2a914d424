"""The decision a study was made for: which share, in the phase where it varies, or which kind of code is best, and what cannot be told from it."""

from dataclasses import dataclass
from statistics import fmean

from codemix_megatron.analysis.comparing import NOT_DISTINGUISHABLE
from codemix_megatron.plan.devices import device_hours
from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Cell, Paragraph, Section, Table
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.study_tables import corrected, effect_text, mean_text, seeds_text
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.sweeps import find_kinds, find_sweeps
from codemix_megatron.report.verdicts import Verdict, judge, scored_alike, values_of
from codemix_megatron.report.wording import ABSENT, count, distinct_percents, join_words, short_count

__all__ = ["Alternatives", "Judged", "decision_lines", "decision_sections", "find_alternatives", "judge_alternatives", "judge_choices"]

FLOPS_PER_PARAMETER = 6  # and token, where only the size of a run is known


@dataclass(frozen=True)
class Alternatives:
    """Arms that differ in one thing alone: the share of code in one phase, or what the code was."""

    what: str  # in which they differ: a heading
    where: str
    names: tuple[str, ...]
    arms: tuple[Arm, ...]


Judged = list[tuple[Alternatives, dict[int, dict[int, Verdict | None]]]]


def judge_choices(view: StudyView) -> Judged:
    """Return every choice of which something was scored, with its verdicts."""
    judged = [(choice, judge_alternatives(choice, view)) for choice in find_alternatives(view)]
    return [(choice, found) for choice, found in judged if any(found.values())]


def find_alternatives(view: StudyView) -> list[Alternatives]:
    """Return every sweep over shares, then every comparison of kinds of code."""
    found = [
        Alternatives("share of code", f"Code {sweep.where} ({sweep.line})", distinct_percents(sweep.shares), sweep.arms)
        for sweep in find_sweeps(view.arms)
    ]
    for arms in find_kinds(view.arms):
        line = f"Kind of code, code alone ({short_count(arms[0].tokens)} tokens)"
        found.append(Alternatives("kind of code", line, tuple(arm.label for arm in arms), tuple(arms)))
    return found


def decision_lines(judged: Judged, view: StudyView) -> list[str]:
    """Say for each measure which share or kind is best, which are worse, and which cannot be told from it."""
    lines = []
    for choice, found in judged:
        lines += [f"{choice.where}: {sentence(choice, view.measures[j], by_arm)}" for j, by_arm in found.items() if len(by_arm) > 1]
    return lines


def decision_sections(judged: Judged, view: StudyView) -> list[Section]:
    """Return for each of them a table of what each alternative gives against the best one, none where nothing varies."""
    blocks: list = []
    for choice, found in judged:
        blocks += [Paragraph(f"{choice.where}:"), choice_table(choice, view, found)]
    return [Section(title="Which share, which kind", anchor="decision", blocks=blocks)] if blocks else []


def judge_alternatives(choice: Alternatives, view: StudyView) -> dict[int, dict[int, Verdict | None]]:
    """Return index of the measure -> index of the arm -> its verdict against the best one, None for the best itself.

    All arms and measures of a choice are one family. The best is chosen by the same means it is then compared with, which makes
    differences from it look larger than they are; what is not distinguishable from it is all the more so.
    """
    best = {j: best_of(choice.arms, measure) for j, measure in enumerate(view.measures)}
    compared = [(j, i, top) for j, top in best.items() if top is not None for i in range(len(choice.arms)) if i != top]
    found: dict[int, dict[int, Verdict | None]] = {j: {top: None} for j, top in best.items() if top is not None}
    verdicts = judge_each([(choice.arms[i], choice.arms[top], view.measures[j]) for j, i, top in compared], view)
    for (j, i, _), verdict in zip(compared, verdicts, strict=True):
        if verdict is not None:
            found[j][i] = verdict
    return found


def judge_each(questions: list[tuple[Arm, Arm, Measure]], view: StudyView) -> list[Verdict | None]:
    """Return the verdict of each (arm, base, measure), all of one family."""
    measures = list(dict.fromkeys(measure for _, _, measure in questions))
    pairs = [(arm, base) for arm, base, _ in questions]
    asked = {(i, measures.index(measure)) for i, (_, _, measure) in enumerate(questions)}
    found = judge(pairs, measures, view.arms, view.lend, asked=asked)
    return [found.get((i, measures.index(measure))) for i, (_, _, measure) in enumerate(questions)]


def best_of(arms: tuple[Arm, ...], measure: Measure) -> int | None:
    """Return the index of the arm with the best mean among those that were scored alike, None where fewer than two were."""
    alike = {id(arm) for arm in scored_alike(arms, measure)}
    means = {i: fmean(values_of(measure, arm)) for i, arm in enumerate(arms) if id(arm) in alike}
    if len(means) < 2:
        return None
    return (max if measure.higher_is_better else min)(means, key=lambda i: means[i])


def sentence(choice: Alternatives, measure: Measure, by_arm: dict[int, Verdict | None]) -> str:
    """Say which is best, which are worse and by how much, and which cannot be told from it."""
    best = next(i for i, verdict in by_arm.items() if verdict is None)
    told: dict[str, list[str]] = {"not distinguishable from it": [], "worse": [], "cannot be told": []}
    for i, verdict in sorted(by_arm.items()):
        if verdict is None:
            continue
        words = {NOT_DISTINGUISHABLE: "not distinguishable from it", "worse": "worse"}.get(verdict.words, "cannot be told")
        by = f" by {effect_text(measure, verdict)}" if words == "worse" else ""
        told[words].append(f"{choice.names[i]}{by}")
    parts = [f"{measure.label}: {choice.names[best]} has the best mean ({seeds_text(choice.arms[best])})"]
    parts += [f"{words}: {join_words(names)}" for words, names in told.items() if names]
    return "; ".join(parts) + "."


def choice_table(choice: Alternatives, view: StudyView, found: dict[int, dict[int, Verdict | None]]) -> Table:
    """Return alternatives by measures, and what the runs of each take."""
    rows: list[list] = []
    for i, arm in enumerate(choice.arms):
        cells = [choice_cell(measure, arm, found.get(j, {}), i) for j, measure in enumerate(view.measures)]
        rows.append([Cell(choice.names[i], below=f"{arm.label}, {seeds_text(arm)}"), *cells, *cost_cells(arm, view)])
    compared = sum(v is not None and v.adjusted is not None for by_arm in found.values() for v in by_arm.values())
    caption = f"Mean ± standard deviation over seeds; below it the difference from the best.{corrected(compared)}"
    costs = cost_headings(view)
    return Table(headings=[choice.what, *(measure.label for measure in view.measures), *costs], rows=rows, caption=caption)


def choice_cell(measure: Measure, arm: Arm, by_arm: dict[int, Verdict | None], index: int) -> Cell:
    """Return an alternative's mean, and how far it is from the best."""
    values = values_of(measure, arm)
    if not values:
        return Cell(ABSENT, tone="quiet")
    verdict = by_arm.get(index)
    below = "best mean" if index in by_arm and verdict is None else f"{effect_text(measure, verdict)}; {verdict.words}" if verdict else ""
    return Cell(mean_text(measure, values), below=below, tone=verdict.tone if verdict else "")


def cost_headings(view: StudyView) -> list[str]:
    """Return the headings of what a run would take on the device that was asked for, at the size that was asked for."""
    choices = view.choices
    sizes = [f"{short_count(n)} {unit}" for n, unit in ((choices.at_parameters, "parameters"), (choices.at_tokens, "tokens")) if n]
    run = f"a run of {' and '.join(sizes)}" if sizes else "a run"
    hours = [f"{choices.device} hours of {run}"] if choices.device else []
    return hours + ([f"price of {run}"] if choices.device and choices.price_per_hour is not None else [])


def cost_cells(arm: Arm, view: StudyView) -> list[str]:
    """Return device hours, and their price."""
    device, price = view.choices.device, view.choices.price_per_hour
    if not device:
        return []
    flops = flops_of(arm, view)
    hours = device_hours(flops, device, view.choices.mfu) if flops else None
    shown = ABSENT if hours is None else count(hours) if hours >= 100 else f"{hours:.2g}"
    paid = ABSENT if hours is None or price is None else count(hours * price) if hours * price >= 100 else f"{hours * price:.2g}"
    return [shown] + ([paid] if price is not None else [])


def flops_of(arm: Arm, view: StudyView) -> float | None:
    """Return the operations of one run: as planned, or six for each parameter and token where another size was asked for."""
    parameters, tokens = view.choices.at_parameters, view.choices.at_tokens
    if parameters is None and tokens is None:
        return (arm.first.plan or {}).get("flops", {}).get("total")
    size = parameters or arm.parameters
    return FLOPS_PER_PARAMETER * size * (tokens or arm.tokens) if size else None
