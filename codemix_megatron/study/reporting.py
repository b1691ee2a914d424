"""The report over a study's variants, each read as one run however it was trained."""

from dataclasses import replace
from pathlib import Path

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.run_folder import RunFolder, is_run_folder
from codemix_megatron.records.scores import Scores
from codemix_megatron.report.chain import join_segments
from codemix_megatron.report.choices import Choices
from codemix_megatron.report.run_data import RunData, read_run
from codemix_megatron.report.run_report import write_report_of
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.tasks import BASE

__all__ = ["read_bases", "read_variants", "write_study_report"]

USUAL = Choices()


def write_study_report(folder: StudyFolder, output: Path | None = None, choices: Choices = USUAL) -> Path:
    """Write the report over all variants that have begun into `output` (default: DIR/report); return index.html's path."""
    variants = read_variants(folder)
    if not variants:
        raise CodemixError(f"{folder}: no run has begun; codemix study run {folder.read()['study']}")
    choices = replace(choices, law=choices.law or folder.path / "law")
    return write_report_of(variants, Path(output or folder.report), choices, read_bases(folder))


def read_bases(folder: StudyFolder) -> list[RunData]:
    """Return the public models that runs start from, as far as they are scored."""
    found = []
    for path in sorted(folder.runs.glob(f"{BASE}*")):
        run = RunFolder(path)
        if (written := run.scores / "scores.json").is_file():
            found.append(untrained(run, path.name.removeprefix(BASE), Scores.read(written)))
    return found


def untrained(run: RunFolder, name: str, scores: Scores) -> RunData:
    """Return a model that was scored and never trained here: it has nothing but a name and scores."""
    return RunData(
        folder=run,
        name=name,
        recipe=None,
        recipe_text="",
        plan=None,
        environment=None,
        events=[],
        steps=[],
        validations=[],
        scores=[scores],
    )


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
