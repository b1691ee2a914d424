"""Code:text mixture studies on Megatron-Core: from corpora to a scored Hugging Face model.

    import codemix_megatron as cm

    recipe = cm.read_recipe("recipe.yaml")
    print(cm.plan_run(recipe).steps)
    run = cm.train_run("recipe.yaml", "runs/mine", nproc=2)
    run.steps().plot(x="tokens", y="loss")

What stands in `__all__` is the stable surface; each name is imported when it is first asked for, and torch only by what needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from codemix_megatron.megatron.absent_kernels import stand_in_for_kernels
from codemix_megatron.version import __version__ as __version__

if TYPE_CHECKING:
    from codemix_megatron.errors import CodemixError
    from codemix_megatron.interface.corpora import Corpus, prepare_corpora
    from codemix_megatron.interface.runs import Run, plan_run, train_run
    from codemix_megatron.interface.studies import Study
    from codemix_megatron.mixture.mixture import Mixture
    from codemix_megatron.plan.plan import Plan
    from codemix_megatron.recipe.reading import read_recipe
    from codemix_megatron.recipe.schema import Recipe
    from codemix_megatron.records.scores import Scores
    from codemix_megatron.train.dataset import RunDataset

__all__ = [
    "CodemixError",
    "Corpus",
    "Mixture",
    "Plan",
    "Recipe",
    "Run",
    "RunDataset",
    "Scores",
    "Study",
    "plan_run",
    "prepare_corpora",
    "read_recipe",
    "train_run",
]

stand_in_for_kernels()  # here: any module below may be the first to import megatron.core

# `plan`, `train` and the like are subpackages, which would take the place of functions of those names once they are imported.
MODULES = {
    "CodemixError": "errors",
    "Corpus": "interface.corpora",
    "Mixture": "mixture.mixture",
    "Plan": "plan.plan",
    "Recipe": "recipe.schema",
    "Run": "interface.runs",
    "RunDataset": "train.dataset",
    "Scores": "records.scores",
    "Study": "interface.studies",
    "plan_run": "interface.runs",
    "prepare_corpora": "interface.corpora",
    "read_recipe": "recipe.reading",
    "train_run": "interface.runs",
}


def __getattr__(name: str) -> Any:
    """Import a name of the surface when it is first asked for."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
