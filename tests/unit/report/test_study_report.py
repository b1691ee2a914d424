"""What the report of a study says, and how it looks in a browser."""

import shutil
import subprocess

import numpy as np
import pytest
from made_study import make_study
from test_report import words_of

from codemix_megatron.cli.main import main
from codemix_megatron.report.differences import difference_in_aggregate, difference_in_bits
from codemix_megatron.report.roles import code_share, parent_of, quality_runs, seed_groups, sweep_runs
from codemix_megatron.report.run_data import read_run


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
    assert [run.name for run in sweep_runs(every)] == ["text-only", "sweep-025", "balanced-only", "sweep-100"]
    assert {run.name for run in quality_runs(every)} == {"sweep-100", "quality-markup"}
    assert parent_of(runs["balanced-cooldown"], every) is runs["balanced-only"] and parent_of(runs["text-only"], every) is None
    assert code_share(runs["sweep-025"]) == pytest.approx(0.25, abs=0.01)


def test_paired_items_tell_small_differences_apart(study):
    _, runs, _, _ = study
    difference = difference_in_bits(runs["text-only-seed-2"], runs["text-only"], "text")
    assert difference.value == pytest.approx(0.002, abs=1e-6) and difference.standard_error < 1e-6, "the noise is the same in both"
    assert difference_in_bits(runs["sweep-025"], runs["text-only"], "text").words == "higher"
    assert difference_in_aggregate(runs["sweep-025"], runs["text-only"], "paper", "reasoning").words == "not distinguishable"


def test_variants_stand_beside_the_papers_gains(study):
    text = study[3]
    assert "differences are relative to text-only" in text
    assert "balanced-only 50 %" in text and "(paper +5.7 %)" in text, "51.8 against 49.0"
    assert "text, bits per byte, against text-only: worse: balanced-cooldown, balanced-only, quality-markup, sweep-025, sweep-100" in text
    assert "not distinguishable" in text


def test_every_part_of_a_study_is_there(study):
    folder, _, page, text = study
    for heading in ("Variants", "Share of code", "Kind of code", "Cooldowns and continued runs", "Seeds", "Cost", "Beside the paper"):
        assert heading in text
    assert "balanced-cooldown balanced-only" in text and "without code 52.9 10.2 4.8" in text
    assert {"sweep.png", "quality.png", "tasks.png"} <= {path.name for path in page.parent.iterdir()}
    assert "4,736" in text and "rank hours" in text


def test_seeds_are_taken_together_only_when_nothing_else_differs(study):
    groups = seed_groups(list(study[1].values()))
    assert [[run.name for run in group] for group in groups] == [["text-only", "text-only-seed-2"]]
    assert "text-only and text-only-seed-2" in study[3] and "± 0.001 over 2 seeds" in study[3]


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
    subprocess.run(words, capture_output=True, timeout=120, check=True)
    from matplotlib.image import imread

    pixels = imread(picture)[..., :3]
    assert (pixels.min(axis=(1, 2)) < 0.5).mean() > 0.4, "the page is mostly empty"
    for colour in ([0, 0x72, 0xB2], [0xD5, 0x5E, 0], [0, 0x9E, 0x73]):
        assert np.isclose(pixels, np.array(colour) / 255, atol=0.03).all(axis=2).sum() > 300, f"nothing is drawn in {colour}"
