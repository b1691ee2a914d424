"""codemix examples: the recipes, studies and site files that help texts and documentation name, as files of one's own."""

import shutil
from importlib import resources
from pathlib import Path

from codemix_megatron.errors import CodemixError

__all__ = ["add_arguments", "run"]

FOLDERS = ("examples", "slurm")
KINDS = (".yaml", ".md", ".ipynb", ".sbatch")
MADE_BY_RUNS = ("corpora", "documents")  # folders below an example's own, in a checkout
EPILOG = """examples:
  codemix examples                list them
  codemix examples --copy here    here/examples and here/slurm; then, in that folder, codemix plan examples/demo/recipe.yaml"""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--copy", metavar="DIR", help="folder to copy them into; what is there already is kept")


def run(arguments) -> int:
    """List the examples, or copy them."""
    sources = {folder: source_of(folder) for folder in FOLDERS}
    if arguments.copy is None:
        print("\n".join(str(Path(folder, path.relative_to(source))) for folder, source in sources.items() for path in files_of(source)))
        return 0
    copied, kept = copy_all(sources, Path(arguments.copy))
    print(f"{copied} files copied into {arguments.copy}" + (f", {kept} there already and kept" if kept else ""))
    return 0


def source_of(folder: str) -> Path:
    """Return where the files are: inside the installed package, or at the root of a checkout."""
    package = Path(str(resources.files("codemix_megatron")))
    for source in (package / "files" / folder, package.parent / folder):
        if source.is_dir() and files_of(source):
            return source
    raise CodemixError(f"this installation holds no {folder}; install the wheel, or take them from the repository", exit_code=1)


def files_of(source: Path) -> list[Path]:
    """Return the files to list or copy, sorted."""
    return sorted(path for path in source.rglob("*") if path.suffix in KINDS and not is_made_by_a_run(path.relative_to(source)))


def is_made_by_a_run(path: Path) -> bool:
    """Say whether a file lies in a folder that an example's run makes: examples/demo/corpora, and not examples/corpora."""
    return any(part in MADE_BY_RUNS for part in path.parts[1:-1])


def copy_all(sources: dict[str, Path], target: Path) -> tuple[int, int]:
    """Copy all files that are not there yet; return how many were copied and how many kept."""
    copied = kept = 0
    for folder, source in sources.items():
        for path in files_of(source):
            there = target / folder / path.relative_to(source)
            if there.exists():
                kept += 1
                continue
            try:
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, there)
            except OSError as fault:
                raise CodemixError(f"{there}: cannot be written ({fault.strerror}); give another DIR") from None
            copied += 1
    return copied, kept
