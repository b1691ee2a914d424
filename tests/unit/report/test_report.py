"""The page says what the records say, and nothing else."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from made_run import make_run
from patience import PATIENCE_SECONDS

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.report.figures import window_shares
from codemix_megatron.report.run_report import write_report


def words_of(html: str) -> str:
    """Return the text of a page without style, drawings and tags."""
    html = re.sub(r"<(style|svg).*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_numbers_on_the_page_are_those_of_the_records(finished):
    text = words_of(write_report([finished]).read_text())
    for wanted in (
        "180K parameters",
        "10.2K tokens",
        "2 phases (balanced and cooldown)",
        "tensor 2 x pipeline 2",
        "Finished after 20 steps",
    ):
        assert wanted in text
    for number in ("2.250", "± 0.031 over 9 documents", "3.1e-06", "over 1,536 tokens", "1.5000", "0.610"):
        assert number in text
    assert "continuation_prose acc 0.270 0.050 0.250 80 not distinguishable from chance" in text
    assert "continuation_snippets acc 0.610 0.050 0.250 80 above chance" in text


def test_planned_and_consumed_tokens_stand_side_by_side(finished):
    text = words_of(write_report([finished]).read_text())
    assert "cooldown prose 79.7 % 3,264 3,264 exact" in text
    plan = finished.plan.read_text().replace('"tokens": 3264', '"tokens": 3200')
    finished.plan.write_text(plan)
    assert "3,200 3,264 +64" in words_of(write_report([finished]).read_text())


def test_stop_and_resume_are_told(finished):
    text = words_of(write_report([finished]).read_text())
    assert "Step 7: stopped: asked to stop" in text and "Step 7: resumed on 4 ranks" in text


def test_page_needs_nothing_from_outside(finished, drawn):
    html = write_report([finished]).read_text()
    assert not re.search(r'(src|href)="(?!#)', html.replace('xlink:href="#', 'href="#'))
    assert "<script" not in html and "@import" not in html and "url(http" not in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)), "two drawings share an id, so one would be drawn with the other's clips"


def test_figures_hold_no_source_of_formulas(finished, drawn):
    """Names are drawn as they are written, so what matplotlib writes itself must be plain too."""
    drawn = "".join(re.findall(r"<svg.*?</svg>", write_report([finished]).read_text(), re.DOTALL))
    assert "learning rate" in drawn and "mathdefault" not in drawn and "$" not in drawn


def test_markdown_names_figures_that_are_there(finished, drawn):
    folder = write_report([finished]).parent
    pictures = re.findall(r"\]\((\S+\.png)\)", (folder / "index.md").read_text())
    assert set(pictures) == {"mixture.png", "loss.png", "held-out.png", "tasks.png"}
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


@pytest.mark.parametrize("last", [0, 3])
def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path, last):
    run = make_run(tmp_path / "young", last=last, complete=False)
    text = words_of(write_report([run]).read_text())
    assert "Nothing has been scored yet." in text and "codemix export" in text and "codemix evaluate" in text
    assert ("No step has been made yet." in text) == (last == 0)


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(CodemixError, match=r"not a run folder \(no recipe.yaml and environment.json in it\)"):
        RunFolder.existing(tmp_path)


def test_several_runs_are_compared_with_the_text_only_one(tmp_path):
    runs = [make_run(tmp_path / "mixed", "mixed", value=2.0), make_run(tmp_path / "text", "text-only", value=2.25)]
    text = words_of(write_report(runs, tmp_path / "out").read_text())
    assert "differences are relative to text-only" in text
    assert "mixed one run 38 % 2.000 −0.250 [−0.336, −0.164] over items; one run: cannot be told" in text
    with pytest.raises(CodemixError, match="--output"):
        write_report(runs)


def test_shares_come_from_differences_of_cumulative_counts():
    cumulative = np.array([[10, 0], [15, 5], [15, 15]], dtype=float)
    assert window_shares(cumulative, 1).tolist() == [[1, 0], [0.5, 0.5], [0, 1]]
    assert window_shares(cumulative, 2)[2].tolist() == [0.25, 0.75]


def test_a_browser_draws_the_page(finished, drawn, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here; install Debian's chromium to draw the page")
    picture = tmp_path / "page.png"
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    words += ["--disable-component-update", "--disable-sync", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}"]
    words += ["--window-size=1000,3800", f"--screenshot={picture}", write_report([finished]).as_uri()]
    subprocess.run(words, capture_output=True, timeout=PATIENCE_SECONDS, check=True)
    from matplotlib.image import imread

    pixels = imread(picture)[..., :3]
    assert pixels.shape[:2] == (3800, 1000)
    rows_with_ink = (pixels.min(axis=(1, 2)) < 0.5).mean()
    assert rows_with_ink > 0.4, "the page is mostly empty"
    assert (pixels[:, -8:].min(axis=(1, 2)) > 0.9).mean() > 0.95, "something runs over the right edge"
    blue = np.isclose(pixels, [0, 0x72 / 255, 0xB2 / 255], atol=0.03).all(axis=2).sum()
    assert blue > 2000, "no curve or band of the first source was drawn"
