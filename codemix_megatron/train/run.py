"""One rank's part in a run: join, resume, train, leave."""

import gc
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from codemix_megatron.checkpoint.loading import clear_partial
from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.checkpoint.verifying import find_fault_together, newest_valid_together
from codemix_megatron.conversion.model_files import carry_model_files
from codemix_megatron.errors import STOPPED_EARLY, CheckpointError, CodemixError
from codemix_megatron.mixture.batch_documents import documents_at
from codemix_megatron.mixture.packing import PackedReader
from codemix_megatron.mixture.recipe_reader import recipe_reader
from codemix_megatron.model.config import require_engines
from codemix_megatron.parallel.device import active_kernels, slow_paths
from codemix_megatron.parallel.ranks import Ranks, join_ranks, leave_ranks, on_main
from codemix_megatron.plan.branch import other_data_order, recorded_branch_point
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.events import (
    EndEvent,
    RecipeEvent,
    RollbackEvent,
    RunEvent,
    ScoresEvent,
    StartEvent,
    StopEvent,
    ValidationEvent,
    WarningEvent,
)
from codemix_megatron.records.journal import read_events
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.batches import Batches
from codemix_megatron.train.checkpoint_contents import checkpoint_metadata, load_into
from codemix_megatron.train.checkpointer import Checkpointer
from codemix_megatron.train.corpus_files import CorpusFilesCheck
from codemix_megatron.train.engine import Engine
from codemix_megatron.train.folder import now, open_run
from codemix_megatron.train.held_out_bits import held_out_bits
from codemix_megatron.train.loop import Training
from codemix_megatron.train.measuring import Measuring
from codemix_megatron.train.observers import Observer, open_observers
from codemix_megatron.train.preflight import Preflight, check_nodes
from codemix_megatron.train.profiling import Profiling
from codemix_megatron.train.rank_heartbeat import begin_heartbeat
from codemix_megatron.train.starting import find_parent, initial_checkpoint, rollbacks_until, settle_start
from codemix_megatron.train.state import TrainState
from codemix_megatron.train.stragglers import StragglerWatch
from codemix_megatron.watch.heartbeat import HeartbeatWriter
from codemix_megatron.watch.lease import Lease
from codemix_megatron.watch.rank_environment import start_id

__all__ = ["train"]

SLICE_SECONDS = 20  # of reading corpora again, between two words to those that watch


def train(recipe: Recipe, run: RunFolder, score: Callable[..., dict] | None = None) -> int:
    """Train `recipe` in `run` on all ranks, from wherever it stands; return the exit code. Every rank calls this.

    `score` scores the model as it is, see evaluate/while_training.py, where the recipe asks for it.
    """
    ranks, lease = join_ranks(recipe.parallel, recipe.seed), Lease(run.path)
    on_main(ranks, lease.take)
    heartbeat = begin_heartbeat(recipe.parallel, run, ranks)
    try:
        heartbeat.announce("comparing the nodes", max(recipe.parallel.heartbeat_seconds, recipe.parallel.timeout_seconds))
        preflight = check_nodes(recipe, run, ranks)
        return RankOfRun(recipe, run, ranks, heartbeat, lease, score).train(preflight)
    finally:
        leave_ranks()
        heartbeat.stop()
        lease.release()


class RankOfRun:
    """What one rank holds while a run trains."""

    def __init__(self, recipe: Recipe, run: RunFolder, ranks: Ranks, heartbeat: HeartbeatWriter, lease: Lease, score: Callable | None):
        self.recipe, self.run, self.ranks, self.heartbeat = recipe, run, ranks, heartbeat
        self.manifests = read_manifests(recipe)
        self.plan = make_plan(recipe, self.manifests, ranks.size, on_main(ranks, partial(recorded_branch_point, run)))
        require_engines(recipe, ranks.device)  # before the folder becomes a run
        self.compare_corpora()
        self.recipe_change = on_main(ranks, partial(open_run, run, recipe, self.plan, ranks.size, ranks.device.type))
        self.names = list(self.plan.sources)
        self.reader = recipe_reader(recipe, {name: self.manifests[name] for name in self.names})
        self.state, self.score_model = TrainState(), score
        self.began, self.scoring_seconds = time.monotonic(), 0.0
        self.engine = Engine(recipe, self.manifests[self.names[0]].tokenizer, len(self.names), ranks)
        within_documents = recipe.sequences.attention_within_documents
        self.batches = Batches(self.plan.mixture(), self.reader, self.plan.batch_at, ranks, every_stage=within_documents)
        self.checkpointer = Checkpointer(run, recipe.checkpoint, self.plan, ranks, self.emit, lease.check)
        self.measuring, self.profiling = Measuring(recipe, ranks), Profiling(run, ranks)
        self.stragglers = StragglerWatch(recipe.observers, ranks)
        self.observers: list[Observer] = []
        self.signalled = False
        self.origin = None  # of a public model: its family and special tokens, for the export

    def train(self, preflight: Preflight) -> int:
        """Resume or start, walk the plan, and say how it ended."""
        began = time.monotonic()
        warnings = self.resume()
        on_main(self.ranks, self.open_observers)
        for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            if signal.getsignal(name) != signal.SIG_IGN:  # SIGHUP under nohup
                signal.signal(name, self.note_signal)
        gc.freeze()  # megatron collects garbage in every save, which takes 0.3 s over all that imports have made
        try:
            here = self.ranks.device, self.recipe.model.normalization
            self.emit(self.start_event(active_kernels(*here)))
            if self.recipe_change:
                self.emit(RecipeEvent(step=self.state.step, changed=self.recipe_change.changed))
            self.emit(preflight.event(self.state.step))
            for text in [*preflight.warnings, *warnings, *slow_paths(*here)]:
                self.emit(WarningEvent(step=self.state.step, text=text))
            if self.state.step == self.plan.first_step:
                self.validate(self.plan.phases[0].name)
            finished = Training(self.recipe, self.plan, self.engine, self.batches, self.state, hooks=self).run()
            self.finish_save()
            if finished:
                self.emit(EndEvent(step=self.state.step, at=now(), seconds=round(time.monotonic() - began, 1)))
                return 0
            if self.ranks.is_main:
                self.run.stop.unlink(missing_ok=True)
            self.emit(StopEvent(step=self.state.step, reason="asked to stop", at=now()))
            return STOPPED_EARLY
        finally:
            self.batches.close()
            self.profiling.close()
            for observer in self.observers:
                observer.close()

    def start_event(self, kernels: dict[str, str]) -> StartEvent:
        """Return what the journal says of this start."""
        device = self.ranks.device.type
        return StartEvent(step=self.state.step, ranks=self.ranks.size, device=device, kernels=kernels, at=now(), launch=start_id())

    def compare_corpora(self) -> None:
        """Compare files of corpora that were touched with their checksums; slice by slice, for the other ranks wait only so long."""
        checks: list[CorpusFilesCheck] = []  # the main rank's own; an answer of on_main goes to all

        def go_on() -> bool:
            if not checks:
                checks.append(CorpusFilesCheck(self.run, self.manifests))
            return checks[0].go_on(SLICE_SECONDS)

        while not on_main(self.ranks, go_on):
            self.announce("comparing touched corpora with their checksums", is_slow=True)

    def resume(self) -> list[str]:
        """Load the newest valid checkpoint, or the recipe's initial weights, or keep the fresh ones; return what to warn of."""
        on_main(self.ranks, partial(clear_partial, self.run.checkpoints))
        checkpoint, complaints = self.newest_valid()
        on_main(self.ranks, partial(settle_start, self.run, checkpoint, complaints))
        if checkpoint is not None:
            self.load_whole(checkpoint)
        elif self.plan.branch:
            parent = on_main(self.ranks, partial(find_parent, self.recipe, self.plan.branch))
            if fault := find_fault_together(parent, self.ranks, self.announce_reading):
                raise CodemixError(f"branch.step: {parent}: {fault}; take another step")
            self.load(parent, with_optimizer=True)
            self.origin = read_metadata(parent).get("hugging_face")
            on_main(self.ranks, partial(carry_model_files, parent, self.run))
            self.state.step = self.plan.first_step
            self.state.sequences_seen = self.plan.sequences_at(self.plan.first_step)
        elif self.recipe.initial_weights:
            source = on_main(self.ranks, partial(initial_checkpoint, self.recipe, self.run))
            if fault := find_fault_together(source, self.ranks, self.announce_reading):
                raise CodemixError(f"initial_weights: {source}: {fault}; name another checkpoint, or put it back as it was")
            self.load(source, with_optimizer=False)
            self.origin = read_metadata(source).get("hugging_face")
            on_main(self.ranks, partial(carry_model_files, source, self.run))
        for event in on_main(self.ranks, partial(rollbacks_until, self.run, self.state.step)):
            self.state.skip(*event.skipped)
            self.state.rollbacks = max(self.state.rollbacks, event.rollbacks)
        self.count_phase_again()
        return complaints

    def newest_valid(self) -> tuple[Path | None, list[str]]:
        """Return the newest checkpoint that is as its metadata says, read by all ranks together, and what to warn of."""
        return newest_valid_together(self.run.checkpoints, self.ranks, self.announce_reading)

    def announce_reading(self) -> None:
        """Say that this rank reads its share of a checkpoint."""
        self.announce("comparing a checkpoint with its metadata", is_slow=True)

    def count_phase_again(self) -> None:
        """Have the means of a phase cover its steps before this start too; only the main rank reports them."""
        if self.ranks.is_main and self.state.step < self.plan.steps:
            self.measuring.count_again(read_events(self.run.journal), self.plan.phase_at(self.state.step + 1).name)

    def load_whole(self, checkpoint) -> None:
        """Fill model, optimizer and state from a checkpoint of this run."""
        metadata = read_metadata(checkpoint)
        if fault := other_data_order(metadata):
            raise CheckpointError(f"{checkpoint}: {fault}; go on with the version of this package that saved it", exit_code=2)
        self.load(checkpoint, with_optimizer=True)
        self.origin = metadata.get("hugging_face")
        there = TrainState(**metadata.get("train_state", {key: metadata[key] for key in ("step", "sequences_seen")}))
        vars(self.state).update(vars(there))

    def roll_back(self) -> bool:
        """Load the newest valid checkpoint again; False when there is none. Every rank calls this."""
        self.finish_save()
        checkpoint, complaints = self.newest_valid()
        for text in complaints:
            self.emit(WarningEvent(step=self.state.step, text=text))
        if checkpoint is not None:
            self.load_whole(checkpoint)
        return checkpoint is not None

    def load(self, checkpoint, with_optimizer: bool) -> None:
        """Fill model (and optimizer) from a checkpoint."""
        self.announce(f"loading {checkpoint}", is_slow=True)
        load_into(self.engine, checkpoint, self.plan.layout, with_optimizer)

    def open_observers(self) -> None:
        """Open the observers; on_main carries their faults to all ranks."""
        self.observers = open_observers(self.recipe, self.run, self.plan.steps, self.state.step)

    def announce(self, where: str, is_slow: bool = False) -> None:
        """Say what this rank does next; slow things may take as long as ranks wait for each other."""
        parallel = self.recipe.parallel
        self.heartbeat.announce(where, max(parallel.heartbeat_seconds, parallel.timeout_seconds if is_slow else 0))

    def emit(self, event: RunEvent) -> None:
        """Measure, and give the event to the observers; only the main rank has any. Every rank calls this."""
        measured = self.measuring.enriched(event)
        events = [measured, *self.profiling.after(event), *self.stragglers.after(measured)]
        for observer in self.observers:
            for happened in events:
                observer.emit(happened)
        if isinstance(event, RollbackEvent):
            self.count_phase_again()

    def save(self, wait: bool) -> None:
        """Save a checkpoint; with `wait` it is there when this returns, whatever the recipe says. Every rank calls this."""
        self.announce(f"the save of step {self.state.step}", is_slow=True)
        metadata = checkpoint_metadata(self.recipe, self.plan, self.state, self.manifests[self.names[0]].tokenizer, self.origin)
        self.checkpointer.begin(self.state.step, self.engine, metadata, wait)

    def finish_save(self) -> None:
        """Wait for the save under way, if there is one. Every rank calls this."""
        self.announce("the end of a save", is_slow=True)
        self.checkpointer.finish()

    def is_saving(self) -> bool:
        """Say whether this rank still writes."""
        return self.checkpointer.is_writing

    def documents_at(self, positions) -> dict[str, list[int]]:
        """Return source -> documents of the sequences at positions of the run. Every rank calls this."""
        manifests = [self.manifests[name] for name in self.names]
        packings = self.reader.packings if isinstance(self.reader, PackedReader) else None
        length = self.recipe.model.sequence_length
        return on_main(self.ranks, partial(documents_at, self.batches.mixture, manifests, length, positions, packings))

    def validate(self, phase: str) -> None:
        """Score each source's held-out sequences. Every rank calls this."""
        losses: dict[str, float] = {}
        for i, name in enumerate(self.names):
            rows = self.reader.held_out(i, self.recipe.evaluation.held_out_sequences, hides=True)
            if len(rows):
                self.announce(f"held-out loss of {name} after step {self.state.step}", is_slow=True)
                scored = self.engine.score(rows, i)
                losses |= {name: scored.mean} if scored.tokens.sum() else {}  # a mask may leave nothing to be learned
        bits = held_out_bits(losses, self.manifests)
        step = self.state.step
        self.emit(ValidationEvent(step=step, phase=phase, tokens=self.plan.tokens_at(step), loss_per_source=losses, bits_per_byte=bits))

    def score(self) -> None:
        """Score the suites that are asked for while training. Every rank calls this."""
        if self.score_model is None:
            return
        began, step, tokens = time.monotonic(), self.state.step, self.plan.tokens_at(self.state.step)

        def progress(label: str, done: int, total: int) -> None:
            self.announce(f"scoring {label} after step {step}", is_slow=True)

        progress("suites", 0, 1)
        here = self.engine.chunks, self.ranks.device, step, tokens, progress
        found = self.score_model(self.recipe, self.run, *here, origin=self.origin)
        seconds = time.monotonic() - began
        self.scoring_seconds += seconds
        share = self.scoring_seconds / (time.monotonic() - self.began)
        self.emit(ScoresEvent(step=step, tokens=tokens, seconds=round(seconds, 3), share_of_time=round(share, 4), **found))

    def note_signal(self, number, frame) -> None:
        """Remember that this rank was asked to stop; the ranks agree on it at the next step."""
        self.signalled = True

    def stop_asked(self) -> bool:
        """Say whether this rank was signalled or, on the main rank, the stop file is there."""
        return self.signalled or (self.ranks.is_main and self.run.stop.exists())
