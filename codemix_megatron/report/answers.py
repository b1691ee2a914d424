"""The first screen of a study: in sentences, what code changed, by how much, over how many seeds, and what cannot be told."""

import math

from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Bullets, Paragraph
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.study_tables import effect_text
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.verdicts import ONE_RUN, OTHER_BUDGET, OTHER_ITEMS, OTHER_SIZE, SAME_SEEDS, Verdict
from codemix_megatron.report.wording import distinct_percents, join_words, plural, short_count

__all__ = ["answer_blocks", "describe_code"]

MOST_NAMES = 4
REPEAT = (
    "Repeat the variants that matter with other seeds (`axes: {seed: [1, 2, 3]}`; `codemix study power` says how many), or assume"
    " published noise with `--lend-noise`."
)


def answer_blocks(view: StudyView) -> list:
    """Return what was decided, then what could not be."""
    if all(arm is base for arm, base in view.pairs) and view.pairs:
        alone = join_words(arm.label for arm, _ in view.pairs)
        return [
            Paragraph(
                f"Nothing to compare: {alone} is the only variant."
                if len(view.pairs) == 1
                else f"Nothing to compare: {alone} hold no code.",
                "warning",
            )
        ]
    trunks = trunk_lines(view)
    decided = [line for measure in view.measures for line in decided_lines(view, measure)]
    none = Paragraph("No difference from the reference can be told from what another seed would change.", "warning")
    return [Bullets(decided) if decided else none, Bullets([*undecided_lines(view), *trunks, *missing_lines(view)])]


def decided_lines(view: StudyView, measure: Measure) -> list[str]:
    """Return one sentence for each direction of a measure in which something was decided."""
    found = [(arm, base, verdict) for arm, base in view.pairs if (verdict := view.verdict(arm, measure)) is not None]
    lines = []
    for words in ("better", "worse"):
        there = [entry for entry in found if entry[2].words == words]
        there.sort(key=lambda entry: -abs(entry[2].effect.value))
        if there:
            told = "; ".join(describe_effect(measure, *entry) for entry in there[:MOST_NAMES])
            more = f"; and {len(there) - MOST_NAMES} more" if len(there) > MOST_NAMES else ""
            lines.append(f"{measure.label}: {words} with {told}{more}.")
    return lines


def describe_effect(measure: Measure, arm: Arm, base: Arm, verdict: Verdict) -> str:
    """Say what an arm changed, with its interval and seeds."""
    effect = verdict.effect
    seeds = f"{effect.seeds} against {plural(effect.base_seeds, 'seed')}"
    assumed = ", noise assumed" if effect.noise else ""
    return f"{arm.label} ({describe_code(arm)}) by {effect_text(measure, verdict)} {measure.unit} against {base.label}, {seeds}{assumed}"


def describe_code(arm: Arm) -> str:
    """Say how much code each phase holds."""
    if not arm.phases:
        return "code not known"
    shares = distinct_percents([phase.share for phase in arm.phases])
    return f"{shares[0]} code" if len(shares) == 1 else f"code {' → '.join(shares)}"


def undecided_lines(view: StudyView) -> list[str]:
    """Say which arms could not be judged, and why."""
    lines: list[str] = []
    why: dict[tuple[str, int], list] = {}
    for i, (arm, base) in enumerate(view.pairs):
        words = {view.verdicts[i, j].words for j in range(len(view.measures)) if (i, j) in view.verdicts}
        for reason in words & {ONE_RUN, OTHER_BUDGET, OTHER_SIZE, OTHER_ITEMS, SAME_SEEDS}:
            why.setdefault((reason, id(base)), []).append((arm, base))
        if not words and arm is not base:
            why.setdefault(("no score in common", id(base)), []).append((arm, base))
    for (reason, _), pairs in why.items():
        base = pairs[0][1]
        names = shorten([arm.label for arm, _ in pairs])
        budgets = f" ({short_count(base.tokens)} tokens)" if reason == OTHER_BUDGET else ""
        lines.append(f"Not judged against {base.label}{budgets}, {reason}: {names}.")
    if any(reason == ONE_RUN for reason, _ in why):
        lines.append(f"A single run says nothing of what another seed would give. {REPEAT}")
    return lines


def trunk_lines(view: StudyView) -> list[str]:
    """Say which arms were repeated from one trunk: what another trunk would change is in none of their intervals."""
    arms = [arm for arm in view.arms if arm.repeated_phase]
    if not arms:
        return []
    phases = join_words(dict.fromkeys(str(arm.repeated_phase) for arm in arms))
    return [
        f"{shorten([arm.label for arm in arms])}: seeds repeat {phases} from one trunk, so intervals hold what another order of its data"
        " would change, not what another trunk would."
    ]


def missing_lines(view: StudyView) -> list[str]:
    """Say which arms have runs without scores, or with scores that are not finite."""
    lines = []
    for arm in view.arms:
        lacking = [run for run in arm.runs if not run.scores]
        if lacking:
            lines.append(f"{arm.label}: {len(lacking)} of {plural(arm.seeds, 'run')} without scores.")
        for measure in view.measures:
            given = [value for run in arm.runs if (value := measure.find(run)[0]) is not None]
            lost = sum(math.isnan(value) for value in given)
            lines += [f"{arm.label}, {measure.label}: {lost} of {plural(arm.seeds, 'run')} gave NaN."] * bool(lost)
    return lines


def shorten(names: list[str]) -> str:
    """Return some names and how many more there are."""
    return (
        join_words(names)
        if len(names) <= 2 * MOST_NAMES
        else f"{', '.join(names[: 2 * MOST_NAMES])} and {len(names) - 2 * MOST_NAMES} more"
    )
