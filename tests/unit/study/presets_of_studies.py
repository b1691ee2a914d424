"""The studies under examples/, planned with the sizes the paper gives."""

from pathlib import Path

import yaml

from codemix_megatron.plan.plan import find_corpora
from codemix_megatron.recipe.paper import RUNS
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.study.planning import StudyPlan, plan_study, remember_corpora
from codemix_megatron.study.segments import build_graph
from codemix_megatron.study.study_file import read_study

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SIZES = {name: parse_tokens(size) for name, size in yaml.safe_load((EXAMPLES / "paper/sizes.yaml").read_text()).items()}
PAPER_NAMES = {f"{run.name}-{size}" for size, runs in RUNS.items() for run in runs}


def plan_of_study(name: str, **sizes: int) -> StudyPlan:
    """Return the plan of one study, such as paper."""
    graph = build_graph(read_study(EXAMPLES / "studies" / f"{name}.yaml"))
    return plan_study(graph, remember_corpora(lambda recipe: find_corpora(recipe, sizes or SIZES)), Path("/runs"), "v5e")
