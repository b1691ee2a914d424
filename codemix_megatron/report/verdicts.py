"""Verdicts: what each arm changed against its reference, judged over runs and corrected for how many comparisons a table makes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from codemix_megatron.analysis.comparing import NOT_DISTINGUISHABLE
from codemix_megatron.analysis.effects import (
    SIGNIFICANCE,
    Effect,
    RunNoise,
    effect_of_pairs,
    effect_over_seeds,
    effect_with_noise,
    held_against,
    holm,
    pool_noise,
    undecided,
)
from codemix_megatron.analysis.noise import lend_mean_noise
from codemix_megatron.report.arms import Arm, seeds_of
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.wording import join_words, plural

__all__ = [
    "ONE_RUN",
    "OTHER_BUDGET",
    "OTHER_ITEMS",
    "OTHER_SIZE",
    "SAME_SEEDS",
    "Verdict",
    "decide",
    "judge",
    "measured_noise",
    "scored_alike",
    "unlike",
    "values_of",
]

ONE_RUN = "one run: cannot be told"
OTHER_BUDGET, OTHER_SIZE, OTHER_ITEMS = "other budget", "other size", "other items"
SAME_SEEDS = "all seeds alike: cannot be told"


@dataclass(frozen=True)
class Verdict:
    """An effect and what may be said of it. `adjusted` is the p value after Holm; `words` better, worse, or why neither."""

    effect: Effect
    words: str
    adjusted: float | None = None
    over_items: bool = False  # the interval is over items of one run, and says nothing of another seed

    @property
    def tone(self) -> str:
        """Only what was decided has a colour."""
        return {"better": "good", "worse": "bad"}.get(self.words, "")


def values_of(measure: Measure, arm: Arm) -> list[float]:
    """Return one value for each seed that has been scored."""
    return [value for run in arm.runs if (value := measure.value(run)) is not None]


def judge(
    pairs: Iterable[tuple[Arm, Arm]],
    measures: list[Measure],
    arms: list[Arm],
    lend: bool = False,
    same_budget: bool = True,
    asked: set[tuple[int, int]] | None = None,
) -> dict[tuple[int, int], Verdict]:
    """Return (index of the pair, index of the measure) -> Verdict of every arm against its reference.

    All pairs and measures together are one family: with Holm's correction the chance that any of its verdicts is false stays below
    5 %. Noise of seeds comes from the pair itself, else from `arms` of the study that were repeated, else, with `lend`, from a
    published table; else nothing is decided. Nor is it with `same_budget` where size or tokens differ.
    `asked` names the keys wanted, where these are not all.
    """
    found: dict[tuple[int, int], Verdict] = {}
    for i, (arm, base) in enumerate(pairs):
        for j, measure in enumerate(measures):
            if asked is not None and (i, j) not in asked:
                continue
            if arm is not base and (verdict := compare_arms(arm, base, measure, arms, lend, same_budget)) is not None:
                found[i, j] = verdict
    family = [key for key, verdict in found.items() if verdict.effect.is_decidable]
    for key, adjusted in zip(family, holm([found[key].effect.p_value for key in family]), strict=True):
        found[key] = replace(found[key], adjusted=adjusted, words=decide(found[key].effect, adjusted, measures[key[1]]))
    return found


def decide(effect: Effect, adjusted: float, measure: Measure) -> str:
    """Return better, worse or not distinguishable."""
    if adjusted >= SIGNIFICANCE:
        return NOT_DISTINGUISHABLE
    return "better" if (effect.value > 0) == measure.higher_is_better else "worse"


def compare_arms(arm: Arm, base: Arm, measure: Measure, arms: list[Arm], lend: bool, same_budget: bool) -> Verdict | None:
    """Return the effect of one arm before the family is known, None where one of the two has no score."""
    ours, theirs = values_of(measure, arm), values_of(measure, base)
    if not ours or not theirs:
        return None
    if why := unlike(arm, base, measure, same_budget):
        return Verdict(undecided(ours, theirs), why)
    effect = effect_of(arm, base, measure, ours, theirs, arms, lend)
    if effect.is_decidable:
        return Verdict(effect, "")
    if min(len(ours), len(theirs)) > 1:
        return Verdict(effect, SAME_SEEDS)
    return item_verdict(arm, base, measure, effect)


def unlike(arm: Arm, base: Arm, measure: Measure, same_budget: bool = True) -> str:
    """Return why two arms' scores are not to be compared: of other items, another size, after other tokens; nothing where they are."""
    scored = [run for one in (arm, base) for run in one.runs if measure.value(run) is not None]
    if len({measure.content(run) for run in scored}) > 1:
        return OTHER_ITEMS
    if arm.parameters != base.parameters:
        return OTHER_SIZE
    return OTHER_BUDGET if same_budget and len({run.scored_tokens for run in scored}) > 1 else ""


def scored_alike(arms: Iterable[Arm], measure: Measure) -> list[Arm]:
    """Return the largest group of arms whose scores may be compared with each other, the first of equal ones."""
    groups: dict[tuple, list[Arm]] = {}
    for arm in arms:
        if scored := [run for run in arm.runs if measure.value(run) is not None]:
            key = (arm.parameters, frozenset(run.scored_tokens for run in scored), frozenset(map(measure.content, scored)))
            groups.setdefault(key, []).append(arm)
    return max(groups.values(), key=len, default=[])


def effect_of(arm: Arm, base: Arm, measure: Measure, ours, theirs, arms: list[Arm], lend: bool) -> Effect:
    """Return the difference with the best run-level noise there is."""
    if min(len(ours), len(theirs)) > 1:
        pairs = paired_by_trunk(arm, base, measure)
        if len(pairs) > 1:
            return effect_of_pairs(*zip(*pairs, strict=True))
        return held_against(effect_over_seeds(ours, theirs), measured_noise(measure, arms, arm))
    noise = measured_noise(measure, arms, arm)
    if noise is None and lend and measure.tasks:
        noise = lend_mean_noise(measure.tasks, arm.parameters)
    return effect_with_noise(ours, theirs, noise) if noise else undecided(ours, theirs)


def measured_noise(measure: Measure, arms: list[Arm], like: Arm) -> RunNoise | None:
    """Return the noise of the arms of a study that were repeated by seed, of the same size and scored on the same items."""
    anchors = [arm for arm in arms if arm.parameters == like.parameters and len(values_of(measure, arm)) > 1]
    contents = {measure.content(run) for run in like.runs}
    anchors = [arm for arm in anchors if {measure.content(run) for run in arm.runs} <= contents]
    if not anchors:
        return None
    told = f"{plural(sum(arm.seeds for arm in anchors), 'run')} of {join_words(arm.label for arm in anchors)}"
    return pool_noise([values_of(measure, arm) for arm in anchors], told)


def paired_by_trunk(arm: Arm, base: Arm, measure: Measure) -> list[tuple[float, float]]:
    """Return the values of both arms for each seed, where with every seed both went on from a trunk in common; else nothing."""
    by_seed = {seeds_of(run): run for run in base.runs}
    pairs = []
    for run in arm.runs:
        other = by_seed.get(seeds_of(run))
        if other is None or not {*run.ancestors} & {other.folder.path, *other.ancestors}:
            return []
        mine, yours = measure.value(run), measure.value(other)
        if mine is None or yours is None:
            return []
        pairs.append((mine, yours))
    return pairs if len(pairs) == len(base.runs) else []


def item_verdict(arm: Arm, base: Arm, measure: Measure, effect: Effect) -> Verdict:
    """Return a difference of single runs with the interval over their items: what it is, and no more."""
    if max(arm.seeds, base.seeds) > 1:
        return Verdict(effect, ONE_RUN)
    difference = measure.difference(arm.first, base.first)
    if difference is None or difference.low is None:
        return Verdict(effect, ONE_RUN)
    return Verdict(replace(effect, low=difference.low, high=difference.high, method="items"), ONE_RUN, over_items=True)
