"""codemix evaluate: score an export and print the scores."""

import sys
from pathlib import Path

from codemix_megatron.cli.evaluate_ranks import as_copies, on_ranks, ranks_progress
from codemix_megatron.cli.evaluate_tables import print_scores
from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.cli.progress_bars import progress_bars
from codemix_megatron.errors import EvaluationError
from codemix_megatron.inference.offline import allow_network
from codemix_megatron.inference.progress import silent
from codemix_megatron.records.run_folder import RunFolder, step_of
from codemix_megatron.records.scores import Scores
from codemix_megatron.trust import PROGRAMS, TASK_CODE, add_trust_option
from codemix_megatron.watch.rank import as_rank, launching_run
from codemix_megatron.watch.rank_environment import is_a_rank

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix evaluate runs/demo                                       the newest export, as the recipe's evaluation block says
  codemix evaluate runs/demo@48 --items 1000                       the export of step 48, more items, smaller errors
  codemix evaluate runs/demo --suite small --data ~/eval           the paper's items as bits per byte of the right answers
  codemix evaluate runs/demo --suite paper --suite mine.yaml --data ~/eval --items all
  codemix evaluate runs/demo --live                                the newest checkpoint itself, on tensor x pipeline ranks
  codemix evaluate runs/demo --nproc 4                             four copies of the export, a quarter of the items each
  codemix evaluate ~/models/SmolLM2-135M --suite paper --data ~/eval --output scores/smollm2
  codemix evaluate ~/models/SmolLM2-135M --corpora recipe.yaml     on the held-out documents of a recipe, whatever its tokenizer

Suites are YAML files; `paper`, `small` and `languages` are built in (docs/evaluation.md). Nothing is downloaded unless --hub is given.
Every item's score is kept in scores/items: a stopped evaluation resumes at the task it was in, the same model is not scored
twice on the same task, and reports compare runs item by item. Whether an accuracy is distinguishable from chance is decided by
the exact binomial test at 5 % (other measures: two standard errors)."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN[@STEP]", help="run folder (default: its newest export), or any Hugging Face folder")
    parser.add_argument(
        "--suite", action="append", metavar="NAME", help="built-in suite or a YAML file; repeatable; instead of the recipe's"
    )
    parser.add_argument("--data", metavar="DIR", help="folder with the suites' data files (default: evaluation.data_directory)")
    parser.add_argument("--hub", action="store_true", help="fetch data that are not in --data from the Hugging Face hub")
    parser.add_argument("--items", metavar="N", help="most items per task, or all; instead of the recipe's")
    parser.add_argument(
        "--samples", type=int, default=1, metavar="N", help="completions of each programming problem, for pass@k (default: 1, greedy)"
    )
    parser.add_argument(
        "--contamination", action="store_true", help="count items that overlap the training corpora; scores without them too"
    )
    parser.add_argument(
        "--allow-cut-prompts", action="store_true", help="score tasks of which more than 1 %% of the prompts do not fit, cut"
    )
    add_trust_option(parser, PROGRAMS, TASK_CODE)
    parser.add_argument("--unsandboxed", action="store_true", help="the same as --trust programs")
    parser.add_argument(
        "--live", action="store_true", help="score the checkpoint as it is, on the ranks of the recipe's layout, without export"
    )
    parser.add_argument("--tensor", type=int, metavar="N", help="with --live: tensor parallel ranks, instead of the recipe's")
    parser.add_argument("--pipeline", type=int, metavar="N", help="with --live: pipeline parallel ranks, instead of the recipe's")
    parser.add_argument(
        "--nproc", type=int, metavar="N", help="ranks to start here; each further copy of the model takes a share of the items"
    )
    parser.add_argument(
        "--corpora",
        metavar="RECIPE",
        help="for a Hugging Face folder: score it as this recipe's runs are, on its corpora's held-out documents",
    )
    parser.add_argument("--force", action="store_true", help="score again what has scores")
    add_json_option(parser, "the scores")
    parser.add_argument("--output", metavar="DIR", help="where the scores of a Hugging Face folder go (default: scores/NAME)")


def run(arguments) -> int:
    """Evaluate and print; progress goes to stderr, the tables to stdout."""
    from codemix_megatron.cli.consoles import Console

    items = read_items(arguments.items)
    for name in ("samples", "nproc", "tensor", "pipeline"):
        if (getattr(arguments, name) or 1) < 1:
            raise EvaluationError(f"--{name}: found {getattr(arguments, name)}, must be at least 1")
    if arguments.hub:
        allow_network()
    if is_a_rank():
        as_rank(launching_run(), lambda: evaluate_here(arguments, items, ranks_progress()))
        return 0
    with progress_bars(Console(file=sys.stderr)) as progress:
        scores = evaluate(arguments, items, progress)
    if arguments.json:
        print_json(scores)
    else:
        print_scores(scores)
    for line in scores.not_scored:
        sys.stderr.write(f"not scored: {line}\n")
    return 0


def evaluate(arguments, items, progress):
    """Score in this process, or on ranks started from here."""
    path, step = split_step(arguments.run_folder)
    if is_model_folder(path):
        folder = RunFolder(output_of(arguments, path))
        written = folder.path / "scores.json"
    else:  # what is missing is said before torch is imported, which takes seconds
        folder = RunFolder.existing(path)
        written = folder.score_file(step_of(chosen_step(folder, step, arguments.live)))
    layout = live_layout(RunFolder.existing(path), arguments) if arguments.live else 1
    num_ranks = arguments.nproc or layout
    if num_ranks == 1 and not arguments.live:
        return evaluate_here(arguments, items, progress)
    on_ranks(folder, words_of(arguments), num_ranks, progress)
    return Scores.read(written)


def chosen_step(folder: RunFolder, step: int | None, is_live: bool) -> Path:
    """Return the checkpoint or export that will be scored."""
    from codemix_megatron.evaluate.checkpoints import find_export, newest_checkpoint

    return (newest_checkpoint if is_live else find_export)(folder, step)


def live_layout(folder: RunFolder, arguments) -> int:
    """Return the ranks that one copy of a run's model is spread over; raises EvaluationError for a layout it does not divide into."""
    from dataclasses import replace

    from codemix_megatron.plan.run_recipe import read_run_recipe
    from codemix_megatron.recipe.checks import find_faults

    recipe = read_run_recipe(folder)
    asked = {name: getattr(arguments, name) for name in ("tensor", "pipeline") if getattr(arguments, name)}
    recipe = replace(recipe, parallel=replace(recipe.parallel, data=None, **asked))
    if faults := find_faults(recipe):
        raise EvaluationError(f"--live: {'; '.join(faults)}")
    return recipe.parallel.model_ranks


def words_of(arguments) -> list[str]:
    """Return the command line of the ranks: that of this process, without --nproc."""
    words = [arguments.run_folder, "--samples", str(arguments.samples)]
    for name in ("suite", "data", "items", "output", "corpora", "tensor", "pipeline", "trust"):
        values = getattr(arguments, name) or []
        words += [word for value in (values if isinstance(values, list) else [values]) for word in (f"--{name}", str(value))]
    flags = ("hub", "unsandboxed", "force", "live", "contamination", "allow-cut-prompts")
    return words + [f"--{name}" for name in flags if getattr(arguments, name.replace("-", "_"))]


def evaluate_here(arguments, items, progress):
    """Score a run or a folder in this process, which may be one of several ranks."""
    path, step = split_step(arguments.run_folder)
    changes = {
        "suites": tuple(arguments.suite) if arguments.suite else None,
        "data": Path(arguments.data).absolute() if arguments.data else None,
        "hub": arguments.hub or None,
        "samples": arguments.samples,
        "trust": (*arguments.trust, *([PROGRAMS] if arguments.unsandboxed else [])),
        "contamination": arguments.contamination,
        "allow_cut": arguments.allow_cut_prompts,
    }
    if arguments.live:
        from codemix_megatron.evaluate.live import evaluate_live

        folder = RunFolder.existing(path)
        layout = {"data": None} | {name: getattr(arguments, name) for name in ("tensor", "pipeline") if getattr(arguments, name)}
        return evaluate_live(folder, step, layout, progress, arguments.force, wanted_with_recipe(folder, changes, items))
    from codemix_megatron.evaluate.scoring import evaluate_export, evaluate_folder
    from codemix_megatron.evaluate.wanted import ALONE

    def score(copies=ALONE):
        told = progress if copies.is_main else silent
        if is_model_folder(path):
            recipe = read_recipe_of_corpora(arguments.corpora)
            wanted = wanted_of_recipe(recipe, changes, items) if recipe else wanted_without_recipe(changes, items)
            return evaluate_folder(path, output_of(arguments, path), wanted, told, arguments.force, copies=copies, recipe=recipe)
        if arguments.corpora:
            raise EvaluationError(f"--corpora {arguments.corpora}: {path} is a run, which is scored on its own; give a Hugging Face folder")
        folder = RunFolder.existing(path)
        return evaluate_export(folder, step, told, arguments.force, wanted_with_recipe(folder, changes, items), copies)

    return as_copies(score) if is_a_rank() else score()


def output_of(arguments, path) -> Path:
    """Return where the scores of a Hugging Face folder go."""
    return Path(arguments.output or Path("scores") / Path(path).absolute().name)


def is_model_folder(path) -> bool:
    """Say whether a folder holds a Hugging Face model and is no run."""
    return (Path(path) / "config.json").is_file() and not (Path(path) / "recipe.yaml").is_file()


def wanted_without_recipe(changes: dict, items):
    """Return what to score of a model that has no recipe."""
    from codemix_megatron.evaluate.wanted import Wanted

    asked = {"suites": ("small",)} | {key: value for key, value in changes.items() if value is not None}
    return Wanted(**asked, items=None if items in (None, "all") else items)


def wanted_with_recipe(folder: RunFolder, changes: dict, items):
    """Return what a run's recipe asks for, with the command line's changes; suites named here leave out the recipe's own tasks."""
    from codemix_megatron.plan.run_recipe import read_run_recipe

    return wanted_of_recipe(read_run_recipe(folder), changes, items)


def wanted_of_recipe(recipe, changes: dict, items):
    """Return what a recipe asks for, with the command line's changes."""
    from dataclasses import replace

    from codemix_megatron.evaluate.wanted import wanted_of

    wanted = wanted_of(recipe, **changes, tasks=() if changes["suites"] else None)
    return wanted if items is None else replace(wanted, items=None if items == "all" else items)


def read_recipe_of_corpora(path: str | None):
    """Return the recipe whose held-out documents a model is scored on, None where none was named."""
    from codemix_megatron.recipe.reading import read_recipe

    return read_recipe(path) if path else None


def read_items(text: str | None) -> int | str | None:
    """Return a number of items, `all`, or None where nothing was given."""
    if text in (None, "all"):
        return text
    if not text.isdigit() or int(text) < 1:
        raise EvaluationError(f"--items: found {text}, must be at least 1, or all")
    return int(text)


def split_step(text: str) -> tuple[str, int | None]:
    """Return run folder and step of RUN@STEP; a folder that is called like that comes first."""
    path, at, step = text.rpartition("@")
    if not at or Path(text).exists():
        return text, None
    if not step.isdigit():
        raise EvaluationError(f"{text}: {step!r} is not a step; write RUN@48")
    return path, int(step)
