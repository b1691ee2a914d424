"""Which room may import what, what loads torch, and what is public."""

import ast
import functools
import importlib
import inspect
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

PACKAGE = REPOSITORY / "codemix_megatron"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in FILES if path.stem not in ("__init__", "__main__")]
WITHOUT_TORCH = (
    "families",
    "analysis",
    "recipe",
    "records",
    "sandbox",
    "readers",
    "filters",
    "corpus",
    "mixture",
    "plan",
    "report",
    "watch",
    "launch",
    "study",
)
WHO_MAY_IMPORT = {
    "megatron": ("megatron", "parallel", "model", "checkpoint", "train", "conversion"),
    "transformer_engine": ("model", "megatron"),
    "transformers": ("conversion", "inference", "evaluate"),
    "torch": ("megatron", "parallel", "model", "checkpoint", "train", "conversion", "inference", "evaluate", "cli"),
}


def room_of(path) -> str:
    """Return the room a file is in."""
    return path.relative_to(PACKAGE).parts[0]


@dataclass(frozen=True)
class Source:
    """What the tests here ask of a file, from one walk through it."""

    imports: frozenset[str]  # dotted names, at any depth of the code
    taken: tuple[tuple[str, tuple[str, ...]], ...]  # module -> names, of `from module import names`
    functions: tuple[tuple[str, int, int], ...]  # name, line, lines


@functools.cache
def source_of(path) -> Source:
    """Return what there is in a file."""
    imports, taken, functions = set(), [], []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports.add(node.module)
            taken.append((node.module, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.FunctionDef):
            functions.append((node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno))
    return Source(frozenset(imports), tuple(taken), tuple(functions))


def test_imports_go_one_way():
    words = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())", "--no-cache"]
    done = subprocess.run(words, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("library", WHO_MAY_IMPORT)
def test_library_is_imported_only_where_it_may_be(library):
    for path in FILES:
        if any(name == library or name.startswith(library + ".") for name in source_of(path).imports):
            is_doctor = path.stem == "doctor"
            assert is_doctor or room_of(path) in WHO_MAY_IMPORT[library], f"{path} imports {library}"


def test_rooms_of_a_login_node_load_no_torch():
    modules = [m for m in MODULES if m.split(".")[1] in WITHOUT_TORCH and m != "codemix_megatron.corpus.megatron_tool"]
    commands = (
        "main",
        "plan",
        "study",
        "prepare",
        "report",
        "train",
        "export",
        "demo",
        "evaluate",
        "verify",
        "verify_corpus",
        "inspect",
        "tokenizer",
    )
    modules += [f"codemix_megatron.cli.{name}" for name in commands]
    loaded = modules_loaded_by("; ".join(f"import {m}" for m in modules))
    assert not loaded & {"torch", "transformers", "megatron", "lm_eval", "matplotlib"}


def test_help_loads_next_to_nothing():
    code = "import sys; from codemix_megatron.cli.main import build_parser; build_parser(['--help'])"
    assert not modules_loaded_by(code) & {"torch", "numpy", "rich", "yaml", "matplotlib"}


def modules_loaded_by(code: str) -> set[str]:
    """Return the top-level modules a fresh interpreter holds after running `code`."""
    words = [sys.executable, "-c", f"{code}; import sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"]
    done = subprocess.run(words, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_module_names_say_what_is_in_them():
    assert not {path.stem for path in FILES} & {"util", "utils", "helper", "helpers", "misc", "common", "manager", "base"}


def imported(module: str):
    """Import a module; one that is for another version of megatron-core than is installed skips the test."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as fault:
        if (fault.name or "").startswith("megatron.core."):
            pytest.skip(f"{module} is for versions of megatron-core that have {fault.name}")
        raise


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_exact_and_documented(module):
    loaded = imported(module)
    assert loaded.__doc__, f"{module} has no docstring"
    for name in loaded.__all__:
        there = getattr(loaded, name)
        is_ours = inspect.isfunction(there) or inspect.isclass(there)
        assert not is_ours or there.__doc__, f"{module}.{name} has no docstring"


def test_what_another_room_uses_is_public():
    """A name imported across rooms stands in its module's `__all__`."""
    wrong = []
    for path in FILES:
        for module, names in source_of(path).taken:
            if not module.startswith("codemix_megatron.") or module not in MODULES or module == "codemix_megatron.errors":
                continue
            if module.split(".")[1] == room_of(path):
                continue
            public = importlib.import_module(module).__all__
            wrong += [f"{path.relative_to(REPOSITORY)}: {module}.{name}" for name in names if name not in public]
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_fit_one_glance(path):
    """Length separates code that can be read from code that cannot; tables of options are the exception."""
    for name, line, lines in source_of(path).functions:
        assert lines < 65, f"{path}:{line} {name}"


LINES_AS_THEY_ARE = {
    "records/event_lines.py",
    "records/events.py",
    "records/journal.py",
    "launch/slurm/attempts.py",
    "cli/average.py",
    "interface/runs.py",
}


def test_events_are_made_and_read_as_dataclasses():
    """Only what copies lines, or hands them to a user, and what makes dataclasses of them, knows how a line is keyed."""
    keyed = re.compile(r"""\[["']event["']\]|\.get\(["']event["']|["']event["']: """)
    names = {str(path.relative_to(PACKAGE)) for path in FILES if keyed.search(path.read_text(encoding="utf-8"))}
    assert names <= LINES_AS_THEY_ARE, f"read {sorted(names - LINES_AS_THEY_ARE)} with records.journal.read_events"


# Words of our own for what the field has a word for, and that word.
OTHER_WORDS = {
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix",
    r"behind training": "asynchronously",
    r"whole or not at all": "complete or absent",
    r"tells of": "records",
    r"(is|are|newest|none that is) sound": "valid",
    r"(is|are) gone on with": "resumed",
    r"told apart": "distinguished",
    r"reckon(s|ed|ing)?": "estimate, compute",
    r"(the|a|last) roll back|roll backs": "rollback",
    r"(is|are|was|were) no numbers?": "not finite",
    r"stood still": "was stalled",
    r"(share|shares|found|copied|by) (a )?runs? of (13 )?words": "n-gram",
    r"(cannot|can|could not) be carried": "converted",
    r"places? without a token": "padding position",
    r"(checkpoint|tokenizer|encoder)('s)? cards?": "metadata",
    r"passed over": "skipped, ignored",
    r"in its own way": "say how",
    r"the whole road": "every command",
    r"take this way": "replace",
}
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted((REPOSITORY / "docs").rglob("*.md"))


def test_what_the_field_has_a_word_for_is_called_so():
    """Messages, docstrings, comments and manual pages are read by people of the field."""
    pattern = re.compile("|".join(rf"(\b{words}\b)" for words in OTHER_WORDS), re.IGNORECASE)
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {match[0]!r}"
        for path in [*FILES, *PAGES]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert not found, f"the field's words: {', '.join(OTHER_WORDS.values())}\n" + "\n".join(found)


def test_every_example_is_used_by_a_test():
    tests = "".join(p.read_text(encoding="utf-8") for p in (REPOSITORY / "tests").rglob("*.py"))
    for folder in (REPOSITORY / "examples").iterdir():
        assert folder.name in tests, f"no test names examples/{folder.name}"


def test_files_that_the_documentation_names_are_there():
    """docs/architecture.md and CONTRIBUTING.md send a reader to files; each of them exists."""
    missing = []
    for page in ("docs/architecture.md", "CONTRIBUTING.md"):
        named = re.findall(r"`([a-z_]+(?:/[A-Za-z_]+)+\.(?:py|yaml))`", (REPOSITORY / page).read_text(encoding="utf-8"))
        missing += [
            f"{page}: {name}" for name in named if "NAME" not in name and not any((top / name).is_file() for top in (PACKAGE, REPOSITORY))
        ]
    assert not missing


def test_first_page_of_the_documentation_names_every_page():
    docs = REPOSITORY / "docs"
    pages = re.findall(r"^ +- ([a-z_/-]+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    first = (docs / "index.md").read_text(encoding="utf-8")
    assert not [page for page in pages if page != "index.md" and not re.search(rf"\({page}(#[^)]*)?\)", first)]
    assert sorted(pages) == sorted(str(path.relative_to(docs)) for path in docs.rglob("*.md"))


def test_pictures_of_the_architecture_name_every_subpackage():
    drawn = (REPOSITORY / "docs" / "images" / "rooms.svg").read_text(encoding="utf-8")
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").is_file()}
    assert not {room for room in rooms if f">{room}<" not in drawn}, "run docs/draw_architecture.py"


BREACHES = {
    "a lower layer imports a higher one": ("records/journal.py", "from codemix_megatron.train import loop"),
    "siblings import each other": ("report/page.py", "from codemix_megatron.evaluate import scoring"),
    "a subpackage that the contract does not list": ("newcomer/thing.py", "import os"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_contract_notices_a_breach(tmp_path, breach):
    """A copy of the package with one import too many, or one subpackage that nobody listed."""
    name, line = BREACHES[breach]
    copy = tmp_path / "codemix_megatron"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    path = copy / name
    path.parent.mkdir(exist_ok=True)
    (path.parent / "__init__.py").touch()
    path.write_text((path.read_text(encoding="utf-8") if path.is_file() else "") + f"\n{line}\n", encoding="utf-8")
    words = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())", "--no-cache"]
    environment = {**clean_environment(), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode != 0, done.stdout
