"""What a study's report may conclude: nothing from single runs, and over seeds what scipy concludes."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from curved_run import make_curved_run
from scipy import stats
from seeded_study import seeded_run, seeded_study, write_scores

from codemix_megatron.errors import CodemixError
from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import Scores
from codemix_megatron.report.arms import find_references, group_arms
from codemix_megatron.report.choices import Choices
from codemix_megatron.report.comparison import compare_runs, mixture_table
from codemix_megatron.report.markdown import markdown
from codemix_megatron.report.measures import task_measures
from codemix_megatron.report.page import page
from codemix_megatron.report.run_data import read_run
from codemix_megatron.report.signal import order_by_signal, signal_of
from codemix_megatron.report.study_figures import mean_dot
from codemix_megatron.report.study_tables import effect_text
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.sweeps import find_sweeps
from codemix_megatron.report.verdicts import ONE_RUN, OTHER_BUDGET, OTHER_ITEMS, SAME_SEEDS
from codemix_megatron.study.combining import combine
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.power import measured
from codemix_megatron.study.reporting import read_variants

LEVELS = {"text-only": (0.0, 1.5), "balanced": (0.5, 1.5), "code": (1.0, 1.5)}


def read_all(folder):
    return [read_run(RunFolder(path)) for path in sorted(folder.iterdir()) if path.is_dir()]


def view_of(runs, lend=False) -> StudyView:
    return StudyView(group_arms(runs), runs, Choices(lend_noise=lend))


def words_in(view: StudyView) -> list[str]:
    return [verdict.words for verdict in view.verdicts.values()]


def test_one_run_of_each_variant_concludes_nothing(tmp_path):
    seeded_study(tmp_path, LEVELS, seeds=1, noise=0.003)
    view = view_of(read_all(tmp_path))
    assert words_in(view) == [ONE_RUN, ONE_RUN]
    report = compare_runs(view.runs)
    assert "No difference from the reference can be told from what another seed would change." in markdown(report)
    assert 'class="good"' not in page(report) and 'class="bad"' not in page(report)


def test_another_seed_of_the_reference_is_no_variant(tmp_path):
    for seed in (1, 2):
        write_scores(seeded_run(tmp_path / f"text-only-{seed}", 0.0, seed), {"text": 1.5 + 0.1 * seed})
    runs = [replace(run, name=name) for run, name in zip(read_all(tmp_path), ("text-only", "text-only-seed-2"), strict=True)]
    arms = group_arms(runs)
    assert [(arm.label, arm.seeds) for arm in arms] == [("text-only", 2)]
    assert view_of(runs).verdicts == {}


def test_the_same_seed_twice_is_one_observation(tmp_path):
    for name in ("text-only", "copy-of-text-only"):
        write_scores(seeded_run(tmp_path / name, 0.0, 1), {"text": 1.5})
    assert [arm.seeds for arm in group_arms(read_all(tmp_path))] == [1, 1]


def pooled_p(ours, base, groups) -> float:
    """The p value of a difference by the error of an analysis of variance over all groups, by scipy's t alone."""
    groups = [np.asarray(group) for group in groups]
    degrees = sum(len(group) - 1 for group in groups)
    variance = sum(((group - group.mean()) ** 2).sum() for group in groups) / degrees
    return 2 * stats.t.sf(abs(np.mean(ours) - np.mean(base)) / np.sqrt(variance * (1 / len(ours) + 1 / len(base))), degrees)


def test_effects_over_seeds_are_those_of_scipy_and_holm(tmp_path):
    levels = {"text-only": (0.0, 1.50), "balanced": (0.5, 1.56), "code": (1.0, 1.9), "little": (0.25, 1.501)}
    values = seeded_study(tmp_path, levels, seeds=3, noise=0.004)
    view = view_of(read_all(tmp_path))
    names = [arm.label for arm, base in view.pairs if arm is not base]
    expected = {name: stats.ttest_ind(values[name], values["text-only"], equal_var=False) for name in names}
    p_values = {name: max(expected[name].pvalue, pooled_p(values[name], values["text-only"], values.values())) for name in names}
    ranked = sorted(names, key=p_values.get)
    adjusted = np.maximum.accumulate([min(1, (3 - rank) * p_values[name]) for rank, name in enumerate(ranked)])
    for index, (arm, base) in enumerate(view.pairs):
        if arm is base:
            continue
        verdict, wanted = view.verdicts[index, 0], expected[arm.label]
        interval = wanted.confidence_interval(0.95)
        assert verdict.effect.value == pytest.approx(np.mean(values[arm.label]) - np.mean(values["text-only"]))
        assert (verdict.effect.low, verdict.effect.high) == pytest.approx((interval.low, interval.high))
        assert verdict.adjusted == pytest.approx(adjusted[ranked.index(arm.label)])
        assert verdict.words == ("worse" if verdict.adjusted < 0.05 else "not distinguishable")
    text = markdown(compare_runs(view.runs))
    assert "over the 3 comparisons here" in text and "3 against 3 seeds" in text
    mean, spread = np.mean(values["balanced"]), np.std(values["balanced"], ddof=1)
    assert f"{mean:.3f}\u00a0±\u00a0{spread:.3f}" in text


def test_reference_is_the_text_only_variant_at_the_same_point(tmp_path):
    for size in ("small", "large"):
        for name, share in (("balanced", 0.5), ("text-only", 0.0)):
            for seed in (1, 2):
                write_scores(seeded_run(tmp_path / f"{name}-{size}-seed-{seed}", share, seed), {"text": 1.5 + 0.01 * seed})
    runs = []
    for run in read_all(tmp_path):
        variant, size = run.folder.path.name.rsplit("-seed", 1)[0].rsplit("-", 1)
        recipe = replace(run.recipe, model=replace(run.recipe.model, num_layers=2 if size == "small" else 8))
        runs.append(replace(run, variant=variant, points={"size": size}, recipe=recipe))
    arms = group_arms(runs)
    references = find_references(arms)
    assert {arm.label: (arm.seeds, references[id(arm)].label) for arm in arms} == {
        "balanced-large": (2, "text-only-large"),
        "balanced-small": (2, "text-only-small"),
        "text-only-large": (2, "text-only-large"),
        "text-only-small": (2, "text-only-small"),
    }
    text = markdown(compare_runs(runs))
    assert "Against text-only-large (2 seeds, 81.9K tokens):" in text and "Against text-only-small (2 seeds" in text


def test_other_budgets_are_shown_and_not_judged(tmp_path):
    for seed in (1, 2, 3):
        write_scores(seeded_run(tmp_path / f"text-only-seed-{seed}", 0.0, seed), {"text": 1.5 + 0.001 * seed})
        write_scores(seeded_run(tmp_path / f"code-seed-{seed}", 1.0, seed), {"text": 2.5 + 0.001 * seed}, tokens=40960)
    view = view_of(read_all(tmp_path))
    assert words_in(view) == [OTHER_BUDGET] and all(not verdict.tone for verdict in view.verdicts.values())
    assert "Not judged against text-only (81.9K tokens), other budget: code." in markdown(compare_runs(view.runs))


def test_seeds_of_the_reference_lend_their_noise_to_single_runs(tmp_path):
    anchors = [1.500, 1.504, 1.511]
    for seed, value in enumerate(anchors, 1):
        write_scores(seeded_run(tmp_path / f"text-only-seed-{seed}", 0.0, seed), {"text": value})
    for name, share, value in (("balanced", 0.5, 1.507), ("code", 1.0, 1.9)):
        write_scores(seeded_run(tmp_path / name, share, 1), {"text": value})
    view = view_of(read_all(tmp_path))
    by_name = {arm.label: view.verdicts[index, 0] for index, (arm, base) in enumerate(view.pairs) if arm is not base}
    assert by_name["code"].words == "worse" and by_name["balanced"].words == "not distinguishable"
    error = np.std(anchors, ddof=1) * np.sqrt(1 + 1 / 3)
    assert by_name["balanced"].effect.high == pytest.approx(1.507 - np.mean(anchors) + stats.t.ppf(0.975, 2) * error)
    assert by_name["code"].effect.p_value == pytest.approx(2 * stats.t.sf((1.9 - np.mean(anchors)) / error, 2))
    text = markdown(compare_runs(view.runs))
    assert "noise assumed" in text and "Assumed noise is not that of these runs but of 3 runs of text-only." in text


def test_published_noise_is_lent_only_when_asked_and_called_assumed(tmp_path):
    for name, share, value in (("text-only", 0.0, 0.50), ("balanced", 0.5, 0.53), ("code", 1.0, 0.20)):
        write_scores(seeded_run(tmp_path / name, share, 1), {}, {"piqa": value})
    runs = read_all(tmp_path)
    assert set(words_in(view_of(runs))) == {ONE_RUN}
    lent = {
        arm.label: verdict for (index, _), verdict in view_of(runs, lend=True).verdicts.items() for arm in [view_of(runs).pairs[index][0]]
    }
    deviation = 0.7 * np.sqrt(5 / 4) / 100 * 0.5  # the table's largest at 2.8B, of rescaled percent over a chance of one half
    wanted = 2 * stats.t.sf(0.03 / (deviation * np.sqrt(2)), 8)
    assert lent["balanced"].effect.p_value == pytest.approx(wanted)
    assert "worse" in lent["code"].words and "Muennighoff" in lent["code"].effect.noise
    assert "assumed noise" in markdown(compare_runs(runs, Choices(lend_noise=True)))


def test_mean_over_some_of_the_tasks_says_so_and_has_no_figure_of_the_paper(tmp_path):
    for seed in (1, 2):
        for name, share in (("text-only", 0.0), ("balanced-only", 0.5)):
            run = seeded_run(tmp_path / f"{name}-seed-{seed}", share, seed)
            write_scores(run, {}, {"boolq": 0.5 + 0.01 * seed, "piqa": 0.6}, missing=[f"task{i}" for i in range(9)])
    runs = read_all(tmp_path)
    text = markdown(compare_runs(runs))
    assert "reasoning (2 of 11)" in text and "Relative change from the reference" not in text


def test_whole_mean_has_the_papers_gain_beside_its_own(tmp_path):
    values = {"text-only": (0.60, 0.61, 0.605), "balanced-only": (0.66, 0.65, 0.655)}
    for name, share in (("text-only", 0.0), ("balanced-only", 0.5)):
        for seed, value in enumerate(values[name], 1):
            write_scores(seeded_run(tmp_path / f"{name}-seed-{seed}", share, seed), {}, {"boolq": value}, missing=[])
    text = markdown(compare_runs(read_all(tmp_path)))
    gain = 100 * (np.mean(values["balanced-only"]) / np.mean(values["text-only"]) - 1)
    assert f"+{gain:.1f} % [" in text and "paper +5.7" in text, "51.8 against 49.0"


def test_runs_scored_on_other_items_are_not_compared(tmp_path):
    for seed in (1, 2):
        write_scores(seeded_run(tmp_path / f"text-only-seed-{seed}", 0.0, seed), {}, {"boolq": 0.5 + 0.01 * seed}, missing=["piqa"])
        write_scores(seeded_run(tmp_path / f"code-seed-{seed}", 1.0, seed), {}, {"boolq": 0.5, "piqa": 0.4 + 0.01 * seed}, missing=[])
    assert OTHER_ITEMS in words_in(view_of(read_all(tmp_path)))


def test_seeds_that_are_all_alike_decide_nothing(tmp_path):
    for seed in (1, 2):
        write_scores(seeded_run(tmp_path / f"text-only-seed-{seed}", 0.0, seed), {"text": 1.5})
        write_scores(seeded_run(tmp_path / f"code-seed-{seed}", 1.0, seed), {"text": 1.6})
    assert words_in(view_of(read_all(tmp_path))) == [SAME_SEEDS]


def test_unequal_seeds_nan_and_unscored_runs_are_named(tmp_path):
    for seed in (1, 2, 3):
        write_scores(seeded_run(tmp_path / f"text-only-seed-{seed}", 0.0, seed), {"text": 1.5 + 0.01 * seed})
    write_scores(seeded_run(tmp_path / "code-seed-1", 1.0, 1), {"text": 1.6})
    write_scores(seeded_run(tmp_path / "code-seed-2", 1.0, 2), {"text": float("nan")})
    write_scores(seeded_run(tmp_path / "code-seed-3", 1.0, 3), {"text": 1.62})
    seeded_run(tmp_path / "code-seed-4", 1.0, 4)
    view = view_of(read_all(tmp_path))
    (verdict,) = view.verdicts.values()
    assert (verdict.effect.seeds, verdict.effect.base_seeds) == (2, 3)
    wanted = stats.ttest_ind([1.6, 1.62], [1.51, 1.52, 1.53], equal_var=False)
    assert verdict.effect.p_value == pytest.approx(wanted.pvalue)
    text = markdown(compare_runs(view.runs))
    assert "code: 1 of 4 runs without scores." in text
    assert "code, text, bits per byte: 1 of 4 runs gave NaN." in text


def test_a_study_without_scores_or_with_one_variant_has_a_report(tmp_path):
    for seed in (1, 2):
        seeded_run(tmp_path / f"text-only-seed-{seed}", 0.0, seed)
    runs = read_all(tmp_path)
    assert "has not been scored" in markdown(compare_runs(runs))
    for run in runs:
        write_scores(run.folder, {"text": 1.5})
    assert "Nothing to compare: text-only is the only variant." in markdown(compare_runs(read_all(tmp_path)))


@pytest.mark.parametrize("ours, base", [((0.01, 0.012, 0.011), (0.0, 0.0, 0.0)), ((0.5,), (0.4,))])
def test_ratio_needs_seeds_and_a_base_that_is_not_zero(ours, base):
    from codemix_megatron.analysis.effects import ratio_interval

    assert ratio_interval(ours, base) is None


def test_the_papers_filter_is_a_switch_and_says_what_it_leaves_out(tmp_path):
    for seed in (1, 2):
        for name, share in (("text-only", 0.0), ("code", 1.0)):
            run = seeded_run(tmp_path / f"{name}-seed-{seed}", share, seed)
            write_scores(run, {}, {"boolq": 0.6 + 0.01 * seed - 0.1 * share, "piqa": 0.26}, missing=[])
    runs = read_all(tmp_path)
    assert "above chance)" not in markdown(compare_runs(runs))
    text = markdown(compare_runs(runs, Choices(above_chance=True)))
    assert "reasoning (1 of 2 above chance)" in text and "above chance in; left out: piqa." in text
    assert "61.5\u00a0±\u00a00.7" in text, "the mean of boolq alone"


def test_scores_of_other_windows_are_not_compared(tmp_path):
    for seed in (1, 2):
        for name, share in (("text-only", 0.0), ("code", 1.0)):
            run = seeded_run(tmp_path / f"{name}-seed-{seed}", share, seed)
            write_scores(run, {"text": 1.5 + 0.01 * seed})
            scores = Scores.read(run.score_file(80))
            bits = [replace(found, window=256 if share else 512) for found in scores.bits_per_byte]
            replace(scores, bits_per_byte=bits).write(run.score_file(80))
    assert words_in(view_of(read_all(tmp_path))) == [OTHER_ITEMS]


def test_a_begun_study_knows_its_arms_and_the_noise_of_its_seeds(tmp_path):
    values, folder = {"text-only": [1.50, 1.52, 1.49], "code": [1.9, 1.91, 1.93]}, StudyFolder(tmp_path)
    for name, share in (("text-only", 0.0), ("code", 1.0)):
        for seed, value in enumerate(values[name], 1):
            write_scores(seeded_run(folder.runs / f"{name}-small-seed-{seed}", share, seed), {"text": value})
    names = [path.name for path in sorted(folder.runs.iterdir())]
    arms = {name: {"variant": name.partition("-small")[0], "points": {"size": "small"}} for name in names}
    for name in names:
        plan = json.loads((path := folder.runs / name / "plan.json").read_text())
        sums = {source: {"sequences": 1, "tokens": 1, **entry} for source, entry in plan["sources"].items()}
        path.write_text(json.dumps({**plan, "tokens": plan["phases"][0]["tokens"], "sources": sums}))
    folder.write({"variants": {name: [name] for name in names}, "arms": arms})
    runs = read_variants(folder)
    assert {(arm.label, arm.seeds) for arm in group_arms(runs)} == {("text-only-small", 3), ("code-small", 3)}
    (unit, noise) = measured(folder)["text, bits per byte"]
    pooled = np.sqrt(np.mean([np.var(each, ddof=1) for each in values.values()]))
    assert unit == "bits per byte" and (noise.deviation, noise.degrees) == pytest.approx((pooled, 4))


def test_axes_of_seeds_are_no_conditions():
    axes = {"size": {"small": {}, "large": {"model.num_layers": 4}}, "seed": {"seed-1": {"seed": 1}, "seed-2": {"seed": 2}}}
    made = combine({"text-only": []}, axes, [], [], faults := [])
    assert not faults and {(each.name, tuple(each.conditions.items())) for each in made} == {
        (f"text-only-{size}-seed-{seed}", (("size", size),)) for size in ("small", "large") for seed in (1, 2)
    }


def test_measures_are_ordered_by_signal_to_noise_and_bits_lead(tmp_path):
    levels, noise = {"text-only": (0.0, 0.50), "balanced": (0.5, 0.55), "code": (1.0, 0.60)}, [-0.01, 0.0, 0.012]
    table = {}
    for name, (share, level) in levels.items():
        for seed, extra in enumerate(noise, 1):
            tasks = {"clear": level + extra / 10, "noisy": 0.5 + extra}
            write_scores(seeded_run(tmp_path / f"{name}-seed-{seed}", share, seed), {"text": 1.5 + share + extra}, tasks, missing=[])
            table.setdefault(name, []).append(tasks)
    runs = read_all(tmp_path)
    arms = group_arms(runs)
    signals = {measure.label: signal_of(measure, arms) for measure in task_measures(runs)}
    means = [np.mean([tasks["clear"] for tasks in seeds]) for seeds in table.values()]
    inner = [np.var([tasks["clear"] for tasks in seeds], ddof=1) for seeds in table.values()]
    assert signals["clear acc"].ratio == pytest.approx(np.std(means, ddof=1) / np.sqrt(np.mean(inner)))
    assert signals["clear acc"].can_decide and not signals["noisy acc"].can_decide
    assert [measure.label for measure in order_by_signal(task_measures(runs), arms)] == ["clear acc", "noisy acc"]
    assert StudyView(arms, runs).measures[0].label == "text, bits per byte"
    assert "Which measure can decide" in markdown(compare_runs(runs))


def test_tables_can_be_read_without_eyes_and_on_narrow_screens(tmp_path):
    seeded_study(tmp_path, LEVELS, seeds=2, noise=0.01)
    html = page(compare_runs(read_all(tmp_path)))
    assert 'th scope="col"' in html and 'th scope="row"' in html and 'tabindex="0" role="region"' in html
    assert 'data-label="text, bits per byte"' in html
    (label,) = re.findall(r'role="img" aria-label="(text, bits per byte[^"]*lower is better\)[^"]*)"', html)
    assert re.search(r"code [-+\d.]+", label), "the figure's numbers are said in words"


def cooled_study(folder, levels: dict[float, float]) -> list:
    """Return runs of two phases that differ in the share of code of the second, three seeds each."""
    random = np.random.default_rng(2)
    for share, level in levels.items():
        for seed in (1, 2, 3):
            path = folder / f"cooled-{round(100 * share)}-seed-{seed}"
            run = make_curved_run(path, phases={"text": {"text": 1.0, "code": 0.0}, "cooldown": {"text": 1 - share, "code": share}})
            run.recipe.write_text(write_recipe(replace(read_recipe(run.recipe), seed=seed)).replace(str(path), str(folder)))
            write_scores(run, {"text": level + 0.002 * random.normal()})
    return read_all(folder)


def test_the_share_is_that_of_the_phase_that_varies(tmp_path):
    runs = cooled_study(tmp_path, {0.0: 1.50, 0.2: 1.40, 0.4: 1.401})
    (sweep,) = find_sweeps(group_arms(runs))
    assert sweep.shares == (0, 0.2, 0.4) and sweep.where == "in phase 2 of 2, cooldown"
    values = [[run.scores[-1].bits_per_byte[0].value for run in arm.runs] for arm in sweep.arms]
    best = int(np.argmin([np.mean(each) for each in values]))
    others = [i for i in range(3) if i != best]
    welch = {i: stats.ttest_ind(values[i], values[best], equal_var=False) for i in others}
    plain = {i: max(welch[i].pvalue, pooled_p(values[i], values[best], values)) for i in others}
    adjusted = {i: min(1, p * (2 if p == min(plain.values()) else 1)) for i, p in plain.items()}
    assert adjusted[0] < 0.05 < adjusted[3 - best], "what the report has to say"
    text = markdown(compare_runs(runs, Choices(device="h100", price_per_hour=2.5)))
    first, second = (f"{round(100 * sweep.shares[i])}\u202f%" for i in (best, 3 - best))
    low, high = welch[0].confidence_interval(0.95)
    by = f"+{np.mean(values[0]) - np.mean(values[best]):.3f} [{low:.3f},\u00a0{high:.3f}]"
    named = f"{first} has the best mean (3 seeds); not distinguishable from it: {second}; worse: 0\u202f% by {by}."
    assert "Code in phase 2 of 2, cooldown (" in text and f"164K tokens): text, bits per byte: {named}" in text
    hours = 1e13 / (989e12 * 0.4) / 3600
    assert f"| {hours:.2g} | {2.5 * hours:.2g} |" in text


def test_price_needs_a_device():
    with pytest.raises(CodemixError, match="needs a price of at least 0 and a --device"):
        Choices(price_per_hour=2.0)
    with pytest.raises(CodemixError, match="no device 'h1000'"):
        Choices(device="h1000")


def test_dots_of_quality_and_cooldown_panels_are_means_and_spreads_over_seeds(tmp_path):
    values = seeded_study(tmp_path, LEVELS, seeds=3, noise=0.02)
    view = view_of(read_all(tmp_path))
    measure = next(m for m in view.measures if m.label.startswith("text"))
    for arm in view.arms:
        dot = mean_dot(measure, arm)
        mean, spread = np.mean(values[arm.label]), np.std(values[arm.label], ddof=1)
        assert (dot.value, dot.low, dot.high) == pytest.approx((mean, mean - spread, mean + spread))


def test_the_table_of_mixtures_counts_what_journals_say_was_consumed(tmp_path):
    seeded_study(tmp_path, LEVELS, seeds=1, noise=0.003)
    runs = read_all(tmp_path)
    table = mixture_table(runs, [run.name for run in runs])
    kinds = {name: spec.kind for name, spec in read_recipe(runs[0].folder.recipe).corpora.items()}
    for run, row in zip(runs, table.rows, strict=True):
        lines = [json.loads(line) for line in run.folder.journal.read_text().splitlines()]
        last = [line for line in lines if line["event"] == "step"][-1]["tokens_per_source"]
        total = sum(last.values())
        for kind, cell in zip(table.headings[4:], row[4:], strict=True):
            tokens = sum(count for source, count in last.items() if kinds[source].replace("_", " ") == kind)
            assert int(cell.text.replace(",", "")) == tokens
            assert not total or float(cell.below.rstrip(" %\u202f\u00a0")) == pytest.approx(100 * tokens / total, abs=0.51)


def test_an_effect_that_would_read_as_zero_shows_two_digits(tmp_path):
    random = np.random.default_rng(1)
    for name, share, level in (("text-only", 0.0, 1.5), ("code", 1.0, 1.49982)):
        for seed in (1, 2, 3):
            write_scores(seeded_run(tmp_path / f"{name}-seed-{seed}", share, seed), {"text": level + 1e-5 * random.normal()})
    view = view_of(read_all(tmp_path))
    verdict = next(iter(view.verdicts.values()))
    said = effect_text(next(m for m in view.measures if m.label.startswith("text")), verdict)
    shown = [float(number) for number in re.findall(r"\d+\.\d+", said)]
    assert shown == pytest.approx([abs(n) for n in (verdict.effect.value, verdict.effect.low, verdict.effect.high)], rel=0.05)
    assert shown[0] > 0
