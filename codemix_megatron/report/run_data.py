"""RunData: everything the records of one run say, read once; what is missing is None or empty."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from codemix_megatron.errors import CodemixError, RecipeError
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.events import RunEvent, StepEvent, ValidationEvent
from codemix_megatron.records.journal import read_events, surviving
from codemix_megatron.records.run_folder import RunFolder, saved_step, step_of
from codemix_megatron.records.scores import Scores

__all__ = ["RunData", "read_run"]


@dataclass(frozen=True, kw_only=True)
class RunData:
    """Records of one run. `steps` and `validations` are those of the surviving line of training."""

    folder: RunFolder
    name: str
    recipe: Recipe | None
    recipe_text: str
    plan: dict | None
    environment: dict | None
    events: list[RunEvent]
    steps: list[StepEvent]
    validations: list[ValidationEvent]
    scores: list[Scores] = field(default_factory=list)  # oldest first
    export: dict | None = None
    checkpoint_steps: list[int] = field(default_factory=list)
    ancestors: list[Path] = field(default_factory=list)  # folders of the segments it was trained in before this one, the nearest first
    variant: str | None = None  # what a study calls it, without its points on axes; None where no study is known
    points: dict[str, str] = field(default_factory=dict)  # axis -> point, without axes of seeds

    @property
    def shown_path(self) -> str:
        """The folder as one would type it here."""
        relative = os.path.relpath(self.folder.path)
        return str(self.folder.path) if relative.startswith("..") else relative

    @property
    def last_step(self) -> int:
        """Steps done."""
        return self.steps[-1].step if self.steps else 0

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.steps[-1].tokens if self.steps else 0

    @property
    def scored_tokens(self) -> int:
        """Tokens the newest scores were made after."""
        return (self.scores[-1].tokens if self.scores else 0) or self.tokens

    @property
    def planned_steps(self) -> int | None:
        """Steps the plan holds."""
        return (self.plan or {}).get("steps")

    @property
    def planned_tokens(self) -> int | None:
        """Tokens the plan holds, over all phases."""
        phases = (self.plan or {}).get("phases")
        return self.first_token + sum(phase["tokens"] for phase in phases) if phases else None

    @property
    def branch(self) -> dict | None:
        """The parent's run and step, when this run went on from another."""
        return (self.plan or {}).get("branch")

    @property
    def first_token(self) -> int:
        """Tokens that its parent had trained on."""
        if not (self.plan and self.branch):
            return 0
        sequences = self.branch.get("sequences")  # none in plans from when all batches of a chain were one
        return self.branch["step"] * self.plan["batch_tokens"] if sequences is None else sequences * self.plan["sequence_length"]

    @property
    def tokens_before(self) -> dict[str, int]:
        """Tokens of each source that its parent had read."""
        length = (self.plan or {}).get("sequence_length", 0)
        return {source: count * length for source, count in self.branch["consumed"].items()} if self.branch else {}

    @property
    def parameters(self) -> int | None:
        """All parameters, embedding included."""
        return (self.plan or {}).get("parameters", {}).get("total")

    @property
    def sources(self) -> list[str]:
        """Corpora by name, in the order of the recipe, else of the plan, else of the journal."""
        names = list(self.recipe.corpora) if self.recipe else []
        for known in ((self.plan or {}).get("sources", {}), *(e.tokens_per_source for e in self.steps[-1:])):
            names += [name for name in known if name not in names]
        for event in self.validations[-1:]:
            names += [name for name in event.bits_per_byte if name not in names]
        return names

    def kind(self, source: str) -> str:
        """Return text, code, markup, ... of a source; a source nothing is known of counts as text."""
        if self.recipe and source in self.recipe.corpora:
            return self.recipe.corpora[source].kind
        return (self.plan or {}).get("sources", {}).get(source, {}).get("kind", "text")

    @property
    def sequence_length(self) -> int | None:
        """Tokens of one sequence."""
        return (self.plan or {}).get("sequence_length") or (self.recipe.model.sequence_length if self.recipe else None)

    @property
    def phase_names(self) -> list[str]:
        """Phases in order: planned ones, or those in the journal."""
        if self.plan and self.plan.get("phases"):
            return [phase["name"] for phase in self.plan["phases"]]
        if self.recipe:
            return [phase.name for phase in self.recipe.phases]
        return list(dict.fromkeys(event.phase for event in self.steps))


def read_run(folder: RunFolder) -> RunData:
    """Read a run folder; absent files are no fault, damaged ones raise CodemixError."""
    text = folder.recipe.read_text(encoding="utf-8")
    try:
        recipe = read_run_recipe(folder)
    except RecipeError:
        recipe = None  # made by another version; the rest of the records still speaks
    plan = read_optional(folder.plan)
    events = read_events(folder.journal)
    newest = folder.latest_export()
    return RunData(
        folder=folder,
        name=(recipe.name if recipe else (plan or {}).get("name")) or folder.path.name,
        recipe=recipe,
        recipe_text=text,
        plan=plan,
        environment=read_optional(folder.environment),
        events=events,
        steps=surviving(events, StepEvent),
        validations=surviving(events, ValidationEvent),
        scores=[Scores.read(path) for path in sorted(numbered(folder.scores.glob("step-*.json")), key=number_of)],
        export=read_optional(newest / "export.json") if newest else None,
        checkpoint_steps=sorted(map(number_of, numbered(p.parent for p in folder.checkpoints.glob("step-*/card.json")))),
    )


def read_optional(path: Path) -> dict | None:
    """Return a JSON object, or None where there is no such file."""
    if not path.is_file():
        return None
    try:
        value = read_json(path)
    except ValueError as fault:
        raise CodemixError(f"{fault}; fix or remove the file") from None
    if not isinstance(value, dict):
        raise CodemixError(f"{path}: holds {type(value).__name__}, not an object; remove the file or make it again")
    return value


def number_of(path: Path) -> int:
    """Return N of step-N and of step-N.json."""
    return saved_step(path.name.removesuffix(".json"))


def numbered(paths) -> list[Path]:
    """Keep the paths that are named after a step."""
    return [path for path in paths if step_of(path.name.removesuffix(".json")) is not None]
