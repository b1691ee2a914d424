"""The training loop; everything that is not a step is a function it calls."""

import statistics
import time
from typing import Protocol

import numpy as np

from codemix_megatron.checkpoint.retention import is_token_mark
from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.phases import PhasePlan
from codemix_megatron.plan.plan import Plan
from codemix_megatron.plan.rates import step_rate
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.events import PhaseEndEvent, RollbackEvent, RunEvent, SkippedEvent, StepEvent, WarningEvent
from codemix_megatron.train.batches import Batches
from codemix_megatron.train.engine import Engine
from codemix_megatron.train.state import TrainState
from codemix_megatron.train.step_result import StepResult

__all__ = ["RunHooks", "Training"]

DOCUMENTS_NAMED = 5  # in a message; the journal has them all


class RunHooks(Protocol):
    """What the loop asks of this rank's part of the run. Every rank calls each of them, but for the last two, which are a rank's own view."""

    def announce(self, where: str, is_slow: bool = False) -> None:
        """Record in the heartbeat what this rank does next."""

    def emit(self, event: RunEvent) -> None:
        """Give an event to the observers, which the main rank alone has."""

    def save(self, wait: bool) -> None:
        """Save a checkpoint; with `wait` it is complete when this returns."""

    def finish_save(self) -> None:
        """Wait for the save under way, if there is one."""

    def validate(self, phase: str) -> None:
        """Score held-out sequences."""

    def score(self) -> None:
        """Score the suites that are asked for while training."""

    def documents_at(self, positions: np.ndarray) -> dict[str, list[int]]:
        """Return source -> documents of the sequences at positions of the run."""

    def roll_back(self) -> bool:
        """Load the newest valid checkpoint again; False when there is none."""

    def stop_asked(self) -> bool:
        """Say whether this rank was asked to stop."""

    def is_saving(self) -> bool:
        """Say whether this rank still writes a checkpoint."""


class Training:
    """Walks a plan from a state to its end or to a stop."""

    def __init__(self, recipe: Recipe, plan: Plan, engine: Engine, batches: Batches, state: TrainState, hooks: RunHooks):
        self.recipe, self.plan, self.engine, self.batches, self.state, self.hooks = recipe, plan, engine, batches, state, hooks
        self.is_first = True

    def run(self) -> bool:
        """Train until the plan ends (True) or a stop was asked for on some rank (False). Every rank calls this."""
        while self.state.step < self.plan.steps:
            phase = self.plan.phase_at(self.state.step + 1)
            if self.state.step + 1 == phase.first_step:
                self.begin_phase(phase)
            if self.state.is_skipped(self.state.step + 1):
                result = None
                self.pass_over(phase, "skipped earlier, at the rollback")
            else:
                result = self.step(phase)
                if result.is_finite and self.is_spike(result.losses.mean) and self.roll_back(result.losses.mean):
                    continue
            stop_asked = result is not None and result.stop_asked
            self.after_step(phase, stop_asked, result is not None and not result.is_saving)
            if stop_asked and self.state.step < self.plan.steps:
                return False
        return True

    def begin_phase(self, phase: PhasePlan) -> None:
        """Carry or reset the optimizer's state, as the phase says; losses of another mixture say nothing about spikes."""
        self.state.recent_losses.clear()
        spec = next(p for p in self.recipe.phases if p.name == phase.name)
        if spec.optimizer_state == "reset" and self.state.step:
            self.engine.reset_optimizer()

    def step(self, phase: PhasePlan) -> StepResult:
        """Take the next global batch, update once, and log it; a batch without a finite loss is skipped."""
        began = time.perf_counter()
        spec = next(p for p in self.recipe.phases if p.name == phase.name).learning_rate
        rate = step_rate(spec, phase, self.state.step + 1, self.plan.sequence_length)
        self.hooks.announce(f"step {self.state.step + 1}, getting the batch")
        batch = self.batches.at(self.state.sequences_seen)
        # The first step of a start builds communicators and kernels, and takes far longer than the others.
        self.hooks.announce(f"step {self.state.step + 1}, forward, backward and update", is_slow=self.is_first)
        self.is_first = False
        every = self.recipe.observers.gradient_norms_every_steps
        self.engine.reports_norms = bool(every) and (self.state.step + 1) % every == 0
        result = self.engine.train_step(batch, rate, self.hooks.stop_asked(), self.hooks.is_saving())
        if result.is_finite:
            self.advance()
            self.state.bad_in_a_row = 0
            self.hooks.emit(self.describe(phase, rate, result, time.perf_counter() - began))
        else:
            self.skip_bad_batch(phase, result)
        return result

    def advance(self) -> None:
        """Count one global batch."""
        self.state.sequences_seen += self.plan.batch_at(self.state.sequences_seen).sequences
        self.state.step += 1

    def after_step(self, phase: PhasePlan, stop_asked: bool, written_everywhere: bool) -> None:
        """Do what is due at this step: finish a save, score held-out data, save."""
        if written_everywhere:
            self.hooks.finish_save()
        ends_phase = self.state.step == phase.first_step + phase.steps - 1
        if ends_phase or self.is_due(self.recipe.evaluation.every_steps):
            self.hooks.validate(phase.name)
        scoring = self.recipe.evaluation.while_training
        if scoring is not None and (self.state.step in scoring.at_steps or self.is_due(scoring.every_steps)):
            self.hooks.score()
        if ends_phase:
            self.hooks.emit(PhaseEndEvent(step=self.state.step, phase=phase.name))
        policy = self.recipe.checkpoint
        is_mark = is_token_mark(self.state.step, policy, self.plan.tokens_at)
        if ends_phase or stop_asked or is_mark or self.is_due(policy.every_steps):
            self.hooks.save(wait=stop_asked or self.state.step == self.plan.steps)

    def is_due(self, every_steps: int | None) -> bool:
        """Say whether something that happens every so many steps happens now."""
        return every_steps is not None and self.state.step % every_steps == 0

    def describe(self, phase: PhasePlan, rate: float, result: StepResult, seconds: float) -> StepEvent:
        """Return a step event; what a rank measures of itself is added on its way to the observers."""
        mixture, tokens = self.batches.mixture, self.plan.tokens_at(self.state.step) - self.plan.tokens_at(self.state.step - 1)
        consumed = (mixture.consumed(self.state.sequences_seen) - self.sequences_skipped()) * self.plan.sequence_length
        return StepEvent(
            step=self.state.step,
            phase=phase.name,
            tokens=self.plan.tokens_at(self.state.step),
            sequences=self.state.sequences_seen,
            loss=result.losses.mean,
            loss_per_source=result.losses.per_source(mixture.sources),
            tokens_per_source={name: int(count) for name, count in zip(mixture.sources, consumed, strict=True)},
            tokens_per_bucket=self.tokens_per_bucket(),
            learned_per_source={name: int(count) for name, count in zip(mixture.sources, result.losses.tokens, strict=True) if count},
            learning_rate=rate,
            gradient_norm=result.gradient_norm,
            gradient_norms=result.gradient_norms,
            seconds=round(seconds, 4),
            tokens_per_second=round(tokens / seconds, 1),
            model_flops_per_second=phase.flops_per_token * tokens / seconds,
        )

    def tokens_per_bucket(self) -> dict[str, list[int]] | None:
        """Return source -> tokens trained on so far of each of its buckets; None where no source has some."""
        mixture = self.batches.mixture
        counts = mixture.bucket_sequences(mixture.consumed(self.state.sequences_seen))
        for step in self.steps_skipped():
            for name, skipped in mixture.buckets_of(mixture.locate(self.positions(step))).items():
                counts[name] = counts[name] - skipped
        return {name: (of_buckets * self.plan.sequence_length).tolist() for name, of_buckets in counts.items()} or None

    def steps_skipped(self) -> set[int]:
        """Return the steps up to now whose batches were left out."""
        return {step for first, last in self.state.skipped for step in range(first, min(last, self.state.step) + 1)}

    def positions(self, step: int) -> np.ndarray:
        """Return the positions of a step's global batch."""
        return np.arange(self.plan.sequences_at(step - 1), self.plan.sequences_at(step))

    def sequences_skipped(self) -> np.ndarray:
        """Return how many sequences of each source were left out up to now."""
        mixture, counts = self.batches.mixture, np.zeros(len(self.batches.mixture.sources), dtype=np.int64)
        for step in self.steps_skipped():
            counts += np.bincount(mixture.locate(self.positions(step)).source, minlength=len(counts))
        return counts

    def pass_over(
        self, phase: PhasePlan, reason: str, sources: list[str] | None = None, documents: dict[str, list[int]] | None = None
    ) -> None:
        """Count the next batch without training on it."""
        self.advance()
        self.hooks.emit(SkippedEvent(step=self.state.step, phase=phase.name, reason=reason, sources=sources, documents=documents))

    def skip_bad_batch(self, phase: PhasePlan, result: StepResult) -> None:
        """Skip a batch whose loss or gradients are not finite; weights are untouched. Raises on every rank after too many in a row."""
        step, allowed = self.state.step + 1, self.recipe.faults.skip_bad_batches
        reason = f"loss {result.losses.mean}, gradient norm {result.gradient_norm}"
        per_source = result.losses.per_source(self.batches.mixture.sources)
        sources = [name for name, loss in per_source.items() if not np.isfinite(loss)]
        documents = self.hooks.documents_at(self.positions(step))
        self.state.bad_in_a_row += 1
        self.state.skip(step, step)
        self.pass_over(phase, reason, sources=sources, documents=documents)
        if self.state.bad_in_a_row > allowed:
            self.hooks.finish_save()
            raise CodemixError(
                f"step {step}: {reason}; sources not finite: {', '.join(sources) or 'none'}; documents of the batch: {format_documents(documents)};"
                f" {self.state.bad_in_a_row} such batches in a row, faults.skip_bad_batches allows {allowed};"
                " raise faults.skip_bad_batches to continue, or branch from an earlier step with a lower learning rate or other corpora",
                exit_code=1,
            )

    def is_spike(self, loss: float) -> bool:
        """Say whether the loss just seen is far above those of this phase before it; if not, remember it."""
        rules, recent = self.recipe.faults, self.state.recent_losses
        if rules.spike_nats is None:
            return False
        if len(recent) >= rules.spike_window and loss > statistics.median(recent) + rules.spike_nats:
            return True
        recent.append(loss)
        del recent[: -rules.spike_window]
        return False

    def roll_back(self, loss: float) -> bool:
        """Go back to the last checkpoint and leave out the batches that led to this loss; False when there is none to go back to."""
        rules, step, median = self.recipe.faults, self.state.step, statistics.median(self.state.recent_losses)
        what = (
            f"step {step}: loss {loss:.4f} is more than {rules.spike_nats:g} above {median:.4f}, the median of {rules.spike_window} steps"
        )
        if self.state.rollbacks >= rules.max_rollbacks:
            self.hooks.finish_save()
            raise CodemixError(f"{what}; faults.max_rollbacks {rules.max_rollbacks} are used up; lower the learning rate", exit_code=1)
        skipped, rollbacks = self.state.skipped, self.state.rollbacks + 1
        if not self.hooks.roll_back():
            self.hooks.emit(WarningEvent(step=step, text=f"{what}; there is no checkpoint to go back to"))
            return False
        first = max(self.state.step + 1, step - rules.spike_skip_batches + 1)
        self.state.skipped, self.state.rollbacks = skipped, rollbacks
        self.state.skip(first, step)
        self.hooks.emit(
            RollbackEvent(
                step=self.state.step, from_step=step, loss=loss, median=median, skipped=[first, step], rollbacks=rollbacks, text=what
            )
        )
        return True


def format_documents(documents: dict[str, list[int]]) -> str:
    """Return the first documents of each source as text."""
    parts = []
    for source, numbers in documents.items():
        more = f" and {len(numbers) - DOCUMENTS_NAMED} more" if len(numbers) > DOCUMENTS_NAMED else ""
        parts.append(f"{source} {', '.join(map(str, numbers[:DOCUMENTS_NAMED]))}{more}")
    return "; ".join(parts) or "not known"
