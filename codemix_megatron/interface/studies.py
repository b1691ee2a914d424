"""A study from Python: what it will cost, running it, and what came out."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from codemix_megatron.errors import STOPPED_EARLY, LaunchError
from codemix_megatron.extras import require
from codemix_megatron.interface.frames import scores_frame
from codemix_megatron.records.run_folder import is_run_folder
from codemix_megatron.records.scores import Scores
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.reporting import write_study_report
from codemix_megatron.study.segments import Graph, build_graph
from codemix_megatron.study.study_file import read_study
from codemix_megatron.study.tasks import command_line, is_finished

if TYPE_CHECKING:
    import pandas

__all__ = ["Study"]


class Study:
    """A study's file, and the folder its runs are in (default: runs/NAME). Raises RecipeError with all faults of the file at once."""

    def __init__(self, path: str | Path, directory: str | Path | None = None):
        self.read = read_study(path)
        self.files = StudyFolder(directory or Path("runs") / self.read.name)

    def __repr__(self) -> str:
        return f"Study({self.read.name!r}: {len(self.read.variants)} variants in {len(self.graph.segments)} runs)"

    @property
    def graph(self) -> Graph:
        """Its runs: segments of variants, those that variants share once."""
        return build_graph(self.read)

    @property
    def variants(self) -> list[str]:
        """Names of the variants."""
        return [variant.name for variant in self.read.variants]

    def run(self, *, jobs: int | None = None) -> None:
        """Prepare, train and score all that is not done, on this machine; a call after a stop goes on.

        Raises LaunchError where a run failed or the study was stopped; what is done is kept.
        """
        words = ["study", "run", str(self.read.path), "--directory", str(self.files.path), *(["--jobs", str(jobs)] if jobs else [])]
        code = subprocess.run(command_line(tuple(words))).returncode
        if code:
            what = "stopped and saved; call it again to go on" if code == STOPPED_EARLY else "the reason stands above"
            raise LaunchError(f"codemix {' '.join(words)}: exit code {code}; {what}", exit_code=code)

    def status(self) -> dict[str, str]:
        """Return run -> `trained`, `begun` or `waiting`."""
        runs = {name: self.files.run(name) for name in self.graph.segments}
        return {name: "trained" if is_finished(run) else "begun" if is_run_folder(run) else "waiting" for name, run in runs.items()}

    def scores(self) -> pandas.DataFrame:
        """Return a row per variant and measure of all variants that were scored: their newest scores."""
        require("pandas", "a frame of records")
        import pandas

        frames = []
        for name, path in self.files.read()["variants"].items() if self.files.state.is_file() else ():
            files = sorted(self.files.run(path[-1]).scores.glob("step-*.json"), key=lambda file: Scores.read(file).step)
            frames += [scores_frame(Scores.read(files[-1]), variant=name)] if files else []
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame()

    def report(self) -> Path:
        """Write the report over all variants that have begun and return the path of its page."""
        return write_study_report(StudyFolder.existing(self.files.path))
