"""StudyContents: everything the pages show of one study, read once."""

import re
from dataclasses import dataclass, field

from codemix_megatron.errors import CodemixError
from codemix_megatron.recipe.schema import CorpusSpec
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.report.choices import Choices
from codemix_megatron.report.run_data import RunData
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.reporting import read_bases, read_variants

__all__ = ["StudyContents", "read_contents"]


@dataclass(frozen=True)
class StudyContents:
    """One study. `name` is its folder among the pages; `corpora` holds those that its variants read, by name."""

    name: str
    folder: StudyFolder
    variants: list[RunData]
    bases: list[RunData] = field(default_factory=list)
    corpora: dict[str, CorpusManifest | None] = field(default_factory=dict)  # None where its files are no longer there

    @property
    def choices(self) -> Choices:
        """What the report of a study is written with."""
        return Choices(law=self.folder.path / "law")


def read_contents(path, taken: set[str]) -> StudyContents:
    """Read a begun study; `taken` are names that others among the pages have."""
    folder = StudyFolder.existing(path)
    variants = read_variants(folder)
    if not variants:
        raise CodemixError(f"{folder}: no run has begun, so there is nothing to show; codemix study run {folder.read()['study']}")
    specs = {name: spec for run in variants if run.recipe for name, spec in run.recipe.corpora.items()}
    corpora = {name: manifest_of(spec) for name, spec in specs.items()}
    return StudyContents(free_name(folder, taken), folder, variants, read_bases(folder), corpora)


def free_name(folder: StudyFolder, taken: set[str]) -> str:
    """Return the study's name as a folder may be called, with a number where another study is called the same."""
    stem = folder.path.name if folder.path.name != "study" else folder.path.parent.name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-") or "study"
    numbered = (plain if number == 1 else f"{plain}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)


def manifest_of(spec: CorpusSpec) -> CorpusManifest | None:
    """Return a corpus's manifest, None where there is none to read any more."""
    try:
        return CorpusManifest.read(spec.prefix, with_files=False)
    except (CodemixError, OSError):
        return None
