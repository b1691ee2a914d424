"""Jupyter notebooks: prose cells as they stand, code cells in fences of their language; outputs are left out."""

import json
import re
from collections.abc import Iterator

import orjson

from codemix_megatron.readers.documents import BadDocument, Document, Position, check_text
from codemix_megatron.readers.streams import open_unpacked

__all__ = ["NOTEBOOK", "notebook_text", "read_notebook"]

NOTEBOOK = "notebook"
DEEPEST_HEADING = 6  # of Markdown and of nbformat 3
BACKTICKS = re.compile("`+")
LARGEST_NOTEBOOK_BYTES = 64 << 20  # pictures are most of it


def read_notebook(
    path, name: str, position: Position, *, kind: str | None = None, licence: str | None = None
) -> Iterator[Document | BadDocument]:
    """Yield a notebook (nbformat 3 or 4) as one document."""
    with open_unpacked(path, position.hashed) as (stream, _):
        data = stream.read(LARGEST_NOTEBOOK_BYTES + 1)
    if len(data) > LARGEST_NOTEBOOK_BYTES:
        yield BadDocument(str(path), f"notebook larger than {LARGEST_NOTEBOOK_BYTES >> 20} MiB", harmless=True)
        return
    try:
        text = notebook_text(parse_notebook(data.removeprefix(b"\xef\xbb\xbf")))
    except (ValueError, RecursionError):
        yield BadDocument(str(path), "broken JSON")
    except (AttributeError, KeyError, TypeError, OverflowError):
        yield BadDocument(str(path), "no Jupyter notebook")
    else:
        yield check_text(text, str(path), language=NOTEBOOK, kind=kind, licence=licence, origin=name)


def parse_notebook(data: bytes):
    """Return the JSON of a notebook; the outputs of some hold NaN and infinities, which strict JSON has not."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data.decode("utf-8"))


def notebook_text(notebook: dict) -> str:
    """Return the cells of a notebook as one text; raises KeyError or TypeError for what is none."""
    cells = notebook["cells"] if "cells" in notebook else [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]
    language = kernel_language(notebook.get("metadata") or {})
    parts = (cell_text(cell, language) for cell in cells)
    return "\n\n".join(part for part in parts if part) + "\n" if cells else ""


def kernel_language(metadata: dict) -> str:
    """Return the language of the code cells; python where a notebook does not say."""
    info, kernel = metadata.get("language_info") or {}, metadata.get("kernelspec") or {}
    return str(info.get("name") or kernel.get("language") or "python").lower()


def cell_text(cell: dict, language: str) -> str:
    """Return one cell: code in a fence longer than any inside it, a heading of old notebooks with its signs."""
    source = cell.get("source", cell.get("input", ""))
    text = (source if isinstance(source, str) else "".join(source)).strip("\n").rstrip()
    if not text:
        return ""
    if cell["cell_type"] == "heading":
        return f"{'#' * min(max(int(cell.get('level', 1)), 1), DEEPEST_HEADING)} {text}"
    if cell["cell_type"] != "code":
        return text
    fence = "`" * max(3, 1 + max(map(len, BACKTICKS.findall(text)), default=0))
    return f"{fence}{str(cell.get('language') or language).lower()}\n{text}\n{fence}"
