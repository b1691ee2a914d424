"""The training loop; everything that is not a step is a function it calls."""

import math
import time
from dataclasses import dataclass

from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.plan import Plan
from codemix_megatron.recipe.schedule import learning_rate_at
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.train.batches import Batches
from codemix_megatron.train.engine import Engine, StepResult

__all__ = ["TrainState", "Training"]


@dataclass
class TrainState:
    """All that a run has to remember besides weights and moments."""

    step: int = 0
    sequences_seen: int = 0


class Training:
    """Walks a plan from a state to its end or to a stop."""

    def __init__(self, recipe: Recipe, plan: Plan, engine: Engine, batches: Batches, state: TrainState):
        self.recipe, self.plan, self.engine, self.batches, self.state = recipe, plan, engine, batches, state

    def run(self, tell, save, validate, stop_asked) -> bool:
        """Train until the plan ends (True) or `stop_asked()` is True on some rank (False). Every rank calls this.

        `tell(event, values)` is heard on the main rank; `save(reason)` and `validate(phase)` are collective.
        """
        while self.state.step < self.plan.steps:
            phase = self.plan.phase_at(self.state.step + 1)
            if self.state.step + 1 == phase.first_step:
                self.begin_phase(phase)
            began = time.perf_counter()
            rate, result = self.step(phase, stop_asked())
            tell("step", self.describe(phase, rate, result, time.perf_counter() - began))
            self.check_finite(result)
            ends_phase = self.state.step == phase.first_step + phase.steps - 1
            if ends_phase or self.is_due(self.recipe.evaluation.every_steps):
                validate(phase.name)
            if ends_phase:
                tell("phase_end", {"step": self.state.step, "phase": phase.name})
            if ends_phase or result.stop_asked or self.is_due(self.recipe.checkpoint.every_steps):
                save()
            if result.stop_asked and self.state.step < self.plan.steps:
                return False
        return True

    def begin_phase(self, phase) -> None:
        """Carry or reset the optimizer's state, as the phase says."""
        spec = next(p for p in self.recipe.phases if p.name == phase.name)
        if spec.optimizer_state == "reset" and self.state.step:
            self.engine.reset_optimizer()

    def step(self, phase, stop_asked: bool) -> tuple[float, StepResult]:
        """Take the next global batch and update once."""
        spec = next(p for p in self.recipe.phases if p.name == phase.name).learning_rate
        rate = learning_rate_at(spec, self.state.step + 1 - phase.first_step, phase.steps, self.plan.batch_tokens)
        result = self.engine.train_step(self.batches.at(self.state.sequences_seen), rate, stop_asked)
        self.state.step += 1
        self.state.sequences_seen += self.plan.global_sequences
        return rate, result

    def describe(self, phase, rate: float, result: StepResult, seconds: float) -> dict:
        """Return a step event's values."""
        mixture, tokens = self.batches.mixture, self.plan.batch_tokens
        consumed = mixture.consumed(self.state.sequences_seen) * self.plan.sequence_length
        return {
            "step": self.state.step,
            "phase": phase.name,
            "tokens": self.state.step * tokens,
            "sequences": self.state.sequences_seen,
            "loss": result.losses.mean,
            "loss_per_source": result.losses.per_source(mixture.sources),
            "tokens_per_source": {name: int(count) for name, count in zip(mixture.sources, consumed, strict=True)},
            "learning_rate": rate,
            "gradient_norm": result.gradient_norm,
            "seconds": round(seconds, 4),
            "tokens_per_second": round(tokens / seconds, 1),
            "model_flops_per_second": self.plan.flops["per_token"] * tokens / seconds,
        }

    def is_due(self, every_steps: int | None) -> bool:
        """Say whether something that happens every so many steps happens now."""
        return every_steps is not None and self.state.step % every_steps == 0

    def check_finite(self, result: StepResult) -> None:
        """Stop every rank when the loss is no number any more; the last checkpoint is from before it."""
        if math.isfinite(result.losses.mean) and math.isfinite(result.gradient_norm):
            return
        worst = {n: v for n, v in result.losses.per_source(self.batches.mixture.sources).items() if not math.isfinite(v)}
        raise CodemixError(
            f"step {self.state.step}: loss {result.losses.mean}, gradient norm {result.gradient_norm}"
            f" (sources not finite: {', '.join(worst) or 'none'}); lower the learning rate, or resume from the last checkpoint",
            exit_code=1,
        )
