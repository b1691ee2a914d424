"""Records of runs -> index.html, index.md and PNG figures."""

from collections.abc import Sequence
from pathlib import Path

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.atomic import replace_text, writing
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.report.choices import Choices
from codemix_megatron.report.comparison import compare_runs, decision_of
from codemix_megatron.report.markdown import markdown
from codemix_megatron.report.page import page
from codemix_megatron.report.printing import write_pdf
from codemix_megatron.report.run_data import RunData, read_run
from codemix_megatron.report.sections import describe_run
from codemix_megatron.report.study_view import StudyView

__all__ = ["write_report", "write_report_of"]

USUAL = Choices()


def write_report(runs: list[RunFolder], output: Path | None = None, choices: Choices = USUAL) -> Path:
    """Write the report of one run (into RUN/report) or of several (into `output`); return index.html's path.

    index.html is written last, each file complete or absent. Raises CodemixError when several runs come without `output`.
    """
    if output is None and len(runs) > 1:
        raise CodemixError("a report of several runs belongs to none of them; say where it goes with --output DIR")
    if len({run.path for run in runs}) < len(runs):
        raise CodemixError("one run folder is given twice; name each once")
    return write_report_of([read_run(run) for run in runs], Path(output or runs[0].report), choices)


def write_report_of(
    data: list[RunData], folder: Path, choices: Choices = USUAL, bases: Sequence[RunData] = (), view: StudyView | None = None
) -> Path:
    """Write the report of runs that were read already into `folder`; return index.html's path.

    `bases` are models that runs start from; a `view` of all these is not made again.
    """
    is_one = len(data) == 1 and not bases
    report = describe_run(data[0]) if is_one else compare_runs(data, choices, bases, view)
    texts = {"index.md": markdown(report)} | ({} if is_one else {"decision.html": page(decision_of(report))}) | {"index.html": page(report)}
    try:
        for figure in report.figures():
            with writing(folder / f"{figure.name}.png", "wb") as handle:
                handle.write(figure.png)
        for name, text in texts.items():
            replace_text(folder / name, text)
    except OSError as fault:
        raise CodemixError(f"{folder}: the report cannot be written there ({fault.strerror or fault}); give --output DIR") from None
    if choices.pdf:
        if is_one:
            raise CodemixError("--pdf: one run has nothing to decide by; report several, or a study")
        write_pdf((folder / "decision.html").absolute())
    return (folder / "index.html").absolute()
