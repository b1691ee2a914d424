"""What the report of a study says, and how it looks in a browser."""

import shutil
import subprocess

import numpy as np
import pytest
from made_study import make_study
from patience import PATIENCE_SECONDS
from scipy import stats
from test_report import words_of

from codemix_megatron.cli.main import main
from codemix_megatron.report.arms import code_share, group_arms
from codemix_megatron.report.differences import difference_in_aggregate, difference_in_bits
from codemix_megatron.report.roles import parent_of
from codemix_megatron.report.run_data import read_run
from codemix_megatron.report.sweeps import find_kinds, find_sweeps


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a made study, its runs, and its report's text."""
    folder = tmp_path_factory.mktemp("grid") / "runs"
    runs = [read_run(run) for run in make_study(folder)]
    assert main(["report", "--study", str(folder)]) == 0
    page = folder / "report" / "index.html"
    return folder, {run.name: run for run in runs}, page, words_of(page.read_text())


def test_roles_follow_from_what_runs_consumed_and_started_from(study):
    _, runs, _, _ = study
    every = list(runs.values())
    (sweep,) = find_sweeps(arms := group_arms(every), fewest=3)
    assert [arm.label for arm in sweep.arms] == ["text-only", "sweep-025", "balanced-only", "sweep-100"]
    assert sweep.shares == (0, 0.25, 0.5, 1) and sweep.arms[0].seeds == 2
    assert [{arm.label for arm in kinds} for kinds in find_kinds(arms)] == [{"sweep-100", "quality-markup"}]
    assert parent_of(runs["balanced-cooldown"], every) is runs["balanced-only"] and parent_of(runs["text-only"], every) is None
    assert code_share(runs["sweep-025"]) == pytest.approx(0.25, abs=0.01)


def test_paired_items_tell_small_differences_apart(study):
    _, runs, _, _ = study
    difference = difference_in_bits(runs["text-only-seed-2"], runs["text-only"], "text")
    assert difference.value == pytest.approx(0.002, abs=1e-6) and difference.standard_error < 1e-6, "the noise is the same in both"
    assert difference_in_bits(runs["sweep-025"], runs["text-only"], "text").words == "higher"
    assert difference_in_aggregate(runs["sweep-025"], runs["text-only"], "paper", "reasoning").words == "not distinguishable"


def test_variants_are_judged_by_the_seeds_of_the_reference(study):
    text = study[3]
    assert "Against text-only (2 seeds, 81.9K tokens):" in text
    assert "Assumed noise is not that of these runs but of 2 runs of text-only." in text
    assert "text, bits per byte: worse with" in text and "sweep-100 (100 % code) by +0.399 [" in text


def test_every_part_of_a_study_is_there(study):
    folder, _, page, text = study
    for heading in ("What can be said", "Variants", "Share of code", "Kind of code", "Cooldowns and continued runs", "Seeds", "Cost"):
        assert heading in text
    assert "balanced-cooldown one run balanced-only" in text and "without code 52.9 10.2 4.8" in text
    assert {"effects.png", "sweep-1-of-1.png", "quality-0.png", "tasks.png"} <= {path.name for path in page.parent.iterdir()}
    assert "4,736" in text and "rank hours" in text


def test_spread_of_a_difference_is_called_noise(study):
    least = stats.t.ppf(0.975, 2) * np.std([0, 0.002], ddof=1) * np.sqrt(2 / 2)
    assert f"noise below {least:.3f}" in study[3]


def test_folder_without_runs_is_refused(tmp_path, capsys):
    assert main(["report", "--study", str(tmp_path)]) == 2
    assert "no run folders in it" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "name a run folder" in capsys.readouterr().err


def test_a_study_is_drawn_in_the_colours_of_its_sources(study, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here; install Debian's chromium to draw the page")
    picture = tmp_path / "page.png"
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    words += ["--disable-component-update", "--disable-sync", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}"]
    words += ["--window-size=1100,5200", f"--screenshot={picture}", study[2].as_uri()]
    subprocess.run(words, capture_output=True, timeout=PATIENCE_SECONDS, check=True)
    from matplotlib.image import imread

    pixels = imread(picture)[..., :3]
    assert (pixels.min(axis=(1, 2)) < 0.5).mean() > 0.4, "the page is mostly empty"
    for colour in ([0, 0x72, 0xB2], [0x1B, 0x1F, 0x24]):
        assert np.isclose(pixels, np.array(colour) / 255, atol=0.03).all(axis=2).sum() > 300, f"nothing is drawn in {colour}"
