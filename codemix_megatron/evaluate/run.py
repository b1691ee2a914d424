"""Score an export of a run with everything its recipe asks for, and keep the scores in the run folder."""

import importlib.metadata
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from codemix_megatron.corpus.held_out import held_out_token_documents
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.compression import bits_per_byte
from codemix_megatron.evaluate.continuation import write_suite
from codemix_megatron.evaluate.exported import ExportedModel, load_exported
from codemix_megatron.evaluate.harness import run_tasks
from codemix_megatron.evaluate.progress import Progress, silent
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder, step_of
from codemix_megatron.records.scores import BitsPerByte, Scores, TaskScore

__all__ = ["evaluate_export"]

BYTES_PER_ITEM = 2000  # bits per byte are measured on at most `items` documents and this many bytes for each


def evaluate_export(
    run: RunFolder,
    step: int | None = None,
    progress: Progress | None = None,
    force: bool = False,
    *,
    items: int | None = None,
    notice: Callable[[str], None] = lambda message: None,
) -> Scores:
    """Score the export of `step` (default: the newest) and write RUN/scores/step-N.json.

    Scores that are there, newer than the export and complete are returned as they are, unless `force` or `items`
    (which replaces the recipe's evaluation.items) is given. A corpus with too little held-out text for a suite is
    left out and `notice` is told; when nothing at all can be scored, EvaluationError says why.
    """
    started = time.monotonic()
    recipe = read_recipe(run.recipe)
    if items is not None:
        recipe = replace(recipe, evaluation=replace(recipe.evaluation, items=items))
    export = find_export(run, step)
    card, path = read_card(export), run.score_file(step_of(export))
    if not force and items is None and path.is_file() and path.stat().st_mtime >= (export / "export.json").stat().st_mtime:
        scores = Scores.read(path)
        if covers(scores, recipe):
            return scores
    exported = load_exported(export, recipe.parallel.device)
    compression, tasks = score(exported, recipe, run.scores / "suites", progress or silent, notice)
    scores = Scores(
        model=str(export),
        step=card["step"],
        tokens=card["tokens"],
        bits_per_byte=compression,
        tasks=tasks,
        seconds=round(time.monotonic() - started, 3),
        versions=versions(),
    )
    scores.write(path)
    return scores


def find_export(run: RunFolder, step: int | None) -> Path:
    """Return the folder of a finished export, or raise EvaluationError naming those there are."""
    export = run.latest_export() if step is None else run.export(step)
    if export is None:
        raise EvaluationError(f"{run}: no export to score; run `codemix export {run}` first")
    if not (export / "export.json").is_file():
        steps = sorted(step_of(card.parent) for card in run.exports.glob("step-*/export.json") if step_of(card.parent) is not None)
        listed = f"exported are the steps {', '.join(map(str, steps))}" if steps else "nothing is exported yet"
        raise EvaluationError(f"{run}: no finished export of step {step}; {listed}; run `codemix export {run}@{step}` first")
    return export


def read_card(export: Path) -> dict:
    """Return export.json, with at least step and tokens."""
    try:
        card = read_json(export / "export.json")
        return {"step": int(card["step"]), "tokens": int(card["tokens"])}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise EvaluationError(f"{export / 'export.json'}: not a readable export card ({fault}); run `codemix export` again") from None


def covers(scores: Scores, recipe: Recipe) -> bool:
    """Say whether scores hold something of every suite and task that the recipe asks for."""
    found = {"bits_per_byte"} if scores.bits_per_byte else set()
    found |= {score.suite for score in scores.tasks}
    asked = set(recipe.evaluation.suites) | ({"tasks"} if recipe.evaluation.tasks else set())
    return asked <= found


def score(exported: ExportedModel, recipe: Recipe, suites: Path, progress: Progress, notice) -> tuple[list[BitsPerByte], list[TaskScore]]:
    """Run every suite and task of the recipe; a corpus that cannot be scored is a notice, unless all are."""
    evaluation, compression, names, faults = recipe.evaluation, [], [], []
    wanted = set(evaluation.suites)
    manifests = {name: CorpusManifest.read(recipe.prefix(name)) for name in recipe.corpora} if wanted else {}
    for corpus, manifest in manifests.items():
        try:
            documents = held_out_token_documents(manifest) if manifest.held_out_documents else []
            if "bits_per_byte" in wanted:
                compression.append(score_compression(exported, corpus, manifest, documents, evaluation.items, progress))
            if "continuation" in wanted:
                names.append(write_suite(suites, corpus, exported, documents, items=evaluation.items))
        except EvaluationError as fault:
            faults.append(str(fault))
    tasks = run_tasks(exported, names, suites, suite="continuation", items=evaluation.items, progress=progress) if names else []
    if evaluation.tasks:
        tasks += run_tasks(exported, evaluation.tasks, evaluation.tasks_directory, suite="tasks", items=evaluation.items, progress=progress)
    if not compression and not tasks:
        reasons = faults or ["evaluation.suites and evaluation.tasks are empty; name some in the recipe"]
        raise EvaluationError("nothing could be scored\n" + "\n".join(f"  - {line}" for line in reasons))
    for fault in faults:
        notice(fault)
    return compression, tasks


def score_compression(exported, corpus: str, manifest: CorpusManifest, documents, items: int, progress: Progress) -> BitsPerByte:
    """Return bits per byte of one corpus, within the limits that `items` sets."""
    return bits_per_byte(
        exported,
        corpus,
        documents,
        end_of_document_id=manifest.tokenizer.end_of_document_id,
        limit_documents=items,
        limit_bytes=items * BYTES_PER_ITEM,
        progress=progress,
    )


def versions() -> dict[str, str]:
    """Return the versions of what made the scores."""
    names = ("codemix_megatron", "torch", "transformers", "tokenizers", "lm_eval", "datasets")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            from codemix_megatron import __version__

            found[name] = __version__ if name == "codemix_megatron" else "absent"
    return found
