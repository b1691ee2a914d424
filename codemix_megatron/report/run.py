"""Records of runs -> index.html, index.md and PNG figures."""

from pathlib import Path

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.atomic import replace_text, writing
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.report.markdown import markdown
from codemix_megatron.report.page import page
from codemix_megatron.report.run_data import read_run
from codemix_megatron.report.sections import compare_runs, describe_run

__all__ = ["write_report"]


def write_report(runs: list[RunFolder], output: Path | None = None) -> Path:
    """Write the report of one run (into RUN/report) or of several (into `output`); return index.html's path.

    index.html is written last, each file whole or not at all. Raises CodemixError when several runs come without `output`.
    """
    if output is None and len(runs) > 1:
        raise CodemixError("a report of several runs belongs to none of them; say where it goes with --output DIR")
    data = [read_run(run) for run in runs]
    report = describe_run(data[0]) if len(data) == 1 else compare_runs(data)
    folder = Path(output or runs[0].report)
    for figure in report.figures():
        with writing(folder / f"{figure.name}.png", "wb") as handle:
            handle.write(figure.png)
    replace_text(folder / "index.md", markdown(report))
    replace_text(folder / "index.html", page(report))
    return (folder / "index.html").absolute()
