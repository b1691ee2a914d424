"""The report over a study's variants, each read as one run however it was trained."""

from dataclasses import replace
from pathlib import Path

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.run_folder import is_run_folder
from codemix_megatron.report.chain import join_segments
from codemix_megatron.report.choices import Choices
from codemix_megatron.report.run_data import RunData, read_run
from codemix_megatron.report.run_report import write_report_of
from codemix_megatron.study.folder import StudyFolder

__all__ = ["read_variants", "write_study_report"]

USUAL = Choices()


def write_study_report(folder: StudyFolder, output: Path | None = None, choices: Choices = USUAL) -> Path:
    """Write the report over all variants that have begun into `output` (default: DIR/report); return index.html's path."""
    variants = read_variants(folder)
    if not variants:
        raise CodemixError(f"{folder}: no run has begun; codemix study run {folder.read()['study']}")
    return write_report_of(variants, Path(output or folder.report), choices)


def read_variants(folder: StudyFolder) -> list[RunData]:
    """Return the variants that have begun, in the study's order, as whole runs."""
    read: dict[str, RunData] = {}
    variants = []
    state = folder.read()
    for name, path in state["variants"].items():
        begun = [segment for segment in path if is_run_folder(folder.run(segment))]
        for segment in begun:
            if segment not in read:
                read[segment] = read_run(folder.run(segment))
        if begun:
            run = join_segments(name, [read[segment] for segment in begun], len(begun) == len(path))
            variants.append(replace(run, **state.get("arms", {}).get(name, {})))
    return variants
