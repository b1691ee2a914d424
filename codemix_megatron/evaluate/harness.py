"""The adapter to lm-evaluation-harness: task names in, TaskScores out, without network, cache or chatter.

lm_eval is imported when a task is scored, not before: that takes seconds.
"""

import contextlib
import difflib
import tempfile
from pathlib import Path

from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.exported import ExportedModel
from codemix_megatron.evaluate.offline import go_offline
from codemix_megatron.evaluate.progress import Progress, silent
from codemix_megatron.evaluate.quiet import quiet
from codemix_megatron.records.scores import TaskScore

__all__ = ["run_tasks"]

BOOTSTRAP_SAMPLES = 200  # only metrics without a closed form of the standard error need them
FEWSHOT_SEED = 1234
MOST_ROWS = 64
TYPICAL_TOKENS = 256  # length of a request that batches are sized for
CHANCE_METRICS = ("acc", "acc_norm", "acc_bytes")


def run_tasks(exported: ExportedModel, names, directory, *, suite: str, items: int, progress: Progress = silent) -> list[TaskScore]:
    """Score lm-eval tasks (or groups) of the files in `directory`, at most `items` questions each.

    Relative data files of a task are those under `directory`. One score per task and metric.
    Raises EvaluationError naming the task that is unknown, cannot be read or cannot be scored.
    """
    names, directory = list(dict.fromkeys(names)), Path(directory).absolute()
    if not directory.is_dir():
        raise EvaluationError(f"{directory}: no such folder; it should hold the lm-eval task files of {', '.join(names)}")
    go_offline()
    with quiet() as aloud, empty_cache(), contextlib.chdir(directory):
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(directory), include_defaults=False)
        check_names(names, manager.all_tasks, directory)
        loaded = {name: load_task(manager, name, directory) for name in names}
        model = harness_model(exported, aloud(progress))
        return [score for name in names for score in score_task(model, name, loaded[name], suite, items)]


@contextlib.contextmanager
def empty_cache():
    """Give datasets a folder of its own: its usual cache may hold a task's data as they were in an earlier run."""
    import datasets

    usual = datasets.config.HF_DATASETS_CACHE
    with tempfile.TemporaryDirectory(prefix="codemix-evaluate-") as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        try:
            yield
        finally:
            datasets.config.HF_DATASETS_CACHE = usual


def check_names(names, known, directory: Path) -> None:
    """Raise EvaluationError for the first task that no file of the folder defines."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            listed = ", ".join(known) or "none"
            raise EvaluationError(f"evaluation.tasks: no lm-eval task {name!r} in {directory}{hint}; available are {listed}")


def load_task(manager, name: str, directory: Path):
    """Return what lm-eval makes of a task file, its data read."""
    try:
        return manager.load([name])
    except Exception as fault:  # a task file is a program of its own and may fail in any way
        raise EvaluationError(f"{directory}: task {name!r} cannot be read ({reason(fault)}); mend its file or its data") from fault


def reason(fault: BaseException) -> str:
    """Return an exception in one line."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"


def harness_model(exported: ExportedModel, progress: Progress):
    """Return lm-eval's view of the model; it tells `progress` how many requests have gone through."""
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError as fault:
        raise EvaluationError(f"lm-eval lacks what it needs for Hugging Face models ({fault}); pip install 'lm_eval[hf]'") from None

    class CountingModel(HFLM):
        label, done, total = "", 0, 0

        def begin(self, label: str) -> None:
            self.label, self.done, self.total = label, 0, 0

        def count(self, rows: int) -> None:
            self.done += rows
            progress(self.label, min(self.done, self.total), self.total)

        def loglikelihood(self, requests, *rest, **options):
            self.total += len(requests)
            return super().loglikelihood(requests, *rest, **options)

        def loglikelihood_rolling(self, requests, *rest, **options):
            self.total += len(requests)
            return super().loglikelihood_rolling(requests, *rest, **options)

        def generate_until(self, requests, *rest, **options):
            self.total += len(requests)
            return super().generate_until(requests, *rest, **options)

        def _model_call(self, inps, *rest, **options):
            logits = super()._model_call(inps, *rest, **options)
            self.count(len(inps))
            return logits

        def _model_generate(self, context, *rest, **options):
            ids = super()._model_generate(context, *rest, **options)
            self.count(len(context))
            return ids

    rows = min(MOST_ROWS, exported.rows_that_fit(min(exported.max_length, TYPICAL_TOKENS)))
    return CountingModel(
        pretrained=exported.model, tokenizer=exported.tokenizer, backend="causal", batch_size=rows, softmax_dtype="float32"
    )


def score_task(model, name: str, loaded: dict, suite: str, items: int) -> list[TaskScore]:
    """Run one task or group that was asked for.

    lm_eval.evaluate and not simple_evaluate, which besides seeds the generators of this process and starts other
    programs to describe the machine.
    """
    import lm_eval

    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    model.begin(name)
    try:
        results = lm_eval.evaluate(lm=model, task_dict=loaded, limit=items, bootstrap_iters=BOOTSTRAP_SAMPLES, log_samples=False)
        scores = [score for task in loaded["tasks"].values() for score in scores_of(task, results, suite)]
    except Exception as fault:  # the prompts and metrics of a task are code of its own
        raise EvaluationError(f"task {name!r} cannot be scored ({reason(fault)}); mend its file or leave it out") from fault
    if not scores:
        raise EvaluationError(f"task {name!r} gave no score; it needs a metric_list")
    return scores


def scores_of(task, results: dict, suite: str) -> list[TaskScore]:
    """Return one score per metric of a task; a metric behind a filter is called metric,filter."""
    values, chance, scores = results["results"][task.task_name], chance_of(task), []
    for key, value in values.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = values.get(f"{metric}_stderr,{filtered}")
        scores.append(
            TaskScore(
                suite=suite,
                task=task.task_name,
                metric=metric if filtered == "none" else key,
                value=float(value),
                standard_error=float(error) if isinstance(error, (int, float)) else None,
                items=results["n-samples"][task.task_name]["effective"],
                chance=chance if metric in CHANCE_METRICS else None,
            )
        )
    return scores


def chance_of(task) -> float | None:
    """Return what guessing scores in a multiple-choice task: the mean of 1 / choices over the questions asked."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    questions = {instance.doc_id: instance.doc for instance in task.instances}
    sizes = [len(task.doc_to_choice(doc)) for doc in questions.values()]
    return sum(1 / size for size in sizes) / len(sizes)
