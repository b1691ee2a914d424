"""Walking through what is wanted of one model: each task is scored, or found in what was kept, or noted with the reason why not."""

import tempfile
from pathlib import Path

from codemix_megatron.analysis.aggregates import aggregate
from codemix_megatron.cores import available_cores
from codemix_megatron.corpus.held_out import held_out_token_documents
from codemix_megatron.errors import CorpusError, EvaluationError, SandboxError
from codemix_megatron.evaluate.compression import bits_per_byte, bits_per_byte_of
from codemix_megatron.evaluate.continuation import write_suite
from codemix_megatron.evaluate.cut_prompts import check_cut
from codemix_megatron.evaluate.digests import task_digest
from codemix_megatron.evaluate.harness import run_definition, run_folder_tasks
from codemix_megatron.evaluate.other_tokenizer import reader_of
from codemix_megatron.evaluate.overlap import find_overlaps, with_clean_values
from codemix_megatron.evaluate.rolling import rolling_bits_per_byte
from codemix_megatron.evaluate.store import ItemStore, task_scores
from codemix_megatron.evaluate.suite_data import dataset_of, no_data, refuse_other_file
from codemix_megatron.evaluate.suites import Suite, SuiteTask, find_data
from codemix_megatron.evaluate.wanted import OWN_SUITES, Subject, Wanted, tasks_folder_digest
from codemix_megatron.inference.progress import Progress
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.item_scores import ItemScores
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.scores import AggregateScore, BitsPerByte, TaskScore
from codemix_megatron.sandbox.running import find_sandbox
from codemix_megatron.trust import PROGRAMS, TASK_CODE

__all__ = ["Scorer"]

BYTES_PER_ITEM = 2000  # bits per byte are measured on at most `items` documents and this many bytes for each
ALL_ITEMS = 1_000_000  # documents of a corpus, where all items are asked for


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
            files = [file_sha256(self.suites / f"{name}{suffix}") for suffix in (".yaml", ".jsonl")]
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
        where = file_sha256(data) if data else task.hub
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
        digest = task_digest(self.subject.digest, task=task.code, data=file_sha256(data), items=limit, samples=wanted.samples)
        if not self.store.knows(task.name, digest):
            sandbox = find_sandbox(unsandboxed=PROGRAMS in wanted.trust)

        def score():
            return score_programs(
                self.model, described, read_problems(data, limit), sandbox, samples=wanted.samples, threads=available_cores(),
                progress=self.progress, allow_cut=wanted.allow_cut,
            )  # fmt: skip

        return self.store.get_or_score(task.name, digest, score)
