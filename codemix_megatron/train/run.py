"""One rank's part in a run: join, resume, train, leave."""

import math
import os
import signal
import time
from dataclasses import asdict
from functools import partial

from codemix_megatron.checkpoint.loading import load_checkpoint, newest_sound, prune, read_card
from codemix_megatron.checkpoint.writing import save_checkpoint
from codemix_megatron.errors import STOPPED_EARLY
from codemix_megatron.mixture.packing import PackedReader
from codemix_megatron.mixture.reading import SequenceReader
from codemix_megatron.parallel.device import active_kernels, slow_paths
from codemix_megatron.parallel.ranks import Ranks, join_ranks, leave_ranks, on_main
from codemix_megatron.plan.branch import known_branch_point
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.schema import Recipe, as_plain
from codemix_megatron.records.journal import cut_after
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.batches import Batches
from codemix_megatron.train.engine import Engine
from codemix_megatron.train.folder import now, open_run
from codemix_megatron.train.loop import Training, TrainState
from codemix_megatron.train.observers import open_observers
from codemix_megatron.train.starting import has_random_state, initial_checkpoint, parent_checkpoint

__all__ = ["train"]


def train(recipe: Recipe, run: RunFolder) -> int:
    """Train `recipe` in `run` on all ranks, from wherever it stands; return the exit code. Every rank calls this."""
    ranks = join_ranks(recipe.parallel, recipe.seed)
    try:
        return RankOfRun(recipe, run, ranks).train()
    finally:
        leave_ranks()


class RankOfRun:
    """What one rank holds while a run trains."""

    def __init__(self, recipe: Recipe, run: RunFolder, ranks: Ranks):
        self.recipe, self.run, self.ranks = recipe, run, ranks
        self.manifests = read_manifests(recipe)
        self.plan = make_plan(recipe, self.manifests, ranks.size, on_main(ranks, partial(known_branch_point, run)))
        on_main(ranks, partial(open_run, run, recipe, self.plan, ranks.size, ranks.device.type))
        self.names = list(self.plan.sources)
        reader = PackedReader if recipe.sequences.packing == "best_fit" else SequenceReader
        self.reader = reader([self.manifests[name] for name in self.names], recipe.model.sequence_length)
        self.state = TrainState()
        self.engine = Engine(recipe, self.manifests[self.names[0]].tokenizer, len(self.names), ranks)
        within_documents = recipe.sequences.attention_within_documents
        self.batches = Batches(self.plan.mixture(), self.reader, self.plan.global_sequences, ranks, every_stage=within_documents)
        self.observers, self.signalled = [], False

    def train(self) -> int:
        """Resume or start, walk the plan, and say how it ended."""
        began = time.monotonic()
        warnings = self.resume()
        on_main(self.ranks, self.open_observers)
        for name in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(name, self.note_signal)
        try:
            launch = os.environ.get("CODEMIX_FOLLOWED")
            where = {"ranks": self.ranks.size, "device": self.ranks.device.type, "kernels": active_kernels(self.ranks.device)}
            self.tell("start", {"step": self.state.step, **where, "at": now(), "launch": launch})
            for text in [*warnings, *slow_paths(self.ranks.device)]:
                self.tell("warning", {"step": self.state.step, "text": text})
            if self.state.step == self.plan.first_step:
                self.validate(self.plan.phases[0].name)
            training = Training(self.recipe, self.plan, self.engine, self.batches, self.state)
            finished = training.run(self.tell, self.save, self.validate, self.stop_asked)
            if finished:
                self.tell("end", {"step": self.state.step, "at": now(), "seconds": round(time.monotonic() - began, 1)})
                return 0
            if self.ranks.is_main:
                self.run.stop.unlink(missing_ok=True)
            self.tell("stop", {"step": self.state.step, "reason": "asked to stop", "at": now()})
            return STOPPED_EARLY
        finally:
            self.batches.close()
            for observer in self.observers:
                observer.close()

    def resume(self) -> list[str]:
        """Load the newest sound checkpoint, or the recipe's initial weights, or keep the fresh ones; return what to warn of."""
        checkpoint, complaints = on_main(self.ranks, partial(newest_sound, self.run.checkpoints))
        if checkpoint is not None:
            card = read_card(checkpoint)
            self.load(checkpoint, with_optimizer=True)
            self.state.step, self.state.sequences_seen = card["step"], card["sequences_seen"]
        elif self.plan.branch:
            self.load(on_main(self.ranks, partial(parent_checkpoint, self.recipe, self.plan.branch)), with_optimizer=True)
            self.state.step = self.plan.first_step
            self.state.sequences_seen = self.plan.first_step * self.plan.global_sequences
        elif self.recipe.initial_weights:
            source = on_main(self.ranks, partial(initial_checkpoint, self.recipe))
            self.load(source, with_optimizer=False)
        on_main(self.ranks, partial(cut_after, self.run.journal, self.state.step))
        return complaints

    def load(self, checkpoint, with_optimizer: bool) -> None:
        """Fill model (and optimizer) from a checkpoint."""
        with_random_state = with_optimizer and has_random_state(read_card(checkpoint), self.plan.layout)
        wanted = self.engine.sharded_state(is_loading=True, with_optimizer=with_optimizer, with_random_state=with_random_state)
        loaded = load_checkpoint(checkpoint, wanted)
        if not with_optimizer:
            # Megatron adds the checkpoint's unsharded part unasked: Adam's groups, whose moments would then be uninitialised memory.
            loaded.pop("optimizer", None)
        self.engine.load_state(loaded)

    def open_observers(self) -> None:
        """Open the observers; on_main carries their faults to all ranks."""
        self.observers = open_observers(self.recipe, self.run, self.plan.steps)

    def tell(self, event: str, values: dict) -> None:
        """Tell the observers; only the main rank has any."""
        for observer in self.observers:
            observer.tell(event, values)

    def save(self) -> None:
        """Save a checkpoint unless this step has one, then prune. Every rank calls this."""
        card = {
            "step": self.state.step,
            "sequences_seen": self.state.sequences_seen,
            "tokens": self.state.step * self.plan.batch_tokens,
            "model": as_plain(self.recipe.model),
            "tokenizer": asdict(self.manifests[self.names[0]].tokenizer),
            "layout": self.plan.layout,
            "random_state": True,
            "at": now(),
        }
        card = save_checkpoint(self.run.checkpoint(self.state.step), self.engine.sharded_state(), card, self.ranks.device)
        size = sum(f["bytes"] for f in card["files"].values())
        self.tell("checkpoint", {"step": self.state.step, "seconds": card["seconds"], "bytes": size})
        phase_ends = {p.first_step + p.steps - 1 for p in self.plan.phases}
        on_main(self.ranks, partial(prune, self.run.checkpoints, self.recipe.checkpoint.keep_last, phase_ends))

    def validate(self, phase: str) -> None:
        """Score each source's held-out sequences. Every rank calls this."""
        losses = {}
        for i, name in enumerate(self.names):
            rows = self.reader.held_out(i, self.recipe.evaluation.held_out_sequences)
            if len(rows):
                losses[name] = self.engine.score(rows, i).mean
        tokens_per_byte = {name: m.held_out_tokens / max(1, m.held_out_bytes) for name, m in self.manifests.items()}
        bits = {name: loss / math.log(2) * tokens_per_byte[name] for name, loss in losses.items()}
        step = self.state.step
        values = {"step": step, "phase": phase, "tokens": step * self.plan.batch_tokens, "loss_per_source": losses, "bits_per_byte": bits}
        self.tell("validation", values)

    def note_signal(self, number, frame) -> None:
        """Remember that this rank was asked to stop; the ranks agree on it at the next step."""
        self.signalled = True

    def stop_asked(self) -> bool:
        """Say whether this rank was signalled or, on the main rank, the stop file is there."""
        return self.signalled or (self.ranks.is_main and self.run.stop.exists())
