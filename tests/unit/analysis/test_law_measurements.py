"""Which numbers a law is fitted to and what it may say of them: scores of the step that the shares are of, of one kind, within what was measured."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_law import two_domains, wish, write_run

from codemix_megatron.analysis.law_fitting import choose_law, fit_forms
from codemix_megatron.analysis.law_intervals import HeldOutSpread
from codemix_megatron.analysis.law_runs import find_runs, table_of_runs
from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.analysis.law_views import fit_views, propose_mixtures
from codemix_megatron.cli.main import main
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import BitsPerByte, Scores
from codemix_megatron.report.paper import read_paper


def scored(folder: Path, step: int, value: float, window: int = 64) -> None:
    """Write the scores of one step."""
    bits = BitsPerByte(corpus="text", value=value, standard_error=0.1, documents=5, tokens=500, bytes=2000, window=window)
    Scores(model="x", step=step, tokens=100 * step, bits_per_byte=[bits]).write(folder / "scores" / f"step-{step:08d}.json")


def changed_journal(folder: Path, change) -> None:
    """Write the events of a journal as `change` gives them."""
    path = folder / "journal.jsonl"
    events = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def table_in(folder: Path):
    """Return the table of all runs in a folder, with its notes."""
    return table_of_runs(find_runs([folder]))


def test_shares_and_tokens_are_those_of_the_step_that_was_scored(tmp_path):
    """Text alone until step 10, where it was evaluated; it has read as much code since."""
    run = write_run(tmp_path / "run", [("one", {"text": 100}), ("two", {"code": 100})], 1.5)
    scored(run, 10, 1.2)
    (row,) = table_in(tmp_path).table.totals().shares.tolist()
    table = table_in(tmp_path).table
    assert dict(zip(table.totals().domains, row, strict=True)) == {"text": 1.0}
    assert table.values.tolist() == [[1.2]]


def test_a_run_measured_before_its_first_step_is_no_point_of_a_law(tmp_path):
    write_run(tmp_path / "begun", [("one", {"text": 100})], 1.5)
    changed_journal(tmp_path / "begun", lambda events: [{**events[-1], "step": 0}, *events[:-1]])
    write_run(tmp_path / "done", [("one", {"text": 100})], 1.0)
    found = table_in(tmp_path)
    assert found.table.runs == ["done"]
    assert any("1 of 2 runs have not trained or not been measured and are left out: begun" in note for note in found.notes)


def test_steps_that_a_resume_made_void_do_not_count(tmp_path):
    """It had gone on to code, was resumed from step 10 and read text instead; phase two's code was undone."""
    run = write_run(tmp_path / "run", [("one", {"text": 100}), ("two", {"code": 100})], 1.5)
    again = {"event": "step", "step": 11, "phase": "three", "tokens": 1100, "tokens_per_source": {"text": 1100}}
    measured = {"event": "validation", "step": 11, "bits_per_byte": {"text": 1.1}}
    changed_journal(run, lambda events: [*events, {"event": "start", "step": 10}, again, measured])
    table = table_in(tmp_path).table
    assert table.totals().domains == ["text"] and table.values.tolist() == [[1.1]]


def test_a_run_that_is_given_twice_counts_once(tmp_path):
    run = write_run(tmp_path / "run", [("one", {"text": 100})], 1.5)
    (tmp_path / "link").symlink_to(tmp_path)
    assert [found.path.resolve() for found in find_runs([run, tmp_path, tmp_path / "link"])] == [run.resolve()]


def test_evaluations_and_what_training_measured_are_not_pooled(tmp_path):
    """An evaluation reads all held-out documents, training some sequences of them: a difference between the two is no effect of a mixture."""
    runs = [write_run(tmp_path / f"run-{i}", [("one", {"text": 50 + i, "code": 50 - i})], 2.0 + i) for i in range(4)]
    for run in runs[:2]:
        scored(run, 10, 1.0)
    found = table_in(tmp_path)
    assert found.table.values[:, 0].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert "text bits_per_byte: 2 of 4 runs are evaluated; what all measured while training is taken" in found.notes
    for i, run in enumerate(runs[2:]):
        scored(run, 10, 1.1 + i)
    assert table_in(tmp_path).table.values[:, 0].tolist() == [1.0, 1.0, 1.1, 2.1]


def test_scores_made_with_another_window_are_left_out_and_named(tmp_path):
    for i in range(4):
        run = write_run(tmp_path / f"run-{i}", [("one", {"text": 50 + i, "code": 50 - i})], 2.0)
        changed_journal(run, lambda events: events[:-1])
        scored(run, 10, 1.0 + i, window=64 if i else 32)
    found = table_in(tmp_path)
    assert np.isnan(found.table.values[0, 0]) and found.table.values[1:, 0].tolist() == [2.0, 3.0, 4.0]
    assert any("1 of 4 runs measured it on other documents or items, or with another window" in n and "run-0" in n for n in found.notes)


def test_what_only_runs_without_the_score_have_tried_is_not_proposed():
    """Ten runs of 0 to 30 % code are measured; two of 80 and 100 % failed. A law knows nothing of them: 3.08 at 100 % is the truth."""
    code = np.array([*np.linspace(0, 0.3, 10), 0.8, 1.0])
    values = np.where(code > 0.5, np.nan, 2 - code)
    fit = fit_views(two_domains(code, values), "loss", ("log_linear", "quadratic"))
    assert max(p.shares["code"] for p in propose_mixtures([fit], wish(), [])) <= 0.3 + 1e-9


def test_a_control_beyond_what_was_tried_is_marked():
    code = np.linspace(0, 0.3, 10)
    fit = fit_views(two_domains(code, 2 + 3 * (code - 0.2) ** 2), "loss", ("quadratic",))
    found = {p.purpose: p for p in propose_mixtures([fit], wish(corpus_tokens={"text": 100, "code": 300}), [])}
    assert found["control: in proportion to size"].shares["code"] == pytest.approx(0.75)
    assert [purpose for purpose, p in found.items() if p.is_outside] == ["control: in proportion to size"]


def test_best_at_the_smallest_share_that_was_tried_is_noted():
    random = np.random.default_rng(3)
    rest = random.dirichlet(np.ones(2), 20)
    markup = random.uniform(0.2, 0.5, 20)
    shares = np.column_stack([rest * (1 - markup)[:, None], markup])
    loss = 2 + 3 * (shares[:, 0] - 0.4) ** 2 + 20 * markup
    table = MixtureTable(
        runs=[str(i) for i in range(20)], domains=["text", "code", "markup"], shares=shares, metrics=["loss"], values=loss[:, None]
    )
    notes: list[str] = []
    propose_mixtures([fit_views(table, "loss", ("quadratic",))], wish(), notes)
    assert any("at the smallest share of markup that was tried" in note for note in notes)


def test_views_are_compared_out_of_range_only_where_both_were_asked_there():
    """Seven runs are enough to leave some out over totals, and too few over phases: the error out of range of one alone decides nothing."""
    from codemix_megatron.analysis.law_views import is_no_worse

    random = np.random.default_rng(0)
    code = random.random(15)
    (far,) = fit_forms(two_domains(code, 2 + code + 0.1 * random.normal(size=15)), "loss", ("quadratic",))
    (near,) = fit_forms(two_domains(code[:7], 2 + code[:7]), "loss", ("quadratic",))
    assert far.error.outside is not None and near.error.outside is None
    for one, other in ((far, near), (near, far)):
        assert is_no_worse(one, other) == (one.error.relative <= other.error.relative)


def test_form_no_better_than_the_mean_does_not_stand_before_one_that_is():
    """Its error out of range may be small by chance."""
    random, mixed = np.random.default_rng(11), 0
    for _ in range(40):
        code = random.random(16)
        forms = fit_forms(two_domains(code, random.normal(size=16)), "loss", ("quadratic", "gaussian_process"))
        useless = [form.error.relative >= 1 for form in forms]
        assert useless == sorted(useless)
        mixed += any(useless) and not all(useless) and forms[0].error.combined > forms[-1].error.combined
    assert mixed, "none of them would have stood otherwise"


def test_intervals_of_six_runs_hold_nine_in_ten_new_ones():
    """The largest of six errors holds 6 in 7. Judges: scipy's t, and 4,000 draws of seven normal errors."""
    errors = np.random.default_rng(2).normal(size=(4000, 7))
    coordinates = np.zeros((6, 1))
    held = [abs(row[6]) <= HeldOutSpread(row[:6], coordinates).half_width(np.zeros((1, 1)), 0.9)[0] for row in errors]
    largest = [abs(row[6]) <= np.abs(row[:6]).max() for row in errors]
    assert np.mean(largest) == pytest.approx(6 / 7, abs=0.015) and 0.89 <= np.mean(held) <= 0.93
    half = HeldOutSpread(errors[0, :6], coordinates).half_width(np.zeros((2, 1)), 0.9)
    assert half == pytest.approx([stats.t.ppf(0.95, 5) * math.sqrt((errors[0, :6] ** 2).mean())] * 2)
    nine = HeldOutSpread(np.arange(1.0, 10.0), np.zeros((9, 1)))
    assert nine.half_width(np.zeros((1, 1)), 0.9).tolist() == [9.0]  # from nine runs on the conformal rank exists


def test_a_law_that_noise_would_give_as_often_is_doubted_and_a_true_one_is_not():
    """Judge: what numpy alone gives for the paired difference of squared errors."""
    random = np.random.default_rng(5)
    kept, doubted = 0, 0
    for _ in range(120):
        code = random.random(14)
        table = two_domains(code, random.normal(size=14))
        law = choose_law(table, "loss", fit_forms(table, "loss", ("quadratic",)))
        fold_of = law.forms[0].fold_of
        others = np.array([law.values[fold_of != fold].mean() for fold in fold_of])
        predicted = np.mean([form.predicted for form in law.forms], axis=0)
        gain = (others - law.values) ** 2 - (predicted - law.values) ** 2
        assert law.is_doubtful == (gain.mean() / stats.sem(gain) < stats.norm.ppf(0.95) + 1e-3)
        kept, doubted = kept + (not law.is_useless), doubted + (not law.is_useless and law.is_doubtful)
    assert kept >= 8 and kept - doubted <= 8
    code = np.linspace(0, 1, 14)
    assert not [
        n
        for n in fit_views(two_domains(code, 2 - code + 0.05 * random.normal(size=14)), "loss", ("quadratic",)).notes
        if "may be noise" in n
    ]


@pytest.mark.parametrize("kind", ["log_linear", "boosting"])
def test_six_points_of_the_paper_s_figure_4_give_no_proposal_by_a_law_no_better_than_the_mean(tmp_path, capsys, kind):
    """Reasoning at 0, 25, 50, 75, 90 and 100 % code (arXiv 2408.10914, Figure 4): a best mixture was named all the same, with exit code 0."""
    words = figure_4(tmp_path)
    assert main([*words, "--kind", kind]) == 1
    captured = capsys.readouterr()
    assert "reason: no form predicts it better than the mean of the runs" in captured.err and "no mixture is proposed" in captured.err
    assert "control" not in captured.out and not (tmp_path / "law" / "proposals.yaml").exists()


def test_six_points_of_the_paper_s_figure_4_have_their_best_inside_by_a_form_that_can_show_it(tmp_path, capsys):
    """The parabola of numpy through the same points has its vertex there too."""
    assert main([*figure_4(tmp_path), "--kind", "quadratic"]) == 0
    share = json.loads((tmp_path / "law" / "law.json").read_text())["metrics"]["reason"]
    assert share["used"] == "quadratic"
    import yaml

    best = yaml.safe_load((tmp_path / "law" / "proposals.yaml").read_text())[0]
    sweep = read_paper()["sweep"]
    second, first, _ = np.polyfit(np.array(sweep["code_percent"]) / 100, sweep["reason"], 2)
    low, high = best["cannot_be_told_apart"]["code"]
    assert low < -first / (2 * second) < high and 0.2 < best["mixture"]["code"] < 0.55


def figure_4(folder: Path) -> list[str]:
    """Return the command over the points of the figure, as the project keeps them beside studies."""
    sweep = read_paper()["sweep"]
    rows = list(zip(sweep["code_percent"], sweep["reason"], strict=True))
    (folder / "ratios.csv").write_text("run_id,text,code\n" + "".join(f"{code},{1 - code / 100},{code / 100}\n" for code, _ in rows))
    (folder / "metrics.csv").write_text("run_id,reason\n" + "".join(f"{code},{value}\n" for code, value in rows))
    files = ["--ratios", str(folder / "ratios.csv"), "--metrics", str(folder / "metrics.csv"), "--output", str(folder / "law")]
    return ["law", *files, "--objective", "reason", "--maximize"]


def test_a_run_without_any_measured_step_is_named_by_its_folder(tmp_path):
    write_run(tmp_path / "one", [("a", {"text": 10})], 1.0)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "plan.json").write_text("{}")
    (tmp_path / "two" / "journal.jsonl").write_text("")
    found = table_of_runs([RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")])
    assert found.table.runs == ["one"] and any("left out: two" in note for note in found.notes)


def test_runs_in_one_of_two_tables_alone_are_named_and_negative_shares_are_refused(tmp_path, capsys):
    words = figure_4(tmp_path)
    with open(tmp_path / "ratios.csv", "a") as ratios:
        ratios.write("lost,0.5,0.5\n")
    with open(tmp_path / "metrics.csv", "a") as metrics:
        metrics.write("other,1.0\n")
    assert main([*words, "--kind", "quadratic"]) == 0
    assert "2 runs are in one of the two files alone and are left out: lost, other" in capsys.readouterr().err
    with open(tmp_path / "ratios.csv", "a") as ratios:
        ratios.write("other,1.2,-0.2\n")
    assert main(words) == 2 and "run other has a share of -0.2 of code; shares are at least 0" in capsys.readouterr().err


def test_a_size_can_be_asked_for_and_only_forms_that_extrapolate_answer_beyond_those_of_the_runs(tmp_path, capsys):
    """Loss 2 + 0.5 code + (1M / N)^0.3 without noise: at 1B what the formula says, though no run has more than 64M parameters."""
    random = np.random.default_rng(4)
    ratios, metrics = ["run_id,text,code,size_parameters"], ["run_id,loss"]
    for i in range(16):
        code, size = random.random(), 10**6 * 4 ** random.integers(4)
        ratios.append(f"{i},{1 - code},{code},{size}")
        metrics.append(f"{i},{2 + 0.5 * code + (1e6 / size) ** 0.3}")
    (tmp_path / "ratios.csv").write_text("\n".join(ratios) + "\n")
    (tmp_path / "metrics.csv").write_text("\n".join(metrics) + "\n")
    words = ["law", "--ratios", str(tmp_path / "ratios.csv"), "--metrics", str(tmp_path / "metrics.csv"), "--objective", "loss"]
    assert main([*words, "--kind", "chinchilla", "--explore", "0", "--at-parameters", "1B", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["proposals"][0]
    wanted = 2 + 0.5 * best["mixture"].get("code", 0.0) + 0.001**0.3
    assert best["predicted"] == pytest.approx(wanted, abs=0.02)
    assert main([*words, "--kind", "boosting", "--at-parameters", "1B"]) == 2
    assert "boosting knows nothing of sizes beyond those of the runs" in capsys.readouterr().err
    assert main([*words, "--kind", "quadratic", "--at-tokens", "1B"]) == 2
    assert "--at-tokens: all runs have the same, so nothing is known of others" in capsys.readouterr().err
