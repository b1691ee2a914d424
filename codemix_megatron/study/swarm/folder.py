"""A swarm is one folder: that of its study, with what the rounds were and what each of them taught.

DIR/swarm.json        what was asked for, the runs of each round, what was predicted of them, what was learned
    swarm.lock        held by the one `codemix swarm` that works here
    round-N.yaml      the study after N rounds: all runs so far
    study.json, ...   the folder of that study (study/folder.py); codemix study status, report and cancel work on it
    law/              the tables, the law and the proposals after the last round, as codemix law writes them
    report/           the swarm's own report
"""

from pathlib import Path
from typing import Any

import yaml

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.swarm.rounds import SwarmRun, study_of
from codemix_megatron.study.swarm.settings import SwarmSettings
from codemix_megatron.study.swarm.space import Space

__all__ = ["SwarmFolder", "open_round", "runs_of"]

VERSION = 1


class SwarmFolder(StudyFolder):
    """Paths of one swarm, and its state; `study` is the study in the same folder."""

    def __init__(self, path):
        super().__init__(path)
        self.study = StudyFolder(path)
        self.state, self.lock = self.path / "swarm.json", self.path / "swarm.lock"
        self.law = self.path / "law"

    @classmethod
    def existing(cls, path) -> "SwarmFolder":
        """Return the begun swarm at `path`, or raise naming what is missing."""
        folder = cls(path)
        if not folder.state.is_file():
            raise CodemixError(f"{folder}: not a begun swarm (no swarm.json in it); give the folder that `codemix swarm` made")
        return folder

    def round_file(self, number: int) -> Path:
        """Return the study of a round."""
        return self.path / f"round-{number}.yaml"

    def begin(self, settings: SwarmSettings) -> dict[str, Any]:
        """Return the swarm's state; raises CodemixError where it began with other settings."""
        if not self.state.is_file():
            return {"version": VERSION, "settings": settings.as_plain(), "rounds": []}
        state = self.read()
        settings.refuse_changes(SwarmSettings.from_plain(state["settings"]))
        return {**state, "settings": settings.as_plain()}


def runs_of(state: dict[str, Any]) -> list[SwarmRun]:
    """Return the runs of all rounds."""
    return [SwarmRun(**run) for entry in state["rounds"] for run in entry["runs"]]


def open_round(folder: SwarmFolder, state: dict[str, Any], space: Space, runs: list[SwarmRun], predicted: dict | None = None) -> None:
    """Write a round: its study first, so that a swarm which is stopped between the two writes it again, the same."""
    settings = SwarmSettings.from_plain(state["settings"])
    number = len(state["rounds"]) + 1
    study = study_of(folder.path.name, space, settings, [*runs_of(state), *runs])
    head = f"# Round {number} of a swarm over {settings.base}; written by codemix swarm.\n"
    replace_text(folder.round_file(number), head + yaml.safe_dump(study, sort_keys=False, default_flow_style=None, width=150))
    state["rounds"].append({"number": number, "runs": [vars(run) for run in runs], "predicted": predicted or {}})
    folder.write(state)
