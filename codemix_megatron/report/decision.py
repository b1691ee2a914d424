"""The decision a study was made for: which share of code, in the phase where it varies, is best for what, and which cannot be told from it."""

from statistics import fmean

from codemix_megatron.analysis.comparing import NOT_DISTINGUISHABLE
from codemix_megatron.plan.devices import device_hours
from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Bullets, Cell, Paragraph, Section, Table
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.study_tables import effect_text, mean_text
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.sweeps import Sweep, find_sweeps
from codemix_megatron.report.verdicts import Verdict, judge, values_of
from codemix_megatron.report.wording import ABSENT, count, join_words, percent, plural

__all__ = ["decision_sections"]


def decision_sections(view: StudyView) -> list[Section]:
    """Return for each sweep what each share gives against the best one, none where no share varies."""
    blocks: list = []
    for sweep in find_sweeps(view.arms):
        found = judge_sweep(sweep, view)
        if any(found.values()):
            blocks += [
                Paragraph(f"Code {sweep.where} ({sweep.line}):"),
                Bullets(sentences(sweep, view, found)),
                share_table(sweep, view, found),
            ]
    return [Section(title="Which share", anchor="decision", blocks=blocks)] if blocks else []


def judge_sweep(sweep: Sweep, view: StudyView) -> dict[int, dict[int, Verdict | None]]:
    """Return place of the measure -> place of the share -> its verdict against the best share, None for the best itself.

    All shares and measures of a sweep are one family. The best share is chosen by the same means it is then compared with, which makes
    differences from it look larger than they are; what is not told apart from it is all the more so.
    """
    best = {j: best_share(sweep, measure) for j, measure in enumerate(view.measures)}
    places = [(j, i, top) for j, top in best.items() if top is not None for i in range(len(sweep.arms)) if i != top]
    found: dict[int, dict[int, Verdict | None]] = {j: {top: None} for j, top in best.items() if top is not None}
    verdicts = judge_each([(sweep.arms[i], sweep.arms[top], view.measures[j]) for j, i, top in places], view)
    for (j, i, _), verdict in zip(places, verdicts, strict=True):
        if verdict is not None:
            found[j][i] = verdict
    return found


def judge_each(questions: list[tuple[Arm, Arm, Measure]], view: StudyView) -> list[Verdict | None]:
    """Return the verdict of each (arm, base, measure), all of one family."""
    measures = list(dict.fromkeys(measure for _, _, measure in questions))
    pairs = [(arm, base) for arm, base, _ in questions]
    asked = {(place, measures.index(measure)) for place, (_, _, measure) in enumerate(questions)}
    found = judge(pairs, measures, view.arms, view.lend, asked=asked)
    return [found.get((place, measures.index(measure))) for place, (_, _, measure) in enumerate(questions)]


def best_share(sweep: Sweep, measure: Measure) -> int | None:
    """Return the place of the share with the best mean, None where fewer than two have one."""
    means = {i: fmean(values) for i, arm in enumerate(sweep.arms) if (values := values_of(measure, arm))}
    if len(means) < 2:
        return None
    return (max if measure.higher_is_better else min)(means, key=lambda i: means[i])


def sentences(sweep: Sweep, view: StudyView, found: dict[int, dict[int, Verdict | None]]) -> list[str]:
    """Say for each measure which share is best, which are worse, and which cannot be told from it."""
    lines = []
    for j, by_share in found.items():
        best = next(i for i, verdict in by_share.items() if verdict is None)
        worse = [i for i, verdict in by_share.items() if verdict is not None and verdict.words == "worse"]
        alike = [i for i, verdict in by_share.items() if verdict is not None and verdict.words == NOT_DISTINGUISHABLE]
        other = [i for i, verdict in by_share.items() if verdict is not None and i not in worse and i not in alike]
        parts = [f"{view.measures[j].label}: {percent(sweep.shares[best], 0)} has the best mean"]
        for words, places in (("not told apart from it", alike), ("worse", worse), ("cannot be told", other)):
            if places:
                parts.append(f"{words}: {join_words(percent(sweep.shares[i], 0) for i in sorted(places))}")
        lines.append("; ".join(parts) + ".")
    return lines


def share_table(sweep: Sweep, view: StudyView, found: dict[int, dict[int, Verdict | None]]) -> Table:
    """Return shares by measures, and what the runs of each share take."""
    rows: list[list] = []
    for i, arm in enumerate(sweep.arms):
        cells = [share_cell(measure, arm, found.get(j, {}), i) for j, measure in enumerate(view.measures)]
        rows.append([Cell(percent(sweep.shares[i], 0), below=f"{arm.label}, {plural(arm.seeds, 'seed')}"), *cells, *cost_cells(arm, view)])
    compared = sum(v is not None and v.adjusted is not None for by_share in found.values() for v in by_share.values())
    caption = f"Mean ± standard deviation over seeds; below it the difference from the best share. Holm's correction over {plural(compared, 'comparison')}."
    costs = cost_headings(view)
    return Table(headings=["share of code", *(measure.label for measure in view.measures), *costs], rows=rows, caption=caption)


def share_cell(measure: Measure, arm: Arm, by_share: dict[int, Verdict | None], place: int) -> Cell:
    """Return a share's mean, and how far it is from the best."""
    values = values_of(measure, arm)
    if not values:
        return Cell(ABSENT, tone="quiet")
    verdict = by_share.get(place)
    below = "best mean" if place in by_share and verdict is None else f"{effect_text(measure, verdict)}; {verdict.words}" if verdict else ""
    return Cell(mean_text(measure, values), below=below, tone=verdict.tone if verdict else "")


def cost_headings(view: StudyView) -> list[str]:
    """Return the headings of what a run would take on the device that was asked for."""
    device, price = view.choices.device, view.choices.price_per_hour
    return ([f"{device} hours of a run"] if device else []) + (["price of a run"] if device and price is not None else [])


def cost_cells(arm: Arm, view: StudyView) -> list[str]:
    """Return device hours, and their price."""
    device, price = view.choices.device, view.choices.price_per_hour
    flops = (arm.first.plan or {}).get("flops", {}).get("total")
    if not device:
        return []
    hours = device_hours(flops, device, view.choices.mfu) if flops else None
    shown = ABSENT if hours is None else count(hours) if hours >= 100 else f"{hours:.2g}"
    paid = ABSENT if hours is None or price is None else count(hours * price) if hours * price >= 100 else f"{hours * price:.2g}"
    return [shown] + ([paid] if price is not None else [])
