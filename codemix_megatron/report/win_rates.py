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
    headings = ["run", "against", "won", "tied", "lost", "counted", "win rate", "at equal lengths", "sign test", "first position preferred"]
    caption = (
        "Answers to the same prompts, judged in both orders; a judge that changed its mind gives a tie. The win rate counts a tie as half;"
        " intervals of 95 % are over prompts. At equal lengths: what a logistic regression on the difference in length and the position gives"
        " where answers are equally long (AlpacaEval 2)."
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


def between(low: float | None, high: float | None) -> str:
    """Return an interval in percent."""
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


def controlled_cell(result: WinRate) -> Cell:
    """Return the win rate at equal lengths with its interval, and how much longer answers are."""
    if result.length_controlled is None:
        return Cell(ABSENT, tone="quiet")
    longer = f"{result.longer_by:+.0f} characters" if result.longer_by is not None else ""
    return Cell(
        percent(result.length_controlled), below=f"{between(result.length_controlled_low, result.length_controlled_high)}; {longer}"
    )


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
        Cell(percent(result.win_rate), below=between(result.low, result.high)),
        controlled_cell(result),
        test,
        first,
    ]
