"""The checkpoints of a run while it trains: begun at a step, written synchronously or asynchronously, finished together."""

import time
from collections.abc import Callable
from threading import Thread

from codemix_megatron.checkpoint.host_copies import HostCopies
from codemix_megatron.checkpoint.loading import list_checkpoints, prune
from codemix_megatron.checkpoint.retention import why_kept
from codemix_megatron.checkpoint.writing import Saving
from codemix_megatron.parallel.ranks import Ranks, on_main
from codemix_megatron.plan.plan import Plan
from codemix_megatron.recipe.schema import CheckpointPolicy
from codemix_megatron.records.events import CheckpointEvent, RunEvent
from codemix_megatron.records.run_folder import RunFolder, saved_step
from codemix_megatron.train.engine import Engine

__all__ = ["Checkpointer"]


class Checkpointer:
    """At most one save is under way; the next one waits for it."""

    def __init__(
        self,
        run: RunFolder,
        policy: CheckpointPolicy,
        plan: Plan,
        ranks: Ranks,
        emit: Callable[[RunEvent], None],
        before_commit: Callable[[], None],
    ):
        self.run, self.policy, self.plan, self.ranks, self.emit = run, policy, plan, ranks, emit
        self.copies = HostCopies()
        self.before_commit = before_commit  # on the main rank: raises where this start may not save any more
        self.saving: Saving | None = None
        self.thread: Thread | None = None
        self.stall_seconds = 0.0  # of the save under way, as the training loop felt it

    def begin(self, step: int, engine: Engine, metadata: dict, wait: bool) -> None:
        """Save this step: to the end with `wait` or a synchronous policy, else only as far as training has to wait.

        Every rank calls this. Raises CheckpointError on every rank when this
        save (when waited for) or the one before it failed.
        """
        self.finish()
        began = time.perf_counter()
        behind = self.policy.asynchronous and not wait
        self.saving = Saving(
            self.run.checkpoint(step), engine.sharded_state(), metadata, self.ranks.device, behind, self.copies, self.before_commit
        )
        if behind:
            self.thread = Thread(target=self.saving.write, name=f"save-step-{step}", daemon=True)
            self.thread.start()
        else:
            self.saving.write()
        self.stall_seconds = time.perf_counter() - began
        if not behind:
            self.finish()

    @property
    def is_writing(self) -> bool:
        """Say whether this rank's part of a save is still on its way to disk."""
        return self.thread is not None and self.thread.is_alive()

    def finish(self) -> None:
        """Wait until all ranks have written the save under way, make it a checkpoint, prune. Every rank calls this."""
        if self.saving is None:
            return
        began, saving, behind = time.perf_counter(), self.saving, self.thread is not None
        if self.thread is not None:
            self.thread.join()
        self.saving = self.thread = None
        saved = saving.finish()
        on_main(self.ranks, self.prune)
        stalled = self.stall_seconds + time.perf_counter() - began
        self.emit(
            CheckpointEvent(
                step=saving.metadata["step"],
                seconds=saved.seconds,
                stall_seconds=round(stalled, 3),
                bytes=saved.bytes,
                asynchronous=behind,
            )
        )

    def prune(self) -> None:
        """Remove the checkpoints that the policy does not keep."""
        phase_ends = {p.first_step + p.steps - 1 for p in self.plan.phases}
        steps = [saved_step(p) for p in list_checkpoints(self.run.checkpoints)]
        prune(
            self.run.checkpoints,
            why_kept(steps, self.policy, self.plan.tokens_at, phase_ends, self.plan.first_step),
        )
