"""codemix init: a first recipe and study for this machine, from two folders or a public model."""

import os
import sys
from pathlib import Path

from codemix_megatron.errors import CodemixError, RecipeError
from codemix_megatron.families.configuration import read_config
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.starter import SIZES, Start, recipe_text, study_text
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.study.machine import find_gpus
from codemix_megatron.study.study_file import read_study

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix init mine --text ~/notes --code ~/src
  codemix init mine --text ~/notes --code ~/src --size 10m --tokens 50M
  codemix init ours --model models/SmolLM2-135M --text data/wiki.jsonl --code ~/company/src
  codemix init mine                      asks for what is missing, on a terminal

It writes DIR/recipe.yaml and DIR/study.yaml, both for reading and changing. Without --text and --code the documents are the documentation and
the sources of this Python."""

USUAL_DOCUMENTS = {"text": "python:text", "code": "python:code"}
LONGEST_ON_CPU, LONGEST_ON_GPU = 512, 4096  # training sequences of a public model


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("directory", metavar="DIR", help="folder to write recipe.yaml and study.yaml into")
    parser.add_argument("--text", metavar="PATH", help="folder, file or glob of text (default: this Python's documentation)")
    parser.add_argument("--code", metavar="PATH", help="folder, file or glob of code (default: this Python's sources)")
    parser.add_argument("--model", metavar="HF_FOLDER", help="train on from this Hugging Face model, with code in the cooldown")
    parser.add_argument("--size", choices=SIZES, help="of a new model (default: demo, which a laptop trains in minutes; on a GPU 470m)")
    parser.add_argument("--tokens", metavar="N", help="of the run, such as 50M (default: 20 for each parameter; demo: 720K)")


def run(arguments) -> int:
    """Ask for what is missing, write both files, read them again, say what comes next."""
    directory = Path(arguments.directory)
    files = directory / "recipe.yaml", directory / "study.yaml"
    if there := [str(file) for file in files if file.exists()]:
        raise RecipeError(f"{' and '.join(there)}: there already; give another DIR")
    if sys.stdin.isatty() and not (arguments.text or arguments.code or arguments.model):
        ask(arguments)
    start = start_of(arguments, directory)
    replace_text(files[0], recipe_text(start))
    replace_text(files[1], study_text(start))
    try:
        recipe, study = read_recipe(files[0]), read_study(files[1])
    except CodemixError:
        for file in files:
            file.unlink(missing_ok=True)
        raise
    tokens = sum(phase.tokens for phase in recipe.phases)
    print(
        f"{files[0]}: {tokens:,} tokens in {len(recipe.phases)} phases on {recipe.parallel.data} rank{'s' if recipe.parallel.data != 1 else ''}\n"
        f"{files[1]}: {len(study.variants)} runs, with and without code in the cooldown\n"
        f"next     codemix prepare {files[0]} && codemix plan {files[0]}\n"
        f"then     codemix train {files[0]}        one run, or\n"
        f"         codemix study run {files[1]}    the comparison"
    )
    return 0


def ask(arguments) -> None:
    """Ask on the terminal; an empty answer leaves the default."""
    for name, question in (
        ("text", "folder of text (empty: this Python's documentation): "),
        ("code", "folder of code (empty: this Python's sources): "),
        ("model", "Hugging Face folder to train on from (empty: a new model): "),
    ):
        setattr(arguments, name, input(question).strip() or None)


def start_of(arguments, directory: Path) -> Start:
    """Return what was asked for, checked; raises RecipeError with all faults at once."""
    faults: list[str] = []
    texts = {name: documents_of(name, getattr(arguments, name), directory, faults) for name in USUAL_DOCUMENTS}
    gpus, model, length, tokens = find_gpus(), None, 0, None
    longest = LONGEST_ON_GPU if gpus else LONGEST_ON_CPU
    if arguments.tokens:
        try:
            tokens = parse_tokens(arguments.tokens)
        except ValueError as fault:
            faults.append(f"--tokens: {fault}")
    if arguments.model:
        if arguments.size:
            faults.append(f"--size {arguments.size}: the size of --model is its own; leave one of them out")
        try:
            length = min(longest, read_config(Path(arguments.model)).get("max_position_embeddings") or longest)
            model = relative(arguments.model, directory)
        except CodemixError as fault:
            faults.append(f"--model: {fault}")
    if faults:
        raise RecipeError(faults)
    size = arguments.size or ("470m" if gpus and not model else "demo")
    name = directory.resolve().name
    return Start(name, **texts, size=size, tokens=tokens, model=model, sequence_length=length, ranks=len(gpus) or 1, is_on_gpu=bool(gpus))


def documents_of(name: str, given: str | None, directory: Path, faults: list[str]) -> str:
    """Return the documents of a corpus as the recipe names them: URLs and globs as they are, paths beside the recipe."""
    if given is None:
        return USUAL_DOCUMENTS[name]
    if ":" in given.split("/")[0] or "*" in given:
        return given if ":" in given.split("/")[0] else relative(given, directory)
    if not Path(given).expanduser().exists():
        faults.append(f"--{name} {given}: no such file or folder")
    return relative(given, directory)


def relative(path: str, directory: Path) -> str:
    """Return a path as seen from the recipe's folder; one that leads far away stays absolute."""
    absolute = Path(path).expanduser().absolute()
    seen = os.path.relpath(absolute, directory.absolute())
    return str(absolute) if seen.count("../") > 1 else seen
