"""Laws fitted to made runs whose true law is known, tables of other tools, proposals within bounds."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from codemix_megatron.analysis.law_fitting import fit_law, held_out_error
from codemix_megatron.analysis.law_proposals import largest_shares, propose, sample_mixtures
from codemix_megatron.analysis.law_tables import MixtureTable, read_tables, write_tables
from codemix_megatron.cli.main import main
from codemix_megatron.errors import CorpusError

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from curved_run import make_curved_run

DOMAINS = ["text", "code", "markup"]
TRUE = np.array([-1.2, 0.4, 0.1])


def made(runs: int = 40, noise: float = 0.003, sizes: bool = False) -> MixtureTable:
    """Return runs whose loss is 2 + exp(0.3 + TRUE . shares [- 0.1 log size]) and some noise; a second metric is noise alone."""
    random = np.random.default_rng(2)
    shares = random.dirichlet(np.ones(3), runs)
    scale = random.choice([1e6, 1e7, 1e8], (runs, 1))
    loss = 2 + np.exp(0.3 + shares @ TRUE - (0.1 * np.log(scale[:, 0]) if sizes else 0)) + noise * random.normal(size=runs)
    return MixtureTable(
        runs=[f"run-{i}" for i in range(runs)], domains=DOMAINS, shares=shares, metrics=["loss", "noise"],
        values=np.column_stack([loss, random.normal(size=runs)]), sizes=("size_parameters",) if sizes else (),
        size_values=scale if sizes else None,
    )  # fmt: skip


def test_log_linear_law_is_found_again():
    table = made(noise=0.0)
    law = fit_law(table, "loss")
    corners = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.2, 0.3, 0.5]])
    assert law.predict(corners) == pytest.approx(2 + np.exp(0.3 + corners @ TRUE), abs=0.01)


def test_size_is_part_of_the_law():
    table = made(60, noise=0.0, sizes=True)
    law = fit_law(table, "loss")
    mixture = np.array([[0.5, 0.3, 0.2]])
    for size in (1e6, 1e8):
        wanted = 2 + np.exp(0.3 + mixture[0] @ TRUE - 0.1 * np.log(size))
        assert law.predict(mixture, np.array([[size]]))[0] == pytest.approx(wanted, abs=0.02)


def test_error_is_that_of_runs_not_seen():
    table = made(40, noise=0.01)
    error = held_out_error(table, "loss")
    assert 0.006 < error.root_mean_square < 0.02 and error.rank_correlation > 0.95 and error.runs == 40
    nothing = held_out_error(table, "noise")
    assert nothing.relative > 0.9 and abs(nothing.rank_correlation) < 0.6


def test_boosting_learns_what_is_not_log_linear():
    table = made(200, noise=0.0)
    bent = 3 + (np.abs(table.shares[:, 0] - 0.5) > 0.25) * 1.0
    table.values[:, 1] = bent
    assert held_out_error(table, "noise", "boosting").root_mean_square < 0.6 * held_out_error(table, "noise").root_mean_square


def test_best_mixture_is_near_the_true_one_and_keeps_the_epoch_bound():
    law = fit_law(made(), "loss")
    bounds = largest_shares(DOMAINS, {"text": 100, "code": 1000, "markup": 1000}, 1000, 4.0)
    assert bounds.tolist() == [0.4, 1.0, 1.0]
    proposals = {p.purpose: p for p in propose(DOMAINS, law.predict, np.ones(3) / 3, bounds)}
    best = proposals["best"].shares
    assert best["text"] == pytest.approx(0.4, abs=0.02) and best["code"] < 0.1, "as much text as is allowed, then markup"
    assert all(sum(p.shares.values()) == pytest.approx(1) and p.shares["text"] <= 0.4 + 1e-9 for p in proposals.values())
    assert proposals["best"].predicted < proposals["control: in proportion to size"].predicted < proposals["control: worst"].predicted
    assert len(proposals) == 6


def test_drawn_mixtures_are_mixtures_within_bounds():
    bounds = np.array([0.3, 0.5, 1.0])
    drawn = sample_mixtures(np.array([0.6, 0.3, 0.1]), bounds, 5000)
    assert drawn.sum(axis=1) == pytest.approx(1) and (drawn <= bounds + 1e-9).all() and (drawn >= 0).all()
    assert drawn.min(axis=0)[:2] == pytest.approx(0, abs=0.02) and drawn.max(axis=0)[2] > 0.8


def test_too_few_tokens_for_the_bound_are_refused():
    with pytest.raises(CorpusError, match="1000 tokens cannot be had from 120 with at most 4 epochs"):
        largest_shares(DOMAINS, dict.fromkeys(DOMAINS, 40), 1000, 4.0)


def test_tables_of_olmix_are_written_and_read(tmp_path):
    table = made(8, sizes=True)
    table.values[2, 1] = np.nan
    back = read_tables(*write_tables(table, tmp_path))
    assert back.runs == table.runs and back.domains == DOMAINS and back.sizes == ("size_parameters",)
    assert back.shares == pytest.approx(table.shares) and np.isnan(back.values[2, 1])
    assert (tmp_path / "ratios.csv").read_text().splitlines()[0] == "run_id,text,code,markup,size_parameters"


def test_tables_of_regmix_are_read(tmp_path):
    (tmp_path / "mixture.csv").write_text("index,train_the_pile_arxiv,train_the_pile_github\n1,0.25,0.75\n2,0.999,0.0\n3,1.0,0.0\n")
    (tmp_path / "loss.csv").write_text("index,metric/the_pile_arxiv_val_loss\n2,4.5\n1,5.5\n")
    table = read_tables(tmp_path / "mixture.csv", tmp_path / "loss.csv")
    assert (
        table.runs == ["1", "2"] and table.domains == ["the_pile_arxiv", "the_pile_github"] and table.metrics == ["the_pile_arxiv_val_loss"]
    )
    assert table.values[:, 0].tolist() == [5.5, 4.5] and table.shares.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("ratios, metrics, message", [
    ("a,b\n1,2\n", "run_id,x\nr,1\n", r"ratios\.csv:1: no column run_id or index or run; found a, b"),
    ("run_id,a,b\nr,0.5,0.2\n", "run_id,x\nr,1\n", "shares of run r add up to 0.700, not 1"),
    ("run_id,a\nr,1\nr,1\n", "run_id,x\nr,1\n", r"ratios\.csv:3: run r stands there twice"),
    ("run_id,a\nr,one\n", "run_id,x\nr,1\n", r"ratios\.csv:2: could not convert"),
    ("run_id,a\nr,1,2\n", "run_id,x\nr,1\n", r"ratios\.csv:2: 3 values under 2 columns"),
    ("run_id,a\nr,1\n", "run_id,x\ns,1\n", "no run stands in both"),
    ("run_id,a\n", "run_id,x\ns,1\n", "holds no rows"),
])  # fmt: skip
def test_faults_of_tables_are_named(tmp_path, ratios, metrics, message):
    (tmp_path / "ratios.csv").write_text(ratios)
    (tmp_path / "metrics.csv").write_text(metrics)
    with pytest.raises(CorpusError, match=message):
        read_tables(tmp_path / "ratios.csv", tmp_path / "metrics.csv")


def test_command_fits_runs_and_proposes_mixtures_a_recipe_takes(tmp_path, capsys):
    for i, share in enumerate((0.0, 0.2, 0.4, 0.6, 0.8, 1.0)):
        folder = tmp_path / "runs" / f"sweep-{i}"
        make_curved_run(folder, phases={"all": {"text": 1 - share, "code": share}}, steps=20)
        journal = folder / "journal.jsonl"
        events = [json.loads(line) for line in journal.read_text().splitlines()]
        for event in events:
            if event["event"] == "validation":
                event["bits_per_byte"] = {"text": 1 + 0.5 * share**2, "code": 2 - share}
        journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    words = ["law", str(tmp_path / "runs"), "--objective", "text bits_per_byte", "--output", str(tmp_path / "law"), "--kind", "log_linear"]
    assert main([*words, "--tokens", "100K", "--max-epochs", "1"]) == 0
    out = capsys.readouterr().out
    assert "6 runs, 2 domains" in out and "held-out error" in out and "control: worst" in out
    blocks = yaml.safe_load((tmp_path / "law" / "proposals.yaml").read_text())
    for block in blocks:
        assert sum(block["mixture"].values()) == pytest.approx(1, abs=1e-9)
        assert block["most_epochs"] <= 1.0 + 1e-6
    assert (tmp_path / "law" / "ratios.csv").is_file() and (tmp_path / "law" / "law.json").is_file()
    assert (
        main(["law", "--ratios", str(tmp_path / "law" / "ratios.csv"), "--metrics", str(tmp_path / "law" / "metrics.csv"), *words[-2:]])
        == 0
    )


@pytest.mark.parametrize("words, message", [
    ([], "give run folders, or --ratios and --metrics"),
    (["--ratios", "x"], "belong together"),
    (["nowhere"], "no run folders there"),
])  # fmt: skip
def test_command_refuses_in_one_message(capsys, words, message):
    assert main(["law", *words]) == 2
    assert message in capsys.readouterr().err
