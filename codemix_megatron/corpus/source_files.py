"""Folders and single files: source code as it stands, prose files, and the prose inside Python files."""

import ast
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from codemix_megatron.corpus.documents import BadDocument, Document, Position, check_text, decode_file

__all__ = ["LANGUAGES", "PROSE_SUFFIXES", "docstrings_of", "is_wanted", "read_docstrings", "read_prose", "read_source", "walk_folder"]

LARGEST_SOURCE_BYTES = 1 << 20
PROSE_SUFFIXES = (".txt", ".md", ".rst")
SKIPPED_FOLDERS = {"__pycache__", "node_modules", "site-packages"}

PROGRAMMING = {
    "assembly": ".asm .s", "c": ".c .h", "c++": ".cc .cpp .cxx .hh .hpp .hxx", "c#": ".cs", "clojure": ".clj", "cuda": ".cu .cuh",
    "dart": ".dart", "elixir": ".ex .exs", "erlang": ".erl", "fortran": ".f .f90 .f95", "go": ".go", "groovy": ".groovy",
    "haskell": ".hs", "java": ".java", "javascript": ".js .jsx .mjs .cjs", "julia": ".jl", "kotlin": ".kt .kts", "lisp": ".lisp .el",
    "lua": ".lua", "matlab": ".m", "nim": ".nim", "ocaml": ".ml .mli", "pascal": ".pas", "perl": ".pl .pm", "php": ".php",
    "powershell": ".ps1", "python": ".py .pyi .pyx", "r": ".r", "ruby": ".rb", "rust": ".rs", "scala": ".scala", "shell": ".sh .bash .zsh",
    "solidity": ".sol", "sql": ".sql", "swift": ".swift", "typescript": ".ts .tsx", "verilog": ".v .sv", "vhdl": ".vhd", "zig": ".zig",
}  # fmt: skip
MARKUP = {
    "css": ".css .scss .less", "html": ".html .htm", "latex": ".tex", "markdown": ".md .markdown", "rst": ".rst", "svg": ".svg",
    "vue": ".vue", "xml": ".xml .xsl .xsd",
}  # fmt: skip
ADJACENT = {
    "cmake": ".cmake", "diff": ".diff .patch", "ini": ".ini .cfg", "make": ".mk", "protobuf": ".proto", "terraform": ".tf",
    "text": ".txt", "toml": ".toml", "yaml": ".yaml .yml",
}  # fmt: skip


def by_suffix(*tables: dict[str, str]) -> dict[str, str]:
    """Return suffix -> language."""
    return {suffix: language for table in tables for language, suffixes in table.items() for suffix in suffixes.split()}


# What a folder of each kind is searched for; a file named by itself may be of any of these languages.
LANGUAGES = {
    "text": by_suffix({"": " ".join((*PROSE_SUFFIXES, ".py"))}),
    "code": by_suffix(PROGRAMMING),
    "synthetic": by_suffix(PROGRAMMING),
    "markup": by_suffix(MARKUP),
    "code_adjacent": by_suffix(ADJACENT, MARKUP, PROGRAMMING),
}


def is_wanted(path: Path, kind: str) -> bool:
    """Say whether a folder of this kind is searched for files of that suffix."""
    return path.suffix.lower() in LANGUAGES[kind]


def walk_folder(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in a stable order, without hidden ones, links and installed packages."""

    def refuse(fault: OSError):
        raise fault

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and not path.is_symlink() and path.is_file():
                yield path


def read_source(path: Path, name: str, position: Position) -> Iterator[Document | BadDocument]:
    """Yield a source file as one document; binaries and files above 1 MiB are left out."""
    data = path.read_bytes()
    if len(data) > LARGEST_SOURCE_BYTES:
        yield BadDocument(str(path), "larger than 1 MiB", harmless=True)
    elif b"\0" in data[:8192]:
        yield BadDocument(str(path), "binary file", harmless=True)
    else:
        yield decode_file(data, str(path), language=LANGUAGES["code_adjacent"].get(path.suffix.lower()))


def read_prose(path: Path, name: str, position: Position) -> Iterator[Document | BadDocument]:
    """Yield a text file as one document."""
    data = path.read_bytes()
    if b"\0" in data[:8192]:
        yield BadDocument(str(path), "binary file", harmless=True)
    else:
        yield decode_file(data, str(path))


def read_docstrings(path: Path, name: str, position: Position) -> Iterator[Document | BadDocument]:
    """Yield the docstrings of a Python file as one document; nothing when it has none."""
    source = decode_file(path.read_bytes(), str(path))
    if isinstance(source, BadDocument):
        if not source.harmless:
            yield source
        return
    try:
        prose = docstrings_of(source.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield BadDocument(str(path), "Python that does not parse", harmless=True)
        return
    if prose:
        yield check_text(prose, str(path))


def docstrings_of(source: str) -> str:
    """Return all docstrings of a module, cleaned of indentation, in their order, with a blank line between."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in somebody else's file
        tree = ast.parse(source)
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(tree) if isinstance(node, owners) and ast.get_docstring(node, clean=False)]
    found.sort(key=lambda node: node.body[0].lineno)
    return "\n\n".join(text for text in (ast.get_docstring(node).strip() for node in found) if text)
