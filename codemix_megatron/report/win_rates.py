"""Win rates of a run's answers, as `codemix judge` left them, and the paper's."""

from codemix_megatron.records.win_rate import WinRate
from codemix_megatron.report.blocks import Cell, Section, Table
from codemix_megatron.report.paper import read_paper
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import ABSENT, count, percent

__all__ = ["win_rate_sections"]


def win_rate_sections(runs: list[RunData]) -> list[Section]:
    """Return one section with the judgings kept in the runs' folders, none where there are none."""
    judged = [
        (run, WinRate.read(path)) for run in runs for path in sorted((run.folder.scores / "win-rates").glob("*/win-rate.json"))
    ]  # fmt: skip
    if not judged:
        return []
    rows = [row_of(run, result) for run, result in judged]
    headings = ["run", "against", "won", "tied", "lost", "counted", "win rate", "sign test", "first place preferred"]
    caption = (
        "Answers to the same prompts, judged in both orders; a judge that changed its mind gives a tie. The win rate counts a tie as half."
        f" Judge: {'; '.join(dict.fromkeys(result.judge for _, result in judged))}."
    )
    paper = read_paper()
    theirs = [[row["pair"], *(f"{row[key]:.1f}" for key in ("win", "tie", "loss"))] for row in paper["win_rates"]]
    return [
        Section(
            title="Win rates",
            anchor="win-rates",
            blocks=[
                Table(headings=headings, rows=rows, caption=caption, left=(0, 1)),
                Table(
                    headings=["the paper", "won, %", "tied, %", "lost, %"],
                    rows=theirs,
                    caption=f"{paper['source']}, {paper['win_rates_from']}.",
                ),
            ],
        )
    ]


def row_of(run: RunData, result: WinRate) -> list:
    """Return one judging as a row."""
    tone = {"ours preferred": "good", "theirs preferred": "bad"}.get(result.words, "quiet")
    test = Cell(f"p = {result.p_value:.3g}", below=result.words, tone=tone)
    unreadable = f"{count(result.unreadable)} unreadable" if result.unreadable else ""
    first = ABSENT if result.first_preferred is None else percent(result.first_preferred, 0)
    counted = Cell(count(result.counted), below=unreadable)
    return [
        run.name,
        result.theirs,
        count(result.wins),
        count(result.ties),
        count(result.losses),
        counted,
        percent(result.win_rate),
        test,
        first,
    ]
