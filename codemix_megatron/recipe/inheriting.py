"""What a branch takes from its parent's recipe: all that it may not change, and what it does not say itself."""

from pathlib import Path

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.moving_mixture import is_moving
from codemix_megatron.recipe.yaml_text import parse_yaml

__all__ = ["inherit_from_parent"]

# Blocks in which a branch's own keys win; those it may not change are compared with the parent's when it is planned.
BLOCKS = ("model", "batch", "optimizer", "tokenizer", "sequences")
# Keys of blocks that are its own otherwise: the form of the optimizer's state, and which documents of the corpora are held out.
SINGLE = {"parallel": "distributed_optimizer", "evaluation": "held_out_share"}


def inherit_from_parent(plain: dict, directory: Path, faults: list[str]) -> dict:
    """Return the plain recipe of a branch with what it leaves out taken from the recipe in its parent's run folder.

    Corpora are taken over where a mixture names them. Other recipes come back as they are.
    """
    branch = plain.get("branch")
    if not isinstance(branch, dict) or not isinstance(branch.get("run"), str):
        return plain
    path = directory / Path(branch["run"]).expanduser() / "recipe.yaml"
    try:
        parent = parse_yaml(path.read_text(encoding="utf-8"), where=str(path))
    except (OSError, UnicodeDecodeError):
        if not {"model", "batch", "tokenizer", "corpora"} <= set(
            plain
        ):  # one that says all of it may be planned before its parent is trained
            faults.append(f"branch.run: {path.parent} has no recipe.yaml to take what is missing here from; train the parent first")
        return plain
    except RecipeError as fault:
        faults.append(f"branch.run: {fault}")
        return plain
    taken = {key: merged(parent[key], plain.get(key)) for key in BLOCKS if isinstance(parent.get(key), dict)}
    single = {block: {key: parent[block][key]} for block, key in SINGLE.items() if key in (parent.get(block) or {})}
    return {
        **plain,
        **taken,
        "seed": plain.get("seed", parent.get("seed", 1234)),
        **{block: merged(inner, plain.get(block)) for block, inner in single.items()},
        "corpora": inherited_corpora(plain, parent),
    }


def merged(theirs: dict, ours):
    """Return a block with the branch's own keys over its parent's; one that is no mapping is left to be complained of."""
    return theirs if ours is None else {**theirs, **ours} if isinstance(ours, dict) else ours


def inherited_corpora(plain: dict, parent: dict):
    """Return the branch's corpora and those of its parent that its mixtures name, in the parent's order."""
    own, theirs = plain.get("corpora"), parent.get("corpora")
    if not isinstance(theirs, dict) or not (own is None or isinstance(own, dict)):
        return own
    phases = plain.get("phases")
    named = (
        {name for phase in phases if isinstance(phase, dict) for name in leaves(phase.get("mixture"))}
        if isinstance(phases, list)
        else set()
    )
    return {name: spec for name, spec in theirs.items() if name in named and name not in (own or {})} | (own or {})


def leaves(mixture) -> set[str]:
    """Return every name in a mixture, groups and corpora alike."""
    if not isinstance(mixture, dict):
        return set()
    if is_moving(mixture):
        return leaves(mixture["from"]) | leaves(mixture["to"])
    if "proportional" in mixture:
        listed = mixture.get("corpora")
        return {str(name) for name in listed} if isinstance(listed, list) else set()
    inner = [leaves(entry.get("mixture")) for entry in mixture.values() if isinstance(entry, dict)]
    return {str(name) for name in mixture}.union(*inner)
