"""Whether a study file still asks for what a begun study has done: segments that have begun may not change."""

import difflib
from dataclasses import replace

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.records.run_folder import is_run_folder
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.schema import Study
from codemix_megatron.study.segments import Graph, build_graph, key_of, segment_recipe

__all__ = ["graph_in"]


def graph_in(folder: StudyFolder, study: Study) -> Graph:
    """Return the study's graph with the names its segments have in `folder`.

    Raises RecipeError with a diff when a variant's begun segment is another one now. Added variants, and others before a start, are fine.
    """
    if not folder.state.is_file():
        return build_graph(study)
    state = folder.read()
    begun = {name: key_in(folder, state, name) for name in state["segments"] if has_begun(folder, state, name)}
    graph = build_graph(study, {key: name for name, key in begun.items()})
    faults: dict[str, str] = {}
    for variant, path in graph.paths.items():
        for old, new in zip(state["variants"].get(variant, []), path, strict=False):
            if old in begun and begun[old] != graph.segments[new].key:
                faults.setdefault(old, difference(folder, old, graph, new))
                break
    if faults:
        listed = [f"{old} has begun and is another run now:\n{lines}" for old, lines in faults.items()]
        listed[-1] += "\n  use the study as it was, give changed variants new names, or take another --directory"
        raise RecipeError(listed, where=str(folder))
    return graph


def key_in(folder: StudyFolder, state: dict, segment: str) -> str:
    """Return what decides a begun segment, from the recipes in the folder: versions that know more keys than the one it began with agree."""
    chain, at = [], segment
    while at is not None:
        chain.append(read_recipe(folder.recipe(at)))
        at = state["segments"][at]["parent"]
    last, root = chain[0], chain[-1]
    phases = tuple(phase for recipe in reversed(chain) for phase in recipe.phases)
    whole = replace(last, phases=phases, branch=root.branch, initial_weights=root.initial_weights)
    return key_of(whole, len(phases) - 1)


def has_begun(folder: StudyFolder, state: dict, segment: str) -> bool:
    """Say whether a segment's run is there, or waits in a queue to be."""
    return is_run_folder(folder.run(segment)) or bool(state["tasks"].get(segment, {}).get("job"))


def difference(folder: StudyFolder, old: str, graph: Graph, new: str) -> str:
    """Return the lines in which the recipes of two segments differ."""
    before = folder.recipe(old).read_text(encoding="utf-8").splitlines()
    after = write_recipe(replace(segment_recipe(graph.segments[new], folder.runs), name=old)).splitlines()
    lines = difflib.unified_diff(before, after, "begun", "now", lineterm="", n=1)
    return "\n".join(f"    {line}" for line in lines if not line.startswith(("---", "+++")))
