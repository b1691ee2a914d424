"""Where the weights of a checkpoint come from: every run they went through, first the first, and what they read there. No torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.errors import CodemixError, CorpusError
from codemix_megatron.plan.branch import branch_from, sequences_at
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.recipe.pretrained import PREFIX
from codemix_megatron.recipe.schema import Recipe, as_plain
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import CHECKPOINT_METADATA, RunFolder, step_of

__all__ = ["CorpusRead", "Stage", "corpora_read", "lineage", "public_recipe"]

MOST_STAGES = 100  # a chain that names itself would never end
ABSOLUTE = re.compile(r"(?<![\w./])/(?!/)(?:[^\s/,'\"]+/)+([^\s/,'\"]*)")


@dataclass(frozen=True)
class Stage:
    """One run on the way to a checkpoint, trained there from after step `first` to `last`; no plan where its folder is gone."""

    run: RunFolder
    first: int
    last: int
    plan: dict | None
    recipe: Recipe | None
    how: str  # it began: from random weights, from the weights of ..., as a branch of ...

    @property
    def tokens(self) -> int:
        """Tokens trained on in this run, up to its last step here."""
        if self.plan is None:
            return 0
        return (sequences_at(self.plan, self.last) - sequences_at(self.plan, self.first)) * self.plan["sequence_length"]

    @property
    def phases(self) -> list[dict]:
        """The phases it went through, whole or in part."""
        return [] if self.plan is None else [phase for phase in self.plan["phases"] if phase["first_step"] <= self.last]


@dataclass(frozen=True)
class CorpusRead:
    """A corpus, how many tokens of it the weights have seen, and its manifest where it is still there."""

    name: str
    kind: str
    sha256: str | None
    tokens: int
    manifest: CorpusManifest | None


def lineage(run: RunFolder, step: int) -> list[Stage]:
    """Return the runs that a checkpoint went through, itself last; what is gone is named and ends the chain."""
    chain: list[Stage] = []
    follow: tuple[RunFolder, int] | None = (run, step)
    while follow and len(chain) < MOST_STAGES:
        stage, follow = stage_of(*follow)
        chain.insert(0, stage)
    return chain


def stage_of(run: RunFolder, last: int) -> tuple[Stage, tuple[RunFolder, int] | None]:
    """Return one run of the chain, and run and step it went on from."""
    try:
        plan, recipe = read_json(run.plan), read_run_recipe(run)
    except (OSError, ValueError, CodemixError):
        return Stage(run, 0, last, None, None, imported_or_gone(run)), None
    if branch := plan.get("branch"):
        parent = RunFolder(recipe.branch.run if recipe.branch else branch["run"])
        how = f"went on from step {branch['step']} of {parent.path.name}, Adam's state and data order included"
        return Stage(run, branch["step"], last, plan, recipe, how), (parent, branch["step"])
    start = recipe.initial_weights
    if start and start.startswith(PREFIX):
        return Stage(run, 0, last, plan, recipe, f"started from the weights of {Path(start).name}"), None
    if start:
        parent, step = start_of(Path(start))
        how = f"started from the weights of {parent.path.name}, step {step}, Adam fresh"
        return Stage(run, 0, last, plan, recipe, how), (parent, step)
    return Stage(run, 0, last, plan, recipe, "started from random weights"), None


def imported_or_gone(run: RunFolder) -> str:
    """Say what a run without a plan is."""
    if not run.checkpoints.is_dir():
        return "its folder is gone"
    try:
        there = read_json(run.checkpoint(0) / CHECKPOINT_METADATA).get("megatron")
    except (OSError, ValueError, AttributeError):
        there = None
    if there:
        return f"was imported from iteration {there.get('iteration')} of a checkpoint of Megatron-LM: weights, not Adam's state"
    return "was imported, not trained here"


def start_of(path: Path) -> tuple[RunFolder, int]:
    """Return run and step of a run folder (its newest checkpoint) or of a checkpoint."""
    if step_of(path) is not None:
        return RunFolder(path.parent.parent), step_of(path) or 0
    steps = [step_of(one) or 0 for one in RunFolder(path).checkpoints.glob("step-*")]
    return RunFolder(path), max(steps, default=0)


def corpora_read(chain: list[Stage]) -> list[CorpusRead]:
    """Return every corpus the weights have read, over all runs of the chain."""
    found: dict[str, CorpusRead] = {}
    for stage in chain:
        if stage.plan is None or stage.recipe is None or stage.last <= stage.first:
            continue
        now = branch_from(stage.plan, str(stage.run), stage.last).consumed
        before = (stage.plan.get("branch") or {}).get("consumed", {})
        for name, source in stage.plan["sources"].items():
            tokens = (now.get(name, 0) - before.get(name, 0)) * stage.plan["sequence_length"]
            known = found.get(name)
            spec = stage.recipe.corpora.get(name)
            manifest = known.manifest if known and known.manifest else manifest_at(spec.prefix) if spec else None
            kind = spec.kind if spec else ""
            found[name] = CorpusRead(name, kind, source.get("bin_sha256"), tokens + (known.tokens if known else 0), manifest)
    return [corpus for corpus in found.values() if corpus.tokens]


def manifest_at(prefix: str | None) -> CorpusManifest | None:
    """Return a corpus's manifest, None where it is gone."""
    try:
        return CorpusManifest.read(prefix, with_files=False)
    except CorpusError:
        return None


def public_recipe(recipe: Recipe) -> dict:
    """Return a recipe as plain values without the folders of the machine it was trained on.

    Of absolute paths the last name stays; runs it went on from are looked for in runs/, where the model card's commands put them.
    """
    plain = as_plain(recipe)
    if recipe.branch:
        plain["branch"]["run"] = f"runs/{Path(recipe.branch.run).name}"
    if recipe.initial_weights and not recipe.initial_weights.startswith(PREFIX):
        parent, _ = start_of(Path(recipe.initial_weights))
        plain["initial_weights"] = str(Path("runs") / parent.path.name / Path(recipe.initial_weights).relative_to(parent.path))
    return without_folders(plain)


def without_folders(value):
    """Return a value in which no text holds an absolute path."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return ABSOLUTE.sub(lambda found: found[1] or "...", value) if isinstance(value, str) else value
