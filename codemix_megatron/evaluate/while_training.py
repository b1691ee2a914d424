"""Suites scored on the model that is being trained, where it is: no checkpoint, no export, nothing of the training changed."""

from dataclasses import replace
from pathlib import Path

from codemix_megatron.corpus.tokenizers import recipe_tokenizer
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.scoring import evaluate_subject, read_corpora
from codemix_megatron.evaluate.suites import find_data, read_suite
from codemix_megatron.evaluate.wanted import OWN_SUITES, Subject, Wanted
from codemix_megatron.inference.live import LiveModel, first_token_id
from codemix_megatron.inference.progress import Progress
from codemix_megatron.model.logits import SpreadLogits
from codemix_megatron.parallel.random_state import kept_random_state
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import Scores

__all__ = ["check_suites", "score_while_training"]


def check_suites(recipe: Recipe) -> None:
    """Raise EvaluationError when a suite to score while training is not there, runs programs, or has no data: before the first step."""
    asked = recipe.evaluation.while_training
    if asked is None:
        return
    wanted, path = wanted_while_training(recipe), "evaluation.while_training.suites"
    for suite in (read_suite(name) for name in asked.suites if name not in OWN_SUITES):
        if programs := [task.name for task in suite.tasks if task.code is not None]:
            raise EvaluationError(
                f"{path}: {suite.name} runs programs ({', '.join(programs)}), which waits for `codemix evaluate`; leave it out"
            )
        if not any(find_data(task, wanted.data) for task in suite.tasks):
            where = f"in {wanted.data}" if wanted.data else "for evaluation.data_directory is not set"
            raise EvaluationError(
                f"{path}: there are no data of suite {suite.name}, {where}; codemix evaluate names the files it looks for"
            )


def wanted_while_training(recipe: Recipe) -> Wanted:
    """Return what a recipe asks to be scored while training. Prompts are cut without complaint: training goes on whatever is asked."""
    asked, evaluation = recipe.evaluation.while_training, recipe.evaluation
    assert asked is not None
    data = Path(evaluation.data_directory) if evaluation.data_directory else None
    return Wanted(suites=asked.suites, items=asked.items, data=data, allow_cut=True)


def score_while_training(
    recipe: Recipe, run: RunFolder, chunks: list, device, step: int, tokens: int, progress: Progress, origin: dict | None = None
) -> dict:
    """Return bits per byte and the main metric of each task: what a `scores` event of the journal holds. Every rank calls this.

    `origin` is what checkpoints keep of the public model that training started from.
    Random streams are put back to where they were; nothing is written. A fault of one of the suites is told under `not_scored`.
    """
    wanted, tokenizer = wanted_while_training(recipe), recipe_tokenizer(recipe.tokenizer)
    with kept_random_state():
        forward = SpreadLogits(chunks, tokenizer.vocab_size, device)
        model = LiveModel(forward, tokenizer, recipe.model.sequence_length, run.path, first_token_id(tokenizer, origin))
        subject = Subject(
            name=f"{run}, at step {step} of its training",
            digest=f"step {step} of a training",
            step=step,
            tokens=tokens,
            load=lambda: model,
            corpora=read_corpora(recipe, wanted),
        )
        return joined([score_suite(run, subject, replace(wanted, suites=(suite,)), progress) for suite in wanted.suites])


def score_suite(run: RunFolder, subject: Subject, wanted: Wanted, progress: Progress) -> dict:
    """Score one suite; what is wrong with it keeps no other from being scored."""
    try:
        return described(evaluate_subject(subject, wanted, run.scores, run.score_file(subject.step), progress, force=True, writes=False))
    except EvaluationError as fault:
        return {"bits_per_byte": {}, "tasks": {}, "not_scored": [str(fault)]}


def joined(parts: list[dict]) -> dict:
    """Return what several suites gave as one."""
    values = {key: {name: value for part in parts for name, value in part[key].items()} for key in ("bits_per_byte", "tasks")}
    return {**values, "not_scored": [line for part in parts for line in part["not_scored"]]}


def described(scores: Scores) -> dict:
    """Return what is told of scores."""
    mains = {f"{score.task} {score.metric}": score.value for score in scores.tasks if score.is_main}
    return {"bits_per_byte": {b.corpus: b.value for b in scores.bits_per_byte}, "tasks": mains, "not_scored": scores.not_scored}
