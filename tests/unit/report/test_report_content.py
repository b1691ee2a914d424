"""What the report says of runs that are long, young, interrupted, scored late or hard to compare."""

import json
import re
import shutil
import subprocess

import pytest
from curved_run import make_curved_run
from made_run import make_run
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from patience import PATIENCE_SECONDS
from test_report import words_of

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.events import StepEvent
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import Scores
from codemix_megatron.records.win_rate import WinRate
from codemix_megatron.report.blocks import Cell, Details, Paragraph, Report, Section, Table
from codemix_megatron.report.consumption import find_spans, step_deltas, use_of_sources
from codemix_megatron.report.figures import phase_shares
from codemix_megatron.report.held_out import phase_changes
from codemix_megatron.report.markdown import markdown
from codemix_megatron.report.page import page
from codemix_megatron.report.palette import assign_looks, look_at, use_css_colours
from codemix_megatron.report.paper import read_paper
from codemix_megatron.report.run_data import read_run
from codemix_megatron.report.run_report import write_report
from codemix_megatron.report.sections import history_lines
from codemix_megatron.study.figure import SHARES_OF_CODE

KINDS = ("text", "code", "markup", "code_adjacent", "synthetic", "text", "code", "text", "code", "code")
MANY = {f"a_source_with_a_long_name_{i}": kind for i, kind in enumerate(KINDS)}
STAGES = {
    f"stage_{i}_of_the_study": {s: (1 + (i + j) % 3) / sum(1 + (i + k) % 3 for k in range(len(MANY))) for j, s in enumerate(MANY)}
    for i in range(8)
}


def test_tokens_of_a_step_are_differences_of_cumulative_counts():
    counts = [{"a": 10}, {"a": 10, "b": 6}, {"a": 30, "b": 7}]
    steps = [StepEvent.from_json({"tokens_per_source": tokens}) for tokens in counts]
    assert step_deltas(steps) == [{"a": 10}, {"a": 0, "b": 6}, {"a": 20, "b": 1}]


def test_realised_tokens_sum_to_what_the_journal_says(tmp_path):
    run = read_run(make_curved_run(tmp_path / "run"))
    uses = use_of_sources(run)
    for source, total in run.steps[-1].tokens_per_source.items():
        assert sum(use.realised_tokens for use in uses if use.source == source) == total
    assert all(use.difference_sequences == 0 and use.realised_tokens == use.planned_tokens for use in uses)
    cooldown = {use.source: use for use in uses if use.phase == "cooldown"}
    assert cooldown["code"].realised_share == pytest.approx(0.2)
    assert cooldown["text"].epochs == pytest.approx(run.plan["phases"][2]["sources"]["text"]["epochs_after"])


def test_phase_under_way_is_held_against_its_shares_and_later_ones_stay_empty(tmp_path):
    run = make_curved_run(tmp_path / "half", last=110)
    uses = {(use.phase, use.source): use for use in use_of_sources(read_run(run))}
    assert not uses["text", "code"].finished and abs(uses["text", "code"].difference_sequences) < 1
    assert uses["cooldown", "text"].realised_share is None
    text = words_of(write_report([run]).read_text())
    assert "text so far text 90.0 % 73,728 27,648 0.0 sequences 90.0 %" in text
    assert "cooldown text 80.0 % 65,536 – – – –" in text


def test_drawn_shares_keep_to_their_phase(tmp_path):
    run = read_run(make_curved_run(tmp_path / "run"))
    tokens, shares = phase_shares(run, run.sources)
    assert shares.sum(axis=1) == pytest.approx(1)
    for span, wanted in zip(find_spans(run), (0.5, 0.9, 0.8), strict=True):
        inside = (tokens > span.first_token) & (tokens < span.last_token)
        assert shares[inside, 0] == pytest.approx(wanted, abs=0.05)


def test_steps_undone_by_a_resume_do_not_count(tmp_path):
    run = make_curved_run(tmp_path / "run", last=100)
    with open(run.journal, "a") as journal:
        journal.write(json.dumps({"event": "start", "step": 60, "ranks": 2}) + "\n")
    data = read_run(run)
    assert data.last_step == 60 and data.tokens == 60 * 1024 and data.validations[-1].step <= 60
    assert [span.finished for span in find_spans(data)] == [False], "the end of the phase was undone as well"
    assert "Step 60: resumed after an unrecorded end on 2 ranks" in words_of(write_report([run]).read_text())


def test_batches_left_out_roll_backs_and_slow_ranks_are_told(tmp_path):
    run = make_curved_run(tmp_path / "run", last=20)
    met = [
        {"event": "straggler", "step": 10, "rank": 3, "host": "node1", "factor": 1.7, "why": "its data come late", "steps": 30},
        {"event": "rollback", "step": 16, "from_step": 20, "skipped": [20, 20], "text": "step 20: loss 9 is more than 1 above 3"},
        {"event": "skipped", "step": 17, "phase": "balanced", "reason": "loss nan, gradient norm nan"},
    ]
    with open(run.journal, "a") as journal:
        journal.writelines(json.dumps(event) + "\n" for event in met)
    lines = history_lines(read_run(run))
    assert lines[0] == "Step 10: rank 3 on node1 was 1.7 times as slow as the others: its data come late"
    assert lines[1].startswith("Step 16: training resumed from here, batches of steps 20 to 20 are skipped: step 20: loss 9")
    assert lines[2] == "Step 17: batch skipped: loss nan, gradient norm nan"


def test_what_each_phase_changed_is_told(tmp_path):
    run = make_curved_run(tmp_path / "run")
    data = read_run(run)
    changes = phase_changes(data, "text")
    assert [change.phase for change in changes] == ["balanced", "text", "cooldown"]
    values = [e.bits_per_byte["text"] for e in data.validations]
    assert changes[0].before == values[0] and changes[-1].value == values[-1]
    assert changes[1].before == changes[0].value and changes[2].before == changes[1].value
    words = words_of(write_report([run]).read_text())
    assert f"{changes[1].value:.3f} −{changes[1].before - changes[1].value:.3f}" in words


def test_damaged_plan_is_named(tmp_path):
    run = make_curved_run(tmp_path / "run")
    run.plan.write_text("{")
    with pytest.raises(CodemixError, match=r"plan\.json: not JSON"):
        write_report([run])
    run.plan.unlink()
    assert "There is no plan.json to compare with." in words_of(write_report([run]).read_text())


def test_scores_of_an_earlier_step_are_marked_and_several_are_listed(finished):
    newest = Scores.read(finished.score_file(20))
    Scores(model="", step=12, tokens=6144, bits_per_byte=newest.bits_per_byte, tasks=[]).write(finished.score_file(12))
    text = words_of(write_report([finished]).read_text())
    assert "score metric step 12 step 20" in text and "2.250 ± 0.031 2.250 ± 0.031" in text
    finished.score_file(20).unlink()
    assert "Scored at step 12; training has gone on to step 20." in words_of(write_report([finished]).read_text())


def test_names_cannot_break_the_page_or_the_table():
    """Names of languages, files and scores come from data; recipes' own are checked when they are read."""
    rows = [["a|b<c", Cell("<script>", below="x|y")], ["[click](javascript:alert(1))", "&amp;"], ["`<b>`", "a\nb"]]
    blocks = [
        Table(headings=["<i>name", "x"], rows=rows, caption="<b>"),
        Paragraph("<img src=x> `<code>`"),
        Details("<u>", "</pre><script>```"),
    ]
    report = Report(
        title="<script>",
        eyebrow="<b>",
        lead="<b>",
        status="<b>",
        status_tone="good",
        date="",
        sections=[Section(title="<s>", anchor="s", blocks=blocks)],
    )
    drawn, text = page(report), markdown(report)
    for tag in ("<script>", "<b>", "<i>", "<img", "<u>", "<s>"):
        assert tag not in drawn and tag not in text.replace("`<b>`", ""), tag
    assert "a|b&lt;c" in drawn and "| a\\|b&lt;c |" in text and "\\[click](" in text and "| `<b>` | a b |" in text


def test_failed_report_leaves_the_old_one(finished, monkeypatch):
    page = write_report([finished])
    before = page.read_text()
    monkeypatch.setattr("codemix_megatron.report.run_report.page", lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report([finished])
    assert page.read_text() == before and not list(page.parent.glob(".*partial"))


def test_output_that_is_a_file_is_refused(finished, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CodemixError, match="cannot be written there"):
        write_report([finished], tmp_path / "file")


def test_gains_of_the_paper_are_against_the_same_stage(finished):
    paper, text = read_paper(), words_of(write_report([finished]).read_text())
    assert "balanced→text initialisation, 200B 52.0 7.4 7.8" in text
    assert "continued, +200B 53.0 +8.2 % 9.9 +4.2 % 4.8 × 12" in text
    assert "cooldown, +40B 54.9 +1.5 % 10.9 −1.8 % 5.8 +31.8 %" in text
    for line in paper["variants"]:
        assert line["against"] is None or paper["variants"][line["against"]]["variant"] == "text-only"


def test_runs_that_are_unlike_are_not_compared_silently(tmp_path):
    runs = [make_run(tmp_path / "text", "text-only"), make_run(tmp_path / "young", "mixed", last=8, complete=False)]
    text = words_of(write_report(runs, tmp_path / "out").read_text())
    assert "mixed was trained on 4,096 tokens, text-only on 10,240" in text and "mixed: in progress, step 8" in text
    assert "mixed has not been scored. codemix export" in text


def test_comparison_tells_recipes_and_equal_names_apart(tmp_path):
    more_code = {"balanced": {"text": 0.25, "code": 0.75}, "text": {"text": 0.9, "code": 0.1}}
    runs = [make_curved_run(tmp_path / "a" / "run", steps=20), make_curved_run(tmp_path / "b" / "run", phases=more_code, steps=30)]
    text = words_of(write_report(runs, tmp_path / "out").read_text())
    assert "phases.balanced.mixture.code 0.5 0.75" in text and "phases.cooldown.learning_rate" not in text
    assert "a/run)" in text and "b/run)" in text
    with pytest.raises(CodemixError, match="given twice"):
        write_report([runs[0], RunFolder(runs[0].path)], tmp_path / "out")


def test_sources_of_one_recipe_never_share_a_colour_up_to_seven():
    looks = assign_looks(dict(list(MANY.items())[:7]))
    assert len({look.colour for look in looks.values()}) == 7
    assert looks["a_source_with_a_long_name_0"].colour == "#0072b2"


def test_colours_follow_the_page():
    assert use_css_colours('style="fill: #0072B2"') == 'style="fill: var(--c0, #0072b2)"'


def test_long_study_fits_wide_and_narrow_screens(tmp_path, drawn):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here; install Debian's chromium to draw the page")
    page = write_report([make_curved_run(tmp_path / "study", MANY, STAGES, steps=40)])
    assert page.stat().st_size < 2e6
    frames = "".join(f'<iframe id="w{width}" src="study/report/index.html" width="{width}" height="900"></iframe>' for width in (375, 1100))
    script = (
        "onload = () => { document.title = [...document.querySelectorAll('iframe')]"
        ".map(f => f.contentDocument.documentElement.scrollWidth - f.contentWindow.innerWidth).join(' '); }"
    )
    (tmp_path / "frames.html").write_text(f"<title>unread</title><body>{frames}<script>{script}</script>")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    words += ["--disable-component-update", "--disable-sync", "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
    words += ["--virtual-time-budget=5000", "--dump-dom", (tmp_path / "frames.html").as_uri()]
    drawn = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True).stdout
    overhang = re.search(r"<title>([-\d ]+)</title>", drawn)
    assert overhang, drawn[:500]
    assert all(int(pixels) <= 0 for pixels in overhang.group(1).split()), overhang.group(1)


def test_win_rates_stand_with_their_test_and_the_papers(finished):
    assert "Win rates" not in words_of(write_report([finished]).read_text())
    result = WinRate(
        ours="a", theirs="runs/text-only", judge="j", prompts=30, wins=20, losses=5, ties=4, unreadable=1, first_preferred=0.55,
        p_value=0.004, judge_prompt_sha256="", low=0.6, high=0.88, length_controlled=0.62, length_controlled_low=0.5,
        length_controlled_high=0.74, longer_by=41.2,
    )  # fmt: skip
    result.write(finished.scores / "win-rates" / "text-only" / "win-rate.json")
    text = words_of(write_report([finished]).read_text())
    assert (
        "tiny runs/text-only 20 4 5 29 1 unreadable 75.9 % [60.0, 88.0] 62.0 % [50.0, 74.0]; +41 characters p = 0.004 ours preferred 55 %"
        in text
    )
    assert "cooldown with code against none 52.3 29.1 18.6" in text


def test_lines_of_many_runs_are_told_apart():
    looks = [look_at(number) for number in range(49)]
    assert len({(look.colour, str(look.dash)) for look in looks}) == len({(look.colour, look.marker) for look in looks}) == 49


def test_sources_and_runs_are_told_apart_and_seen_on_white_without_colour():
    looks = [look_at(number) for number in range(7)]
    assert len({str(look.dash) for look in looks}) == len({look.marker for look in looks}) == len({look.hatch for look in looks}) == 7
    assert all(grey(look.colour) < 0.65 for look in looks)
    shares = LinearSegmentedColormap.from_list("code", SHARES_OF_CODE)
    lightness = [grey(shares(share / 20)) for share in range(21)]
    assert lightness == sorted(lightness) and lightness[-1] - lightness[0] > 0.4


def grey(colour) -> float:
    """Return how light a black-and-white printer shows a colour, 0 to 1 (ITU-R BT.601 luma)."""
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue
