"""Where a branched run begins: at a step of another run, whose reading of the corpora it continues."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from codemix_megatron.errors import CodemixError, RecipeError
from codemix_megatron.mixture.budget import apportion
from codemix_megatron.mixture.mixture import DATA_ORDER, Mixture
from codemix_megatron.plan.batches import batch_runs, position_after
from codemix_megatron.plan.buckets import round_of, same_buckets
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.run_folder import RunFolder, is_run_folder

__all__ = [
    "BranchPoint",
    "branch_from",
    "data_order",
    "find_branch_point",
    "in_longer_sequences",
    "other_data_order",
    "recorded_branch_point",
    "sequences_at",
]


IDENTITY = ("bin_sha256", "loss_mask_sha256", "sequences_per_epoch", "buckets")  # of a source in a plan: what its sequences are


@dataclass(frozen=True)
class BranchPoint:
    """A step of a parent run; `consumed` are the sequences of each source that were read by then, grandparents included.

    `sequences` is the position the data order stands at; branches written down before batches could change have none. All are counted
    in sequences of the branch, which may be longer than its parent's; `parent_length` is the parent's where they are.
    """

    run: str
    step: int
    consumed: dict[str, int]
    sequences: int | None = None
    reseeded: list[dict] = field(default_factory=list)  # data seeds of phases before: {seed, drawn: {source: sequences read by then}}
    files: dict[str, dict] = field(default_factory=dict)  # what sources read by then are: checksums and sequences of an epoch
    parent_length: int | None = None

    def position(self, global_sequences: int) -> int:
        """Return the position a branch with this global batch begins at."""
        return self.step * global_sequences if self.sequences is None else self.sequences


def data_order(plan: dict) -> Mixture:
    """Return the data order that a plan (as plan.json holds it) describes."""
    names, branch = list(plan["sources"]), plan.get("branch")
    rows = [
        (i, row)
        for i, p in enumerate(plan["phases"])
        for row in p.get("stretches") or [{n: source["sequences"] for n, source in p["sources"].items()}]
    ]
    counts, phase_of_row = [[row.get(n, 0) for n in names] for _, row in rows], [i for i, _ in rows]
    per_epoch = [plan["sources"][n]["sequences_per_epoch"] for n in names]
    stored = [plan["sources"][n].get("stored_sequences", p) for n, p in zip(names, per_epoch, strict=True)]
    of_part = stored if stored != per_epoch else None
    rounds = {i: round_of(plan["sources"][n]["buckets"]) for i, n in enumerate(names) if "buckets" in plan["sources"][n]}
    seeds = [phase.get("data_seed") for phase in plan["phases"]]
    if branch is None:
        return Mixture(plan["seed"], names, per_epoch, counts, stored=of_part, data_seeds=seeds, phase_of_row=phase_of_row, rounds=rounds)
    drawn, first = [branch["consumed"].get(n, 0) for n in names], sequences_at(plan, branch["step"])
    before = [(entry["seed"], [entry["drawn"].get(n, 0) for n in names]) for entry in branch.get("reseeded", [])]
    return Mixture(plan["seed"], names, per_epoch, counts, first, drawn, of_part, seeds, before, phase_of_row, rounds)


def sequences_at(plan: dict, step: int) -> int:
    """Return the sequences seen after a step of a plan, as plan.json holds it; its parents may have had other global batches."""
    branch, runs = plan.get("branch"), batch_runs(plan)
    if branch is None:
        return position_after(step, 0, 0, runs)
    return position_after(step, branch["step"], BranchPoint(**branch).position(runs[0][1]), runs)


def branch_from(parent: dict, run: str, step: int | None) -> BranchPoint:
    """Return the point at `step` (default: the last) of a run with the plan `parent`; raises RecipeError when it has no such step."""
    branch = parent.get("branch") or {"step": 0, "consumed": {}}
    step = parent["steps"] if step is None else step
    if not branch["step"] < step <= parent["steps"]:
        raise RecipeError(f"branch.step: {run} has no step {step}; it goes from {branch['step'] + 1} to {parent['steps']}")
    mixture, at = data_order(parent), sequences_at(parent, step)
    counts = dict(zip(mixture.sources, map(int, mixture.consumed(at)), strict=True))
    reseeded = [*branch.get("reseeded", []), *data_seeds_before(parent, mixture, at)]
    files = {name: {key: source[key] for key in IDENTITY if key in source} for name, source in parent["sources"].items() if counts[name]}
    return BranchPoint(run, step, {**branch["consumed"], **counts}, at, reseeded, {**branch.get("files", {}), **files})


def data_seeds_before(plan: dict, mixture: Mixture, position: int) -> list[dict]:
    """Return the data seeds of the plan's own phases that have begun before a position, with what was drawn by then."""
    begun = zip(plan["phases"], mixture.phase_starts, mixture.draws_before_phases, strict=False)
    return [
        {"seed": phase["data_seed"], "drawn": dict(zip(mixture.sources, map(int, drawn), strict=True))}
        for phase, start, drawn in begun
        if phase.get("data_seed") is not None and start < position
    ]


def find_branch_point(
    recipe: Recipe, corpora: Mapping, per_epoch: dict[str, int], buckets: dict[str, dict] | None = None
) -> BranchPoint | None:
    """Return where the recipe branches off, or None when it begins by itself.

    Reads the parent's plan.json. Raises RecipeError, naming all that differs, when the parent's reading cannot be continued.
    """
    if recipe.branch is None:
        return None
    folder = RunFolder(recipe.branch.run)
    try:
        parent = read_json(folder.plan)
    except (OSError, ValueError):
        raise RecipeError(f"branch.run: {folder} is no run folder (no readable plan.json); train the parent first") from None
    if faults := other_reading(recipe, parent, corpora, per_epoch, buckets or {}):
        raise RecipeError([f"branch.run: {fault}" for fault in faults])
    point, length = branch_from(parent, str(folder), recipe.branch.step), recipe.model.sequence_length
    return point if length == parent["sequence_length"] else in_longer_sequences(point, parent["sequence_length"], length)


def in_longer_sequences(point: BranchPoint, theirs: int, ours: int) -> BranchPoint:
    """Return a branch point of sequences of `theirs` tokens counted in longer ones of `ours`.

    The position is rounded up to a whole sequence, and sources have the parts of it that they had, so that they still add up. Which positions of a
    corpus were read is lost: longer sequences are drawn in an order of their own, from the same number of draws on.
    """
    assert point.sequences is not None, "a point that is read off a plan has its position"
    position = -(-point.sequences * theirs // ours)
    consumed = apportion(position, {name: float(count) for name, count in point.consumed.items()})
    reseeded = [{**entry, "drawn": {name: count * theirs // ours for name, count in entry["drawn"].items()}} for entry in point.reseeded]
    files = {name: {key: value for key, value in known.items() if key != "sequences_per_epoch"} for name, known in point.files.items()}
    return replace(point, sequences=position, consumed=consumed, reseeded=reseeded, files=files, parent_length=theirs)


def recorded_branch_point(run: RunFolder) -> BranchPoint | None:
    """Return where a run that has begun branched off: from then on it needs its parent no more."""
    if not is_run_folder(run):
        return None
    try:
        branch = read_json(run.plan).get("branch")
    except (OSError, ValueError, AttributeError) as fault:
        raise CodemixError(f"{run.plan}: cannot be read ({fault}); write it again: codemix plan {run.recipe} --output {run.plan}") from None
    return BranchPoint(**branch) if branch else None


def other_data_order(plan: dict) -> str | None:
    """Say that a plan or a checkpoint's metadata was made under another data order than this version's; those without a number have the first."""
    found = plan.get("data_order", 1)
    if found == DATA_ORDER:
        return None
    return f"its data order is version {found}, this package has version {DATA_ORDER}: it would read some data again and skip other"


def other_reading(recipe: Recipe, parent: dict, corpora: Mapping, per_epoch: dict[str, int], buckets: dict[str, dict]) -> list[str]:
    """Say what keeps a branch from drawing on where its parent stopped."""
    length, theirs = recipe.model.sequence_length, parent["sequence_length"]
    faults = []
    if recipe.seed != parent["seed"]:
        faults.append(
            f"seed is {recipe.seed} here and {parent['seed']} there; a branch keeps it; phases[0].data_seed gives its own phases another"
            " order of the data"
        )
    if length < theirs:
        faults.append(
            f"model.sequence_length is {length} here and {theirs} there; a branch keeps it or has longer ones. For shorter sequences keep"
            f" {theirs} and set sequence_length: {length} in phases"
        )
    if fault := other_data_order(parent):
        faults.append(fault)
    if faults:
        return faults
    for name, corpus in corpora.items():
        # A parent may leave out a corpus that its own parents have read.
        known = parent["sources"].get(name) or (parent.get("branch") or {}).get("files", {}).get(name)
        if known is None:
            continue
        is_same = corpus.bin_sha256 == known["bin_sha256"] or None in (corpus.bin_sha256, known["bin_sha256"])
        is_same &= getattr(corpus, "loss_mask_sha256", "") == known.get("loss_mask_sha256", "")
        if not same_buckets(buckets.get(name), known.get("buckets")):  # those of sequences of another length are others too
            faults.append(
                f"sources.{name} draws on other buckets than the parent, whose reading cannot be gone on with; rename the corpus here or take those"
            )
        elif not is_same or (length == theirs and known.get("sequences_per_epoch") not in (None, max(1, per_epoch[name]))):
            faults.append(
                f"corpora.{name} is another file, or cut into other sequences, than the parent's (or its parents'); rename it here or take that"
            )
    return faults
