"""Cyclomatic complexity of functions, by lizard, which counts tokens that branch in two dozen languages; slow, so asked for by name."""

import importlib.metadata
from typing import Any

import numpy as np

from codemix_megatron.extras import require
from codemix_megatron.recipe.languages import PROGRAMMING, canonical_language
from codemix_megatron.scoring.scorer import Columns, Documents, empty_column

__all__ = ["FunctionComplexity"]


class FunctionComplexity:
    """The mean and the largest complexity of a document's functions; none without functions."""

    columns = ("cyclomatic", "most_cyclomatic")
    is_model = False

    def __init__(self) -> None:
        require("lizard", "--scores complexity")
        self.settings = {"by": f"lizard {importlib.metadata.version('lizard')}"}

    def score(self, documents: Documents) -> Columns:
        """Return the columns."""
        mean, most = empty_column(documents), empty_column(documents)
        for index, (text, language) in enumerate(zip(documents.texts, documents.languages, strict=True)):
            found = complexities(text, canonical_language(language)) if language else []
            if found:
                mean[index], most[index] = np.mean(found), max(found)
        return {"cyclomatic": mean, "most_cyclomatic": most}


def complexities(text: bytes, language: str) -> list[int]:
    """Return the complexity of each function of a document; of what lizard does not know or fails on, none."""
    import lizard

    suffix = next(iter(PROGRAMMING.get(language, "").split()), "")
    if not suffix or lizard.get_reader_for(f"a{suffix}") is None:
        return []
    try:
        analysed: Any = lizard.analyze_file.analyze_source_code(f"a{suffix}", text.decode("utf-8", "replace"))
    except (RecursionError, ValueError, IndexError, KeyError, AttributeError, TypeError):  # its readers are many and small
        return []
    return [function.cyclomatic_complexity for function in analysed.function_list]
