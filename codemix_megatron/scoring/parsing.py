"""Whether code parses: Python by its own parser, other languages by the grammars of tree-sitter; and the share of it that does not."""

import functools
import importlib.metadata
import warnings
from typing import Any

from codemix_megatron.extras import require
from codemix_megatron.python_source import parse_python
from codemix_megatron.recipe.languages import canonical_language
from codemix_megatron.scoring.scorer import Columns, Documents, empty_column

__all__ = ["ParseErrors", "error_share"]

PACKAGE = "tree-sitter-language-pack"
# Our names of languages where the package has others.
GRAMMARS = {
    "c++": "cpp", "c#": "csharp", "shell": "bash", "jsx": "javascript", "objective-c": "objc", "make": "make", "common lisp": "commonlisp",
    "emacs lisp": "elisp", "protobuf": "proto", "terraform": "hcl", "f#": "fsharp",
}  # fmt: skip
LONGEST_BYTES = 4 << 20  # a longer document is not parsed


class ParseErrors:
    """`parses` 1 or 0, and `parse_errors`, the share of bytes that stand in what tree-sitter could not read."""

    columns = ("parses", "parse_errors")
    is_model = False

    def __init__(self) -> None:
        require("tree_sitter_language_pack", "--scores parse")
        self.settings = {"by": f"ast, {PACKAGE} {importlib.metadata.version(PACKAGE)}"}

    def score(self, documents: Documents) -> Columns:
        """Return the columns; documents of languages without a grammar have none."""
        parses, errors = empty_column(documents), empty_column(documents)
        for index, (text, language) in enumerate(zip(documents.texts, documents.languages, strict=True)):
            name = canonical_language(language) if language else ""
            share = error_share(text, name) if text else None
            if share is not None:
                errors[index] = share
                parses[index] = share == 0
            if name == "python" and text:
                parses[index] = is_python(text)
        return {"parses": parses, "parse_errors": errors}


@functools.lru_cache(None)
def grammar_parser(language: str) -> Any:
    """Return tree-sitter's parser of a language, None where there is none."""
    from tree_sitter_language_pack import get_parser

    try:
        return get_parser(GRAMMARS.get(language, language))  # type: ignore[arg-type]
    except (LookupError, ImportError):
        return None


def error_share(text: bytes, language: str) -> float | None:
    """Return the share of bytes in errors, 1 byte where something is missing; None without a grammar, or where a document is too long."""
    parser = grammar_parser(language) if language and len(text) <= LONGEST_BYTES else None
    if parser is None:
        return None
    root, found = parser.parse(text).root_node, 0
    waiting = [root] if root.has_error else []
    while waiting:
        node = waiting.pop()
        if node.is_error or node.is_missing:
            found += max(1, node.end_byte - node.start_byte)
        else:
            waiting += [child for child in node.children if child.has_error]
    return min(1.0, found / len(text))


def is_python(text: bytes) -> bool:
    """Say whether this Python's own parser takes a document."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parse_python(text)
        return True
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
