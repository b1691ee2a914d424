"""lm-evaluation-harness: tasks in, what was scored on every item out, without network, cache or chatter.

lm_eval is imported when a task is scored, not before: that takes seconds.
"""

import contextlib
import difflib
import math
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.adapter import harness_model
from codemix_megatron.evaluate.digests import text_keys
from codemix_megatron.evaluate.task_code import without_task_code
from codemix_megatron.inference.offline import go_offline
from codemix_megatron.inference.progress import Progress, silent
from codemix_megatron.inference.quiet import quiet
from codemix_megatron.records.item_scores import ItemScores, MetricItems

__all__ = ["BITS_PER_BYTE", "CHOICE_PROBABILITY", "run_definition", "run_folder_tasks"]

BITS_PER_BYTE = "bits_per_byte"
CHOICE_PROBABILITY = "choice_probability"
BOOTSTRAP_SAMPLES = 200  # only metrics without a closed form of the standard error need them
FEWSHOT_SEED = 1234
ACCURACIES = ("acc", "acc_norm", "acc_bytes")
CHANCE_METRICS = (*ACCURACIES, CHOICE_PROBABILITY)


def run_folder_tasks(model, names, directory, *, items: int, progress: Progress = silent, trusts_code: bool = False) -> list[ItemScores]:
    """Score lm-eval tasks (or groups) of the files in `directory`, at most `items` questions each.

    Relative data files of a task are those under `directory`. Raises EvaluationError naming the task that is unknown,
    cannot be read or cannot be scored, or that names Python to run without `trusts_code`.
    """
    names, directory = list(dict.fromkeys(names)), Path(directory).absolute()
    if not directory.is_dir():
        raise EvaluationError(f"{directory}: no such folder; it should hold the lm-eval task files of {', '.join(names)}")
    with at_work(progress, trusts_code) as aloud, contextlib.chdir(directory):
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(directory), include_defaults=False)
        check_names(names, manager.all_tasks, directory)
        loaded = {name: load_task(manager, name, name, directory) for name in names}
        adapter = harness_model(model, aloud)
        return [scores for name in names for scores in score_task(adapter, name, loaded[name], items, with_bits=False)]


def run_definition(
    model, name: str, definition: dict, *, items: int | None, with_bits: bool, progress: Progress = silent, trusts_code: bool = False
) -> ItemScores:
    """Score one task given as lm-eval's own configuration; `with_bits` adds bits per byte of the right answers."""
    with at_work(progress, trusts_code) as aloud:
        from lm_eval.tasks import TaskManager

        loaded = load_task(TaskManager(include_defaults=False), {**definition, "task": name}, name, "the suite")
        return score_task(harness_model(model, aloud), name, loaded, items, with_bits)[0]


@contextlib.contextmanager
def at_work(progress: Progress, trusts_code: bool = False):
    """Be offline and quiet, with our metrics known to lm-eval; the value is `progress`, which still reaches the terminal."""
    go_offline()
    with quiet() as aloud, empty_cache(), contextlib.nullcontext() if trusts_code else without_task_code():
        register_metrics()
        confine_templates()
        yield aloud(progress)


def confine_templates() -> None:
    """Have lm-eval fill templates in Jinja's sandbox: a suite is data, and plain Jinja runs what a template reaches from any object."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils

    if not isinstance(utils.env, ImmutableSandboxedEnvironment):
        confined = ImmutableSandboxedEnvironment(
            loader=utils.env.loader, undefined=utils.env.undefined, keep_trailing_newline=utils.env.keep_trailing_newline
        )
        confined.filters.update(utils.env.filters)
        utils.env = confined


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


def register_metrics() -> None:
    """Make `word_f1` known to lm-eval: overlap of words, as SQuAD and QuAC count it."""
    import lm_eval.api.metrics  # noqa: F401 - registers `mean`, which ours is aggregated by
    from lm_eval.api.registry import METRIC_REGISTRY, register_metric

    if "word_f1" not in METRIC_REGISTRY:
        register_metric(metric="word_f1", higher_is_better=True, output_type=["generate_until"], aggregation="mean")(word_f1)


def word_f1(references: list[str], predictions: list[str], **_) -> float:
    """Return the F1 of lower-case words with and without order, the best over the references."""
    return max(overlap(reference.lower().split(), predictions[0].lower().split()) for reference in references)


def overlap(wanted: list[str], given: list[str]) -> float:
    """Return the F1 of two bags of words."""
    common = sum(min(wanted.count(word), given.count(word)) for word in set(wanted))
    return 2 * common / (len(wanted) + len(given)) if common else 0.0


def check_names(names, known, directory: Path) -> None:
    """Raise EvaluationError for the first task that no file of the folder defines."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            listed = ", ".join(known) or "none"
            raise EvaluationError(f"evaluation.tasks: no lm-eval task {name!r} in {directory}{hint}; available are {listed}")


def load_task(manager, spec, name: str, where):
    """Return what lm-eval makes of a task, its data read."""
    try:
        return manager.load([spec])
    except EvaluationError:
        raise
    except Exception as fault:  # a task file may ask for anything and fail in any way
        raise EvaluationError(f"{where}: task {name!r} cannot be read ({reason(fault)}); fix its file or its data") from fault


def reason(fault: BaseException) -> str:
    """Return an exception in one line."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"


def score_task(adapter, name: str, loaded: dict, items: int | None, with_bits: bool) -> list[ItemScores]:
    """Run one task or group that was asked for.

    lm_eval.evaluate and not simple_evaluate, which besides seeds the generators of this process and starts other
    programs to describe the machine.
    """
    import lm_eval

    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    adapter.begin(name)
    try:
        results = lm_eval.evaluate(lm=adapter, task_dict=loaded, limit=items, bootstrap_iters=BOOTSTRAP_SAMPLES, log_samples=True)
        scores = [
            replace(
                item_scores(task, results, with_bits),
                cut=count_cut(samples_of(task, results), adapter.cut),
                window=adapter.max_length,
            )
            for task in loaded["tasks"].values()
        ]
    except EvaluationError:
        raise
    except Exception as fault:  # the prompts and metrics of a task are code of its own
        raise EvaluationError(f"task {name!r} cannot be scored ({reason(fault)}); fix its file or leave it out") from fault
    if not all(score.metrics for score in scores):
        raise EvaluationError(f"task {name!r} gave no score; it needs a metric_list")
    return scores


def item_scores(task, results: dict, with_bits: bool) -> ItemScores:
    """Return one task's metrics, per item where they are means; a metric behind a filter is called metric,filter."""
    values, samples = results["results"][task.task_name], results["samples"][task.task_name]
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    by_filter = {name: [sample for sample in samples if sample["filter"] == name] for name in filters}
    metrics = {}
    for key, value in values.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = values.get(f"{metric}_stderr,{filtered}")
        single = filtered == "none" or len(filters) == 1
        metrics[metric if single else key] = MetricItems(
            value=float(value),
            standard_error=float(error) if isinstance(error, (int, float)) else None,
            values=mean_parts([sample.get(metric) for sample in by_filter[filtered]], value),
            higher_is_better=task.higher_is_better().get(metric, True),
        )
    asked = by_filter[filters[0]]
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        metrics |= text_metrics(asked)
    elif with_bits or task.OUTPUT_TYPE == "loglikelihood":
        metrics |= answer_metrics(task, asked)
    keys = text_keys(f"{sample['doc_hash']} {sample['prompt_hash']} {sample['target_hash']}" for sample in asked)
    texts = [str(sample["filtered_resps"][0]) for sample in asked] if task.OUTPUT_TYPE == "generate_until" else []
    return ItemScores(
        task=task.task_name, keys=keys, metrics=metrics, chance=chances(task, metrics), texts=texts, majority=majorities(task, metrics)
    )  # fmt: skip


def samples_of(task, results: dict) -> list[dict]:
    """Return one sample for each question of a task, whatever filters there are."""
    samples = results["samples"][task.task_name]
    return [sample for sample in samples if sample["filter"] == samples[0]["filter"]]


def mean_parts(values: list, mean: float) -> list[float] | None:
    """Return per-item values as numbers when the metric is their mean, else None (perplexities, F1 over all items)."""
    if not all(isinstance(value, (int, float)) or hasattr(value, "item") for value in values):
        return None
    numbers = [float(value) for value in values]
    return numbers if math.isclose(math.fsum(numbers) / len(numbers), mean, rel_tol=1e-6, abs_tol=1e-9) else None


def answer_metrics(task, samples: list[dict]) -> dict[str, MetricItems]:
    """Return bits per byte of the right answer (the delimiter before it counted), and its probability among the choices."""
    bits, probabilities = [], []
    for sample in samples:
        # acc_mutual_info asks for each choice once more, without its question, behind all of them
        asked = len(task.doc_to_choice(sample["doc"])) if task.OUTPUT_TYPE == "multiple_choice" else None
        nats = [float(response[0]) for response in sample["filtered_resps"][:asked]]
        sizes = [len(continuation.encode()) for _, continuation in (arguments[:2] for arguments in sample["arguments"][:asked])]
        each = [-value / math.log(2) / max(1, size) for value, size in zip(nats, sizes, strict=True)]
        right = right_choices(task, sample["doc"], len(nats))
        bits.append(min(each[i] for i in right))
        highest = max(nats)
        shares = [math.exp(value - highest) for value in nats]
        probabilities.append(sum(shares[i] for i in right) / sum(shares))
    found = {BITS_PER_BYTE: metric_of(bits, higher_is_better=False)}
    if task.OUTPUT_TYPE == "multiple_choice":
        found[CHOICE_PROBABILITY] = metric_of(probabilities, higher_is_better=True)
    return found


def text_metrics(samples: list[dict]) -> dict[str, MetricItems]:
    """Return bits per byte of whole texts: the mean over them, each text one item (lm-eval's own is total bits over total bytes)."""
    nats = [float(sample["filtered_resps"][0]) for sample in samples]
    sizes = [len(str(sample["arguments"][0][0]).encode("utf-8", "surrogatepass")) for sample in samples]
    each = [-value / math.log(2) / max(1, size) for value, size in zip(nats, sizes, strict=True)]
    return {BITS_PER_BYTE: metric_of(each, higher_is_better=False)}


def right_choices(task, doc, number: int) -> list[int]:
    """Return the indices of the right answers among a question's choices."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return [0]
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(gold, str):
        gold = task.doc_to_choice(doc).index(gold)
    right = [int(i) for i in (gold if isinstance(gold, list) else [gold]) if 0 <= int(i) < number]
    if not right:
        raise EvaluationError(f"task {task.task_name!r}: the right answer {gold!r} is not among the {number} choices; fix doc_to_target")
    return right


def metric_of(values: list[float], higher_is_better: bool) -> MetricItems:
    """Return a metric that is the mean of its items."""
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values)
    error = math.sqrt(spread / (len(values) - 1) / len(values)) if len(values) > 1 else None
    return MetricItems(value=mean, standard_error=error, values=values, higher_is_better=higher_is_better)


def chances(task, metrics) -> dict[str, float]:
    """Return what guessing scores in a multiple-choice task: the mean of 1 / choices over the questions asked."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return {}
    questions = {instance.doc_id: instance.doc for instance in task.instances}
    sizes = [len(task.doc_to_choice(doc)) for doc in questions.values()]
    chance = sum(1 / size for size in sizes) / len(sizes)
    return {metric: chance for metric in metrics if metric.partition(",")[0] in CHANCE_METRICS}


def majorities(task, metrics) -> dict[str, float]:
    """Return what the most frequent class scores as the answer to all questions, where all have the same choices: BoolQ's yes 0.622."""
    if task.OUTPUT_TYPE != "multiple_choice" or task.multiple_input:
        return {}
    documents = {instance.doc_id: instance.doc for instance in task.instances}.values()
    if len({tuple(task.doc_to_choice(doc)) for doc in documents}) != 1:
        return {}
    right = Counter(choice for doc in documents for choice in right_choices(task, doc, len(task.doc_to_choice(doc))))
    return {metric: max(right.values()) / len(documents) for metric in metrics if metric.partition(",")[0] in ACCURACIES}


def count_cut(samples: list[dict], cut: set[str]) -> int:
    """Return how many questions have a prompt among those that were cut."""
    return sum(any(arguments[0] in cut for arguments in sample["arguments"]) for sample in samples)
