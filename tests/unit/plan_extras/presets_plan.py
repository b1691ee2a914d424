"""Plans of the presets under examples/, with the sizes the paper gives."""

from functools import cache
from pathlib import Path

import yaml

from codemix_megatron.plan.branch import branch_from
from codemix_megatron.plan.plan import find_corpora, make_plan
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.recipe.reading import read_recipe

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
OTHER_SIZES = {"paper": 10**9, "corpora": 10**10}  # by folder, where the paper says nothing; small ones elsewhere
SIZES = {name: parse_tokens(size) for name, size in yaml.safe_load((EXAMPLES / "paper/sizes.yaml").read_text()).items()}


@cache
def plan_of(name: str):
    """Return the plan of one example, such as paper/470m/text-only; one that branches off does so from its parent's plan."""
    recipe = read_recipe(EXAMPLES / f"{name}.yaml")
    folder = name.partition("/")[0]
    known = SIZES if folder == "paper" else {}
    sizes = {corpus: known.get(corpus, OTHER_SIZES.get(folder, 10**6)) for corpus in recipe.corpora}
    return make_plan(recipe, find_corpora(recipe, sizes), branch=branch_of(recipe.branch, name))


def branch_of(branch, name: str):
    """Return where an example branches off, or None; runs/470m-X is the run of the example X beside it."""
    if branch is None:
        return None
    folder = name.rpartition("/")[0]
    parent = plan_of(f"{folder}/{Path(branch.run).name.partition('-')[2]}")
    return branch_from(parent.as_json(), branch.run, branch.step)
