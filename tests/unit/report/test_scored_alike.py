"""Numbers of a study's page are of runs that were scored alike: after as many tokens, on the same items; and captions say what was tested."""

from dataclasses import replace

import numpy as np
import pytest
from seeded_study import seeded_run, seeded_study, write_scores
from test_study_conclusions import read_all, view_of
from test_study_decisions import sized_study

from codemix_megatron.report import decision, verdicts
from codemix_megatron.report.comparison import compare_runs
from codemix_megatron.report.compute_gains import compute_gain_sections
from codemix_megatron.report.decision import find_alternatives, judge_choices
from codemix_megatron.report.markdown import block_markdown, markdown
from codemix_megatron.report.paper_filter import filtered_measures
from codemix_megatron.report.paper_gains import ratio_cell
from codemix_megatron.report.scales import find_scales, judge_scales, scale_line
from codemix_megatron.report.signal import signal_of
from codemix_megatron.report.study_figures import line_of
from codemix_megatron.report.sweeps import find_sweeps
from codemix_megatron.report.wording import distinct_percents


def scored_early(run, tokens: int = 20_000):
    """Return a run whose scores were made before it had ended."""
    return replace(run, scores=[replace(run.scores[-1], tokens=tokens)])


def test_sizes_are_not_compared_where_a_run_was_scored_before_its_end(tmp_path):
    """The large variant stands at a quarter of its tokens: what it lacks is training, not what size changes."""
    runs, _ = sized_study(tmp_path, {"small": 0.02, "large": 0.20})
    early = [scored_early(run) if (run.variant, run.points["size"]) == ("balanced", "large") else run for run in runs]
    (scale,) = find_scales(view_of(early))
    (measure,) = view_of(early).measures
    assert judge_scales([scale], [measure]) == {} and [size for size, _, _ in scale_line(scale, measure)] == [470e6]
    (whole,) = find_scales(view_of(runs))
    assert len(judge_scales([whole], [measure])) == 1 and len(scale_line(whole, measure)) == 2


def test_sizes_beside_another_axis_are_not_left_out(tmp_path):
    """Sizes times kinds: each kind is a line of its own; both were left out in silence."""
    runs = []
    for kind, more in (("web", 0.02), ("books", 0.05)):
        sized, _ = sized_study(tmp_path / kind, {"small": more, "large": 2 * more})
        for run in sized:
            recipe = replace(run.recipe, optimizer=replace(run.recipe.optimizer, weight_decay=0.1 if kind == "web" else 0.2))
            runs.append(replace(run, points={**run.points, "kind": kind}, recipe=recipe))
    scales = find_scales(view_of(runs))
    assert sorted(scale.name for scale in scales) == ["balanced-books", "balanced-web"]
    assert all(len(scale.pairs) == 2 for scale in scales)


def test_no_ratio_over_a_reference_that_was_scored_after_other_tokens(tmp_path):
    seeded_study(tmp_path, {"text-only": (0.0, 1.5), "code": (1.0, 1.6)}, seeds=3, noise=0.004)
    runs = read_all(tmp_path)
    view = view_of(runs)
    ours, base = (next(arm for arm in view.arms if arm.label == name) for name in ("code", "text-only"))
    assert "%" in str(ratio_cell(view.measures[0], ours, base, "+1.0 %").text)
    early = replace(ours, runs=tuple(map(scored_early, ours.runs)))
    assert "%" not in str(ratio_cell(view.measures[0], early, base, "+1.0 %").text)


def test_signal_is_of_variants_scored_alike(tmp_path):
    """Four variants alike and one at a quarter of its tokens: its lag is no signal. Judge: numpy over the four."""
    levels = {name: (share, 1.5 + share / 10) for name, share in (("text-only", 0.0), ("a", 0.25), ("b", 0.5), ("c", 0.75))}
    values = seeded_study(tmp_path, {**levels, "late": (1.0, 3.0)}, seeds=2, noise=0.004)
    runs = [scored_early(run) if run.folder.path.name.startswith("late") else run for run in read_all(tmp_path)]
    view = view_of(runs)
    wanted = np.std([np.mean(values[name]) for name in levels], ddof=1)
    assert signal_of(view.measures[0], view.arms).spread == pytest.approx(wanted)


def test_a_sweep_draws_only_what_was_scored_as_its_first_point(tmp_path):
    seeded_study(tmp_path, {"text-only": (0.0, 1.5), "half": (0.5, 1.6), "code": (1.0, 1.7)}, seeds=1, noise=0.0)
    runs = [scored_early(run) if run.folder.path.name == "half" else run for run in read_all(tmp_path)]
    view = view_of(runs)
    (sweep,) = find_sweeps(view.arms)
    assert [round(share) for share, _, _ in line_of(sweep, view.measures[0])] == [0, 100]
    (choice,) = find_alternatives(view)
    judged = decision.judge_alternatives(choice, view)
    best = next(i for i, verdict in judged[0].items() if verdict is None)
    assert choice.arms[best].label == "text-only"


def test_the_best_mean_is_not_that_of_a_run_scored_on_other_items(tmp_path):
    """The best value is of 20 documents where all others have 60."""
    seeded_study(tmp_path, {"text-only": (0.0, 1.5), "half": (0.5, 1.2), "code": (1.0, 1.7)}, seeds=2, noise=0.001)
    runs = []
    for run in read_all(tmp_path):
        if run.folder.path.name.startswith("half"):
            bits = replace(run.scores[-1].bits_per_byte[0], documents=20)
            run = replace(run, scores=[replace(run.scores[-1], bits_per_byte=[bits])])
        runs.append(run)
    assert "50 % has the best mean" not in markdown(compare_runs(runs)).replace("\u202f", " ")


def test_shares_that_round_to_the_same_percent_have_names_of_their_own(tmp_path):
    assert distinct_percents([0.012, 0.014, 0.5]) == ("1.2\u202f%", "1.4\u202f%", "50.0\u202f%")
    assert distinct_percents([0.0, 0.25]) == ("0\u202f%", "25\u202f%")
    seeded_study(tmp_path, {"text-only": (0.0, 1.5), "a": (0.012, 1.5), "b": (0.014, 1.5)}, seeds=1, noise=0.0)
    names = [name for choice in find_alternatives(view_of(read_all(tmp_path))) for name in choice.names]
    assert len(names) == len(set(names)) >= 2


def test_captions_do_not_correct_for_comparisons_that_were_not_made(tmp_path):
    seeded_study(tmp_path / "one", {"text-only": (0.0, 1.5), "code": (1.0, 1.7)}, seeds=1, noise=0.0)
    text = markdown(compare_runs(read_all(tmp_path / "one")))
    assert "over 0 comparisons" not in text and "Nothing could be tested" in text
    seeded_study(tmp_path / "three", {"text-only": (0.0, 1.5), "code": (1.0, 1.7)}, seeds=3, noise=0.004)
    assert "Holm's correction over 1 comparison." in markdown(compare_runs(read_all(tmp_path / "three")))


def test_a_page_judges_each_choice_once(tmp_path, monkeypatch):
    seeded_study(tmp_path, {"text-only": (0.0, 1.5), "code": (1.0, 1.7)}, seeds=3, noise=0.004)
    runs, asked = read_all(tmp_path), []
    real = decision.judge_alternatives
    monkeypatch.setattr(decision, "judge_alternatives", lambda choice, view: asked.append(choice.where) or real(choice, view))
    compare_runs(runs)
    assert asked and len(asked) == len(set(asked)) == len(judge_choices(view_of(runs)))


def test_pages_and_their_report_share_one_view(tmp_path, monkeypatch):
    """The view holds the verdicts of every arm; a study's page and its report made one each."""
    seeded_study(tmp_path, {"text-only": (0.0, 1.5), "code": (1.0, 1.7)}, seeds=3, noise=0.004)
    runs = read_all(tmp_path)
    view, made = view_of(runs), []
    real = verdicts.judge
    monkeypatch.setattr("codemix_megatron.report.study_view.judge", lambda *words, **named: made.append(1) or real(*words, **named))
    compare_runs(runs, view=view)
    assert not made


def test_compute_gain_counts_the_flops_until_the_scores(tmp_path):
    """Reference at three amounts, the other scored at a quarter of its tokens: it needs 4 times fewer FLOPs than its last step has."""
    runs = []
    for i, (variant, tokens, loss) in enumerate(
        (("base", 10_000, 3.0), ("base", 20_000, 2.5), ("base", 40_000, 2.0), ("other", 20_000, 2.5))
    ):
        run = seeded_run(tmp_path / f"{variant}-{i}", 0.5 if variant == "other" else 0.0, 1)
        write_scores(run, {"text": loss}, tokens=tokens)
    runs = [replace(run, variant=run.folder.path.name.split("-")[0]) for run in read_all(tmp_path)]
    (section,) = compute_gain_sections(runs, view_of(runs).measures)
    (row,) = section.blocks[0].rows
    assert row[4].text == "1.00" and "base would need" in section.blocks[0].caption


def test_compute_gain_is_not_read_from_another_variant_than_the_caption_names(tmp_path):
    """The first variant is not scored: nothing is read, instead of reading from the second one under the first one's name."""
    for i, tokens in enumerate((10_000, 20_000, 40_000)):
        for variant in ("first", "second", "third"):
            run = seeded_run(tmp_path / f"{variant}-{i}", 0.5, 1)
            if variant != "first":
                write_scores(run, {"text": 3.0 - 0.5 * i}, tokens=tokens)
    runs = [replace(run, variant=run.folder.path.name.split("-")[0]) for run in read_all(tmp_path)]
    assert compute_gain_sections(runs, view_of(runs).measures) == []


def test_the_paper_s_filter_leaves_means_of_bits_per_byte_alone(tmp_path):
    """They know no chance, and were shown as points of which more are better."""
    run = seeded_run(tmp_path / "run", 0.5, 1)
    write_scores(run, {"text": 1.5}, {"arc": 0.5, "piqa": 0.6})
    (read,) = read_all(tmp_path)
    tasks = [replace(task, metric="bits_per_byte", value=1.2, chance=None, higher_is_better=False) for task in read.scores[-1].tasks]
    bits = replace(read, scores=[replace(read.scores[-1], tasks=tasks)])
    assert len(filtered_measures([read])) == 1 and filtered_measures([bits]) == []


def test_block_of_the_decision_says_nothing_was_tested_in_words(tmp_path):
    seeded_study(tmp_path, {"text-only": (0.0, 1.5), "code": (1.0, 1.7)}, seeds=1, noise=0.0)
    section = next(s for s in compare_runs(read_all(tmp_path)).sections if s.anchor == "decision")
    assert "that takes several seeds" in "".join(map(block_markdown, section.blocks))


def test_arms_with_another_learning_rate_are_no_points_of_a_sweep(tmp_path):
    """A sweep is of arms that differ in nothing but code; half the rate at 50 % code would be read as what code does."""
    seeded_study(tmp_path, {"text-only": (0.0, 1.5), "half": (0.5, 1.2), "code": (1.0, 1.7)}, seeds=1, noise=0.0)
    (sweep,) = find_sweeps(view_of(read_all(tmp_path)).arms)
    assert sweep.shares == (0.0, 0.5, 1.0)
    runs = []
    for run in read_all(tmp_path):
        if run.folder.path.name == "half":
            (phase,) = run.recipe.phases
            slower = replace(phase, learning_rate=replace(phase.learning_rate, peak=phase.learning_rate.peak / 2))
            run = replace(run, recipe=replace(run.recipe, phases=(slower,)))
        runs.append(run)
    (sweep,) = find_sweeps(view_of(runs).arms)
    assert sweep.shares == (0.0, 1.0)
