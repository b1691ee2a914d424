"""Packages that a part of this one needs and a small installation lacks: which extra brings them, said in one line.

Every import of them stands where it is needed. Where one fails, the command line asks `missing_extra` what to say; what would otherwise
fail in the middle of a run asks `require` before it begins.
"""

import importlib.util

from codemix_megatron.errors import CodemixError

__all__ = ["EXTRAS", "missing_extra", "require"]

EXTRAS: dict[str, tuple[str, ...]] = {  # extra in setup.py -> modules it brings
    "eval": ("lm_eval", "datasets"),
    "trackers": ("tensorboard", "wandb"),
    "figures": ("matplotlib",),
    "law": ("sklearn",),
    "fast": ("fastokens", "kitoken"),
    "cloud": ("aiohttp",),
    "parquet": ("pyarrow",),
    "wiki": ("bs4", "markdownify"),
    "frames": ("pandas",),
    "score": ("ruff", "lizard", "tree_sitter_language_pack"),
    "scale": ("duckdb",),
    "ray": ("ray",),
}


def missing_extra(fault: ImportError) -> str | None:
    """Return what to install for a module that could not be imported; None where no extra brings it."""
    module = (fault.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    return extra and f"needs the package {module}, which is not installed: pip install 'codemix_megatron[{extra}]'"


def require(module: str, why: str) -> None:
    """Raise CodemixError with the command that installs a module, unless it is there. `why` is what asked for it, such as a recipe's key."""
    try:
        is_there = importlib.util.find_spec(module) is not None
    except ValueError:  # a test's stand-in without a spec
        is_there = True
    if not is_there:
        raise CodemixError(f"{why}: {missing_extra(ImportError(name=module)) or f'needs the package {module}'}")
