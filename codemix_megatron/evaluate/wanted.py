"""What is scored, of which model: the request behind a file of scores."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codemix_megatron.evaluate.digests import named_files, task_digest
from codemix_megatron.evaluate.suites import Suite, find_data
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["ALONE", "OWN_SUITES", "Copies", "Subject", "Wanted", "request_digest", "tasks_folder_digest", "wanted_of"]

OWN_SUITES = ("bits_per_byte", "rolling_bits_per_byte", "continuation")  # made from the run's own held-out documents


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to score. `items` is the most per task, None for all."""

    suites: tuple[str, ...]
    items: int | None
    data: Path | None = None  # folder with the data files of suites
    hub: bool = False  # fetch from the Hugging Face hub what is not in it
    samples: int = 1  # completions of each programming problem
    contamination: bool = False  # look for the items of suites in the training documents
    allow_cut: bool = False  # keep scores of tasks of which more than 1 % of the prompts did not fit
    tasks: tuple[str, ...] = ()
    tasks_directory: str | None = None
    trust: tuple[str, ...] = ()  # lines that may be crossed, by their names in trust.py


@dataclass(frozen=True)
class Copies:
    """Which of how many processes this is, each with a copy of the model."""

    share: int = 0
    shares: int = 1

    @property
    def is_main(self) -> bool:
        """One of them writes files."""
        return self.share == 0


ALONE = Copies()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is scored: `load()` gives the model and is called only when something is not known yet."""

    name: str
    digest: str
    step: int
    tokens: int
    load: Callable[[], object]
    corpora: dict[str, CorpusManifest] = field(default_factory=dict)
    own_tokenizer: bool = True  # the corpora's; else it is looked at, and documents are read by their texts where it is another


def wanted_of(recipe: Recipe, **changes) -> Wanted:
    """Return what a recipe asks for, with what the command line changes; a change of None leaves it alone."""
    evaluation = recipe.evaluation
    asked: dict[str, Any] = {
        "suites": evaluation.suites,
        "items": evaluation.items,
        "data": Path(evaluation.data_directory) if evaluation.data_directory else None,
        "tasks": evaluation.tasks,
        "tasks_directory": evaluation.tasks_directory,
    }
    trust = tuple(sorted({*evaluation.trust, *(changes.pop("trust", None) or ())}))
    return Wanted(trust=trust, **(asked | {key: value for key, value in changes.items() if value is not None}))


def tasks_folder_digest(directory: Path) -> str:
    """Return the digest of everything in a folder of task files, and of the data elsewhere that these name."""
    if not directory.is_dir():
        return ""
    paths = sorted(p for p in directory.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    elsewhere = {path for file in paths if file.suffix in (".yaml", ".yml") for path in named_files(file, directory)} - set(paths)
    named = [(os.path.relpath(path, directory), file_sha256(path)) for path in [*paths, *sorted(elsewhere)]]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def request_digest(subject: Subject, wanted: Wanted, suites: list[Suite]) -> str:
    """Return the digest of a whole request: model, limits, suites, data and held-out documents."""
    data = {}
    for suite in suites:
        for task in suite.tasks:
            path = find_data(task, wanted.data)
            data[f"{suite.name}/{task.name}"] = file_sha256(path) if path else ""
    return task_digest(
        subject.digest,
        wanted=[wanted.suites, wanted.items, wanted.hub, wanted.samples, wanted.tasks, wanted.contamination, wanted.allow_cut],
        **({"trust": wanted.trust} if wanted.trust else {}),
        suites=[repr(suite) for suite in suites],
        data=data,
        tasks=tasks_folder_digest(Path(str(wanted.tasks_directory))) if wanted.tasks else "",
        corpora={name: [manifest.bin_sha256, manifest.held_out_share] for name, manifest in subject.corpora.items()},
    )
