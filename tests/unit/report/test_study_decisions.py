"""What a study's report decides on sizes, kinds, the untouched model and while training: every number held against scipy and numpy alone."""

import re
from dataclasses import replace

import numpy as np
import pytest
from curved_run import make_curved_run
from scipy import stats
from seeded_study import seeded_run, seeded_study, write_scores
from test_study_conclusions import pooled_p, read_all, view_of

from codemix_megatron.errors import CodemixError
from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import Scores
from codemix_megatron.report.arms import group_arms
from codemix_megatron.report.base_models import judge_from_base
from codemix_megatron.report.choices import Choices
from codemix_megatron.report.comparison import compare_runs, decision_of
from codemix_megatron.report.languages import language_sections
from codemix_megatron.report.law_proposal import law_sections, read_proposals
from codemix_megatron.report.markdown import block_markdown, markdown
from codemix_megatron.report.page import page
from codemix_megatron.report.paper import read_paper
from codemix_megatron.report.printing import find_browser, write_pdf
from codemix_megatron.report.scales import find_scales, judge_scales, paper_scale, scale_line
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.verdicts import ONE_RUN, OTHER_ITEMS
from codemix_megatron.study.reporting import untrained


def sized_study(folder, changes: dict[str, float], seeds: int = 3) -> tuple[list, dict]:
    """Return runs of text-only and balanced at two sizes, balanced worse by `changes` of the size; and what each scored."""
    random, runs, values = np.random.default_rng(5), [], {}
    for size, change in changes.items():
        for name, share in (("text-only", 0.0), ("balanced", 0.5)):
            for seed in range(1, seeds + 1):
                run = seeded_run(folder / f"{name}-{size}-seed-{seed}", share, seed)
                value = 1.5 + (change if share else 0.0) + 0.003 * random.normal()
                write_scores(run, {"text": value})
                values.setdefault((name, size), []).append(value)
    for run in read_all(folder):
        variant, size = run.folder.path.name.rsplit("-seed", 1)[0].rsplit("-", 1)
        parameters = {"small": 470_000_000, "large": 2_800_000_000}[size]
        plan = {**run.plan, "parameters": {"total": parameters, "without_embedding": parameters}}
        recipe = replace(run.recipe, model=replace(run.recipe.model, num_layers=2 if size == "small" else 8))
        runs.append(replace(run, variant=variant, points={"size": size}, recipe=recipe, plan=plan))
    return runs, values


def test_whether_size_matters_is_a_difference_of_differences(tmp_path):
    runs, values = sized_study(tmp_path, {"small": 0.02, "large": 0.20})
    view = view_of(runs)
    (scale,) = find_scales(view)
    assert [arm.parameters for arm, _ in scale.pairs] == [470_000_000, 2_800_000_000] and scale.name == "balanced"
    four = [values[key] for key in (("balanced", "large"), ("text-only", "large"), ("balanced", "small"), ("text-only", "small"))]
    parts = [np.var(each, ddof=1) / 3 for each in four]
    value, error = np.dot([1, -1, -1, 1], [np.mean(each) for each in four]), np.sqrt(sum(parts))
    degrees = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    verdict = judge_scales([scale], view.measures)[0, 0]
    assert (verdict.effect.value, verdict.effect.p_value) == pytest.approx((value, 2 * stats.t.sf(abs(value) / error, degrees)))
    assert verdict.words == "worse"
    text = markdown(compare_runs(runs))
    reach = stats.t.ppf(0.975, degrees) * error
    said = f"at 2.8B its change differs from that at 470M by {value:+.3f} [{value - reach:.3f}, {value + reach:.3f}] bits per byte"
    assert said in text
    (small, low, reach_small), (large, high, _) = scale_line(scale, view.measures[0])
    assert (small, large) == (470e6, 2.8e9)
    assert (low, high) == pytest.approx((np.mean(four[2]) - np.mean(four[3]), np.mean(four[0]) - np.mean(four[1])))
    welch = stats.ttest_ind(four[2], four[3], equal_var=False).confidence_interval(0.95)
    assert low + reach_small == pytest.approx(welch.high)


def test_sizes_of_single_runs_decide_nothing_and_a_like_change_is_not_told_apart(tmp_path):
    runs, _ = sized_study(tmp_path / "one", {"small": 0.02, "large": 0.2}, seeds=1)
    assert "one run of each: whether size matters cannot be told." in markdown(compare_runs(runs))
    runs, _ = sized_study(tmp_path / "like", {"small": 0.1, "large": 0.1})
    assert "balanced, 81.9K tokens: change at 2.8B cannot be told from that at 470M on any of 1 measure." in markdown(compare_runs(runs))


def test_lines_of_the_paper_over_sizes_are_its_figures():
    """Figure 3 and Table 2 by hand: code to text gains 3.4 points of reasoning over balanced-only at 2.8B, and there is no text-only."""
    lines = paper_scale(read_paper(), "reason")
    assert lines["code→text"][1] == (2.8e9, pytest.approx(57.9 - 54.5)) and set(lines) == {"balanced→text", "code→text"}


def test_the_untouched_model_is_a_constant_that_no_seed_changes(tmp_path):
    values = seeded_study(tmp_path / "runs", {"text-only": (0.0, 1.50), "code": (1.0, 1.62)}, seeds=3, noise=0.004)
    base = RunFolder(tmp_path / "@base-tiny")
    run = read_all(tmp_path / "runs")[0]
    scores = replace(run.scores[-1], bits_per_byte=[replace(run.scores[-1].bits_per_byte[0], value=1.6)])
    public = untrained(base, "tiny", scores)
    runs = read_all(tmp_path / "runs")
    arms = group_arms(runs)
    view = StudyView(arms, runs, untrained=[public])
    verdicts = judge_from_base(arms, public, view.measures)
    tests = [stats.ttest_1samp(values[arm.label], 1.6) for arm in arms]
    order = np.argsort([test.pvalue for test in tests])
    for i, arm in enumerate(arms):
        interval = tests[i].confidence_interval(0.95)
        assert verdicts[i, 0].effect.value == pytest.approx(np.mean(values[arm.label]) - 1.6)
        assert (verdicts[i, 0].effect.low + 1.6, verdicts[i, 0].effect.high + 1.6) == pytest.approx((interval.low, interval.high))
        holm = tests[order[0]].pvalue * 2 if i == order[0] else max(tests[order[0]].pvalue * 2, tests[i].pvalue)
        assert verdicts[i, 0].adjusted == pytest.approx(min(1, holm))
    text = markdown(compare_runs(runs, Choices(), [public]))
    assert "## Against the untouched model" in text and "| tiny (before any training here) |  | 1.600 |" in text
    single = StudyView(arms[:1], runs[:1], untrained=[public])
    assert judge_from_base([replace(arms[0], runs=arms[0].runs[:1])], public, single.measures)[0, 0].words == ONE_RUN
    other = untrained(base, "tiny", replace(scores, bits_per_byte=[replace(scores.bits_per_byte[0], documents=59)]))
    assert judge_from_base(arms, other, view.measures)[0, 0].words == OTHER_ITEMS


def test_what_was_measured_while_training_is_judged_over_seeds_and_never_from_one_run(tmp_path):
    seeded_study(tmp_path / "one", {"text-only": (0.0, 1.5), "code": (1.0, 1.5)}, seeds=1, noise=0.003)
    section = next(s for s in compare_runs(read_all(tmp_path / "one")).sections if s.anchor == "training")
    words = block_markdown(section.blocks[-1])
    assert ONE_RUN in words and " %" not in words.partition("\n\n")[0].replace("0\u202f%", "").replace("100\u202f%", "")
    assert "better" not in words and "worse" not in words.partition("\n\n")[0]

    random, ends = np.random.default_rng(0), {}
    for name, share in (("text-only", 0.0), ("code", 1.0)):
        for seed in (1, 2, 3):
            run = seeded_run(tmp_path / "three" / f"{name}-seed-{seed}", share, seed)
            ends.setdefault(name, []).append(1.5 + share / 2 + 0.01 * random.normal())
            lines = run.journal.read_text().splitlines()
            last = max(i for i, line in enumerate(lines) if '"validation"' in line)
            lines[last] = re.sub(r'"text": ?[\d.]+', f'"text": {ends[name][-1]}', lines[last])
            run.journal.write_text("\n".join(lines) + "\n")
    runs = read_all(tmp_path / "three")
    section = next(s for s in compare_runs(runs).sections if s.anchor == "training")
    text = block_markdown(section.blocks[-1])
    welch = stats.ttest_ind(ends["code"], ends["text-only"], equal_var=False)
    value = np.mean(ends["code"]) - np.mean(ends["text-only"])
    interval = welch.confidence_interval(0.95)
    assert max(welch.pvalue, pooled_p(ends["code"], ends["text-only"], ends.values())) < 0.025
    assert f"+{value:.3f} [{interval.low:.3f},\u00a0{interval.high:.3f}]; worse" in text


def test_cooldowns_repeated_from_one_trunk_are_seeds_and_said_to_be_of_one_trunk(tmp_path):
    values, runs = {"code": [1.40, 1.41, 1.405], "no-code": [1.50, 1.512, 1.503]}, []
    for name, share in (("no-code", 0.0), ("code", 0.2)):
        for seed, value in enumerate(values[name], 1):
            path = tmp_path / f"{name}-data_seed-{seed}"
            run = make_curved_run(path, phases={"text": {"text": 1.0, "code": 0.0}, "cooldown": {"text": 1 - share, "code": share}})
            recipe = read_recipe(run.recipe)
            phases = (recipe.phases[0], replace(recipe.phases[1], data_seed=seed))
            run.recipe.write_text(write_recipe(replace(recipe, phases=phases)).replace(str(path), str(tmp_path)))
            write_scores(run, {"text": value})
    runs = [replace(run, ancestors=[tmp_path / "trunk"]) for run in read_all(tmp_path)]
    arms = group_arms(runs)
    assert [(arm.seeds, arm.repeated_phase) for arm in arms] == [(3, "cooldown")] * 2
    view = StudyView(arms, runs)
    (verdict,) = view.verdicts.values()
    pairs = np.array(values["no-code"]) - np.array(values["code"])
    assert verdict.effect.method == "paired t" and verdict.effect.p_value == pytest.approx(stats.ttest_1samp(pairs, 0).pvalue)
    text = markdown(compare_runs(runs))
    assert "3 data seeds of cooldown, one trunk" in text
    assert "seeds repeat cooldown from one trunk, so intervals hold what another order of its data would change" in text


def test_hours_and_price_are_those_of_the_size_that_was_asked_for(tmp_path):
    seeded_study(tmp_path, {"text-only": (0.0, 1.5), "half": (0.5, 1.6)}, seeds=2, noise=0.01)
    choices = Choices(device="h100", price_per_hour=2.5, at_parameters=7_000_000_000, at_tokens=10**12)
    text = markdown(compare_runs(read_all(tmp_path), choices))
    hours = 6 * 7e9 * 1e12 / (989e12 * 0.4) / 3600
    assert "h100 hours of a run of 7B parameters and 1T tokens" in text
    assert f"| {hours:,.0f} | {2.5 * hours:,.0f} |".replace(",", "\u202f") in text.replace(",", "\u202f")
    with pytest.raises(CodemixError, match="--at-tokens 5: needs a number of at least 1 and a --device"):
        Choices(at_tokens=5)


PROPOSALS = """
- {purpose: best, predicted: 1.23456, interval_90: [1.2, 1.3], cannot_be_told_apart: {text: [0.5, 0.8], code: [0.2, 0.5]},
   is_beyond_what_was_tried: false, most_epochs: null, mixture: {text: 0.7, code: 0.3}}
- {purpose: explore, predicted: 1.3, is_beyond_what_was_tried: true, phases: [{name: start, mixture: {code: 1}}, {name: end, mixture: {text: 1}}]}
"""


def test_what_a_law_proposes_stands_in_the_report_and_a_damaged_file_is_named(tmp_path):
    assert read_proposals(tmp_path) == [] == law_sections([])
    (tmp_path / "proposals.yaml").write_text(PROPOSALS)
    (section,) = law_sections(read_proposals(tmp_path))
    text = block_markdown(section.blocks[0])
    best = "| best | text 70\u202f%, code 30\u202f% | 1.235 ([1.200, 1.300]) | text 50\u202f% to 80\u202f%, code 20\u202f% to 50\u202f% |"
    assert best in text.replace("\\[", "[")
    assert "start: code 100\u202f%; end: text 100\u202f%" in text and "beyond what was tried" in text
    for damaged in ("- {purpose: best}", "[: no", "text"):
        (tmp_path / "proposals.yaml").write_text(damaged)
        with pytest.raises(CodemixError, match="proposals.yaml: .*write it again: codemix law --output"):
            read_proposals(tmp_path)


def test_languages_stand_row_by_row_with_their_means(tmp_path):
    for name, share in (("text-only", 0.0), ("code", 1.0)):
        for seed in (1, 2, 3):
            run = seeded_run(tmp_path / f"{name}-seed-{seed}", share, seed)
            write_scores(run, {}, {"rust": 1.2 - 0.3 * share + 0.01 * seed, "novels": 1.4 + 0.001 * seed})
            scores = Scores.read(run.score_file(80))
            tasks = [replace(t, suite="languages", metric="bits_per_byte", higher_is_better=False, chance=None) for t in scores.tasks]
            replace(scores, tasks=tasks, aggregates=[]).write(run.score_file(80))
    (section,) = language_sections(view_of(read_all(tmp_path)))
    text = block_markdown(section.blocks[0])
    assert "| rust | 0.920\u00a0±\u00a00.010 (−0.300 [" in text and "better) | 1.220\u00a0±\u00a00.010 (reference) |" in text
    assert "| novels | 1.402\u00a0±\u00a00.001" in text


def test_measures_that_cannot_decide_are_grey_and_named(tmp_path):
    for name, share, level in (("text-only", 0.0, 0.5), ("half", 0.5, 0.501)):
        for seed in (1, 2, 3):
            tasks = {"noisy": level + 0.02 * (seed - 2)}
            write_scores(seeded_run(tmp_path / f"{name}-seed-{seed}", share, seed), {"text": 1.5 + share + 0.001 * seed}, tasks, missing=[])
    report = compare_runs(read_all(tmp_path))
    assert "Grey: reasoning, whose noise is too near their signal" in markdown(report)
    assert '<td class="quiet" data-label="reasoning">' in page(report)


def test_the_page_to_decide_by_is_part_of_the_report_and_prints(tmp_path):
    seeded_study(tmp_path / "runs", {"text-only": (0.0, 1.5), "half": (0.5, 1.6)}, seeds=2, noise=0.01)
    report = compare_runs(read_all(tmp_path / "runs"))
    chosen = decision_of(report)
    assert [section.anchor for section in chosen.sections] == ["answers", "decision"]
    html = tmp_path / "decision.html"
    html.write_text(page(chosen))
    if find_browser() is None:
        with pytest.raises(CodemixError, match="open .* in one and print it"):
            write_pdf(html)
    else:
        assert write_pdf(html).read_bytes().startswith(b"%PDF-")


def test_a_browser_that_does_not_print_is_named(tmp_path, monkeypatch):
    (tmp_path / "decision.html").write_text("<p>x")
    monkeypatch.setenv("CODEMIX_BROWSER", "/bin/false")
    with pytest.raises(CodemixError, match="--pdf: /bin/false did not print"):
        write_pdf(tmp_path / "decision.html")


def test_costs_and_the_drawn_sweep_are_counted_from_journals_and_scores(tmp_path):
    """80 steps of 0.4 s and 1,024 tokens on four ranks, as the journals say; curves by numpy alone."""
    values = seeded_study(tmp_path, {"text-only": (0.0, 1.5), "half": (0.5, 1.6), "code": (1.0, 1.9)}, seeds=3, noise=0.004)
    report = compare_runs(read_all(tmp_path))
    cost = block_markdown(next(s for s in report.sections if s.anchor == "cost").blocks[0])
    seconds = 3 * 80 * 0.4
    speed = 3 * 80 * 1024 / seconds
    done = f"{speed / 1e3:.3g}K | {speed * 15_630_336 / 1e9:.3g}\u202fGFLOP/s |"
    assert f"| half (3 seeds) | 2.41M | 81.9K | 1\u202fmin 36\u202fs | {4 * seconds / 3600:.2f} | {done}" in cost
    sweep = next(s for s in report.sections if s.anchor == "sweep").blocks[0]
    changes = [np.mean(values[name]) - np.mean(values["text-only"]) for name in ("half", "code")]
    assert f"change by share of code: 0 % +0; 50 % {changes[0]:+.3g}; 100 % {changes[1]:+.3g}" in sweep.description
    curve = next(block for block in next(s for s in report.sections if s.anchor == "training").blocks if hasattr(block, "description"))
    ends = [run.validations[-1] for run in read_all(tmp_path)]
    assert f"half {np.mean([end.bits_per_byte['text'] for end in ends[3:6]]):.3f} after" in curve.description
