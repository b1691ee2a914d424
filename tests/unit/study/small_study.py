"""A study over the tiny recipe: two ways to begin, two cooldowns; and its corpora as sizes alone."""

import copy
from pathlib import Path

import yaml
from tiny_run import RECIPE

from codemix_megatron.plan.plan import find_corpora
from codemix_megatron.study.planning import plan_study
from codemix_megatron.study.segments import build_graph
from codemix_megatron.study.study_file import read_study

TEXT_PHASE = {
    "tokens": 4 * 512,
    "mixture": {"prose": 0.9, "snippets": 0.1},
    "learning_rate": {"schedule": "linear", "peak": 0.001, "final": 5e-4},
}
STUDY = {
    "name": "small",
    "base": "recipe.yaml",
    "phases": {"text": TEXT_PHASE},
    "variants": {
        "plain": {"phases": ["balanced", "cooldown"]},
        "longer": {"phases": ["balanced", "text", "cooldown"]},
        "no-code": {"phases": ["balanced", "text", "cooldown"], "overrides": {"phases.cooldown.mixture": {"prose": 1.0}}},
    },
}


def write_study(folder: Path, change=lambda study: None, recipe: dict = RECIPE) -> Path:
    """Write the study and its base recipe into a folder, after `change` has had it; return the study's path."""
    study = copy.deepcopy(STUDY)
    change(study)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def graph_of(folder: Path, change=lambda study: None):
    """Return the graph of the changed study."""
    return build_graph(read_study(write_study(folder, change)))


def planned(graph, sizes: dict[str, int] | None = None, **options):
    """Return the study's plan over corpora of these sizes."""
    sizes = sizes or {"prose": 10**5, "snippets": 10**5}
    return plan_study(graph, lambda recipe: find_corpora(recipe, sizes), Path("/runs"), **options)
