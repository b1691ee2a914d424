"""Names of programming languages and formats: one spelling each, their file names, and the paper's lists."""

import functools

__all__ = ["ADJACENT", "FILE_NAMES", "INTERPRETERS", "LANGUAGE_PRESETS", "MARKUP", "PROGRAMMING", "by_suffix", "canonical_language"]

# language -> suffixes
PROGRAMMING = {
    "ada": ".adb .ads", "agda": ".agda", "assembly": ".asm .s", "awk": ".awk", "batch": ".bat .cmd", "cobol": ".cob .cbl", "coffeescript": ".coffee",
    "coq": "", "crystal": ".cr", "d": ".d", "fish": ".fish", "gdscript": ".gd", "glsl": ".glsl .vert .frag", "graphql": ".graphql .gql",
    "haxe": ".hx", "hlsl": ".hlsl", "idris": ".idr", "lean": ".lean", "nix": ".nix", "objective-c": "", "objective-c++": ".mm", "prolog": ".pro",
    "purescript": ".purs", "standard ml": ".sml", "starlark": ".bzl .star", "svelte": ".svelte", "thrift": ".thrift", "visual basic": ".vb .vbs",
    "wgsl": ".wgsl", "c": ".c .h", "c++": ".cc .cpp .cxx .hh .hpp .hxx", "c#": ".cs", "clojure": ".clj .cljs .cljc",
    "common lisp": ".lisp", "cuda": ".cu .cuh", "dart": ".dart", "elixir": ".ex .exs", "elm": ".elm", "emacs lisp": ".el",
    "erlang": ".erl .hrl", "f#": ".fs .fsx", "fortran": ".f .f90 .f95", "go": ".go", "groovy": ".groovy .gradle", "haskell": ".hs",
    "java": ".java", "javascript": ".js .mjs .cjs", "jsx": ".jsx", "julia": ".jl", "kotlin": ".kt .kts", "lua": ".lua", "matlab": ".m",
    "nim": ".nim", "ocaml": ".ml .mli", "pascal": ".pas", "perl": ".pl .pm", "php": ".php", "powershell": ".ps1 .psm1", "python": ".py .pyi .pyx",
    "r": ".r", "racket": ".rkt", "ruby": ".rb .rake .gemspec", "rust": ".rs", "scala": ".scala .sc", "scheme": ".scm .ss",
    "shell": ".sh .bash .zsh", "smalltalk": ".st", "solidity": ".sol", "sql": ".sql", "swift": ".swift", "tcl": ".tcl",
    "typescript": ".ts .tsx .mts .cts", "verilog": ".v .sv", "vhdl": ".vhd .vhdl", "vue": ".vue", "zig": ".zig",
}  # fmt: skip
MARKUP = {
    "css": ".css", "html": ".html .htm .xhtml", "json": ".json", "latex": ".tex", "less": ".less", "markdown": ".md .markdown",
    "rmarkdown": ".rmd", "rst": ".rst", "sass": ".sass", "scss": ".scss", "svg": ".svg", "toml": ".toml", "xml": ".xml .xsl .xsd",
    "yaml": ".yaml .yml",
}  # fmt: skip
ADJACENT = {
    "cmake": ".cmake", "diff": ".diff .patch", "dockerfile": ".dockerfile", "ini": ".ini .cfg", "make": ".mk .mak", "notebook": ".ipynb",
    "protobuf": ".proto", "terraform": ".tf", "text": ".txt",
}  # fmt: skip

# Files known by their whole name.
FILE_NAMES = {
    "makefile": "make", "gnumakefile": "make", "dockerfile": "dockerfile", "containerfile": "dockerfile", "cmakelists.txt": "cmake",
    "rakefile": "ruby", "gemfile": "ruby", "vagrantfile": "ruby", "jenkinsfile": "groovy", "build.bazel": "starlark", "workspace": "starlark",
    "sconstruct": "python", "sconscript": "python", "wscript": "python", "pkgbuild": "shell",
}  # fmt: skip
# What a first line #!... runs.
INTERPRETERS = {
    "python": "python", "pypy": "python", "sh": "shell", "bash": "shell", "zsh": "shell", "dash": "shell", "ksh": "shell", "node": "javascript",
    "nodejs": "javascript", "deno": "typescript", "ts-node": "typescript", "perl": "perl", "ruby": "ruby", "php": "php", "lua": "lua",
    "luajit": "lua", "rscript": "r", "julia": "julia", "tclsh": "tcl", "wish": "tcl", "make": "make", "groovy": "groovy", "scala": "scala",
    "swift": "swift", "awk": "awk", "gawk": "awk", "runhaskell": "haskell", "escript": "erlang", "elixir": "elixir", "racket": "racket",
}  # fmt: skip

# How data sets spell them (The Stack, GitHub's linguist, the paper's tables).
ALIASES = {
    "cpp": "c++", "cplusplus": "c++", "c-sharp": "c#", "csharp": "c#", "f-sharp": "f#", "fsharp": "f#", "golang": "go", "js": "javascript",
    "ts": "typescript", "tsx": "typescript", "py": "python", "python3": "python", "sh": "shell", "bash": "shell", "tex": "latex",
    "makefile": "make", "restructuredtext": "rst", "md": "markdown", "yml": "yaml", "htm": "html", "jupyter-notebook": "notebook",
    "jupyter notebook": "notebook", "common-lisp": "common lisp", "emacs-lisp": "emacs lisp", "objective-c": "objective-c", "objc": "objective-c",
    "text": "text", "plain text": "text", "plsql": "sql", "tsql": "sql", "docker": "dockerfile",
    "vb": "visual basic", "vb.net": "visual basic", "visual-basic": "visual basic", "visual basic .net": "visual basic",
    "batchfile": "batch", "dosbatch": "batch", "bat": "batch", "bazel": "starlark", "objective-cpp": "objective-c++", "objcpp": "objective-c++", "rocq": "coq",
    "protocol buffer": "protobuf", "proto": "protobuf", "lean4": "lean",
}  # fmt: skip

# Tables 3 and 4 of "To Code, or Not To Code?" (arXiv:2408.10914v1), in their order.
LANGUAGE_PRESETS = {
    "paper_code": (
        "java", "javascript", "php", "python", "c#", "typescript", "c", "c++", "go", "ruby", "shell", "kotlin", "swift", "vue", "rust",
        "scala", "jsx", "sql", "dart", "make", "lua", "haskell", "smalltalk", "latex", "clojure",
    ),
    "paper_markup": ("markdown", "yaml", "json", "html", "css", "scss", "rst", "toml", "sass", "rmarkdown"),
}  # fmt: skip


@functools.lru_cache(maxsize=4096)
def canonical_language(name: str) -> str:
    """Return the one spelling of a language: `C-Sharp`, `csharp` and `c#` are c#.

    >>> canonical_language("reStructuredText"), canonical_language("Brainfuck")
    ('rst', 'brainfuck')
    """
    low = name.strip().lower()
    return ALIASES.get(low, low)


def by_suffix(*tables: dict[str, str]) -> dict[str, str]:
    """Return suffix -> language."""
    return {suffix: language for table in tables for language, suffixes in table.items() for suffix in suffixes.split()}
