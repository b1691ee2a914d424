"""Score a model with everything that is asked for, and keep the scores: of a run's export, of its checkpoint as it is, of any folder."""

import importlib.metadata
import platform
import time
from dataclasses import replace
from pathlib import Path

from codemix_megatron.conversion.model_card import renew_model_card
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.checkpoints import find_export
from codemix_megatron.evaluate.digests import folder_digest
from codemix_megatron.evaluate.scorer import Scorer
from codemix_megatron.evaluate.store import ItemStore
from codemix_megatron.evaluate.suites import read_suite
from codemix_megatron.evaluate.wanted import ALONE, OWN_SUITES, Copies, Subject, Wanted, request_digest, wanted_of
from codemix_megatron.inference.progress import Progress, silent
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder, saved_step
from codemix_megatron.records.scores import Scores

__all__ = ["evaluate_export", "evaluate_folder", "evaluate_subject", "read_corpora"]


def evaluate_export(
    run: RunFolder,
    step: int | None = None,
    progress: Progress = silent,
    force: bool = False,
    wanted: Wanted | None = None,
    copies: Copies = ALONE,
) -> Scores:
    """Score the export of `step` (default: the newest) and write RUN/scores/step-N.json; `wanted` defaults to the recipe's."""
    recipe = read_run_recipe(run)
    export = find_export(run, step)
    wanted, record = wanted or wanted_of(recipe), read_export(export)
    subject = Subject(
        name=str(export),
        digest=folder_digest(export),
        load=lambda: load(export, recipe.parallel.device, copies),
        corpora=read_corpora(recipe, wanted),
        **record,
    )
    scores = evaluate_subject(subject, wanted, run.scores, run.score_file(saved_step(export)), progress, force, copies.is_main)
    if copies.is_main:
        renew_model_card(run, export)
    return scores


def evaluate_folder(
    folder,
    output,
    wanted: Wanted,
    progress: Progress = silent,
    force: bool = False,
    device: str = "auto",
    copies: Copies = ALONE,
    recipe: Recipe | None = None,
) -> Scores:
    """Score any Hugging Face folder and write OUTPUT/scores.json; with a `recipe`, on the held-out documents of its corpora too."""
    folder, output = Path(folder).absolute(), Path(output)
    if recipe is None and (own := [suite for suite in wanted.suites if suite in OWN_SUITES]):
        raise EvaluationError(
            f"{folder}: suite {own[0]} is made from held-out documents, and this is no run folder; say whose with --corpora RECIPE, or name"
            " other suites"
        )
    if not (folder / "config.json").is_file():
        raise EvaluationError(f"{folder}: neither a run folder nor a Hugging Face model (no config.json in it)")
    refuse_scores_of_another(output / "scores.json", folder, force)
    subject = Subject(
        name=str(folder),
        digest=folder_digest(folder),
        step=0,
        tokens=0,
        load=lambda: load(folder, device, copies),
        corpora=read_corpora(recipe, wanted) if recipe else {},
        own_tokenizer=False,
    )
    return evaluate_subject(subject, wanted, output, output / "scores.json", progress, force, copies.is_main)


def refuse_scores_of_another(path: Path, folder: Path, force: bool) -> None:
    """Raise EvaluationError where scores of another model, which is still there, would be written over: folders may share their last name."""
    if force or not path.is_file():
        return
    other = Path(Scores.read(path).model)
    if other.resolve() != folder.resolve() and (other / "config.json").is_file():
        raise EvaluationError(f"{path}: holds the scores of {other}, not of {folder}; give another --output, or --force to lose them")


def load(folder: Path, device: str, copies: Copies):
    """Return the exported model; torch is imported here and not before."""
    from codemix_megatron.inference.exported import load_exported

    return load_exported(folder, device, copies.share, copies.shares)


def read_corpora(recipe: Recipe, wanted: Wanted) -> dict[str, CorpusManifest]:
    """Return the manifests of a recipe's corpora where a suite is made from them."""
    needed = set(wanted.suites) & set(OWN_SUITES) or wanted.contamination
    return {name: CorpusManifest.read(recipe.prefix(name)) for name in recipe.corpora} if needed else {}


def evaluate_subject(
    subject: Subject, wanted: Wanted, folder: Path, path: Path, progress: Progress = silent, force: bool = False, writes: bool = True
) -> Scores:
    """Score all that is wanted; items go to FOLDER/items as tasks end, scores to `path`.

    The same request for the same model returns the scores that are there; what could not be scored then is tried again, for the reason may
    be gone. An evaluation that was stopped resumes at the task it was in. Where there are several ranks all call this, and one of them `writes`.
    """
    started = time.monotonic()
    suites = [read_suite(name) for name in dict.fromkeys(wanted.suites) if name not in OWN_SUITES]  # one named twice counts once
    request = request_digest(subject, wanted, suites)
    before = Scores.read(path) if path.is_file() and not force else None
    if before is not None and before.request == request and not before.not_scored:
        return before
    scorer = Scorer(subject, wanted, ItemStore(folder / "items", force=force, writes=writes), folder, progress)
    scorer.score_own_suites()
    for suite in suites:
        scorer.score_suite(suite)
    scorer.score_folder_tasks()
    if not scorer.compression and not scorer.tasks:
        reasons = scorer.not_scored or ["evaluation.suites and evaluation.tasks are empty; name some in the recipe"]
        raise EvaluationError("nothing could be scored\n" + "\n".join(f"  - {line}" for line in reasons))
    scores = Scores(
        model=subject.name,
        step=subject.step,
        tokens=subject.tokens,
        bits_per_byte=scorer.compression,
        tasks=scorer.tasks,
        aggregates=scorer.aggregates,
        not_scored=scorer.not_scored,
        request=request,
        seconds=round(time.monotonic() - started, 3),
        versions=versions(),
        trusted=list(wanted.trust),
    )
    if before is not None and replace(scores, seconds=before.seconds, versions=before.versions) == before:
        return before
    if writes:
        scores.write(path)
    return scores


def read_export(export: Path) -> dict:
    """Return export.json, with at least step and tokens."""
    try:
        record = read_json(export / "export.json")
        return {"step": int(record["step"]), "tokens": int(record["tokens"])}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise EvaluationError(
            f"{export / 'export.json'}: not a readable record of an export ({fault}); run `codemix export` again"
        ) from None


def versions() -> dict[str, str]:
    """Return the versions of what made the scores."""
    names = ("codemix_megatron", "torch", "transformers", "tokenizers", "lm_eval", "datasets")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            from codemix_megatron.version import __version__

            found[name] = __version__ if name == "codemix_megatron" else "absent"
    return found
