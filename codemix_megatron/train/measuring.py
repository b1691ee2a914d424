"""What is added to events on their way to the observers: time per part, memory, MFU, and a phase's mean losses."""

import resource
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import psutil
import torch

from codemix_megatron.parallel.ranks import Ranks
from codemix_megatron.plan.devices import DEVICES, device_called
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import PhaseEndEvent, RollbackEvent, RunEvent, StepEvent
from codemix_megatron.train.timing import step_clock

__all__ = ["Measuring", "peak_flops_per_second"]


class Measuring:
    """Adds measurements of this rank to the events that it emits."""

    def __init__(self, recipe: Recipe, ranks: Ranks):
        self.ranks = ranks
        self.peak = peak_flops_per_second(recipe, ranks.device)
        self.begin_phase()

    def begin_phase(self) -> None:
        """Forget what was summed."""
        self.steps, self.seconds, self.tokens = 0, 0.0, 0.0
        self.losses: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()

    def enriched(self, event: RunEvent) -> RunEvent:
        """Return the event with what is measured here; is given every event, of which those between steps stop the clock."""
        parts = step_clock.take()
        if isinstance(event, StepEvent):
            self.count(event)
            return replace(event, mfu=self.mfu(event), seconds_per_part=per_part(parts, event.seconds), memory_bytes=self.memory())
        if isinstance(event, RollbackEvent):
            self.begin_phase()  # what was summed is undone
        if isinstance(event, PhaseEndEvent):
            event = replace(event, **self.phase_summary())
            self.begin_phase()
        return event

    def count(self, step: StepEvent) -> None:
        """Add a step to its phase."""
        self.steps += 1
        self.seconds += step.seconds
        self.tokens += step.tokens_per_second * step.seconds
        self.losses.update({"": step.loss, **step.loss_per_source})
        self.counted.update({"": 1, **dict.fromkeys(step.loss_per_source, 1)})

    def count_again(self, events: Iterable[RunEvent], phase: str) -> None:
        """Take up a phase that has begun before: count its steps in the journal, from which what was undone is gone."""
        self.begin_phase()
        for event in of_kind(events, StepEvent):
            if event.phase == phase:
                self.count(event)

    def phase_summary(self) -> dict[str, Any]:
        """Return means over the steps of the phase; each counts the same."""
        means = {name: self.losses[name] / self.counted[name] for name in self.counted}
        return {
            "steps_measured": self.steps,
            "loss": means.pop("", None),
            "loss_per_source": means,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens / self.seconds, 1) if self.seconds else None,
        }

    def mfu(self, step: StepEvent) -> float | None:
        """Return model FLOP/s over the peak of all ranks; None where no peak is known."""
        return round(step.model_flops_per_second / (self.peak * self.ranks.size), 4) if self.peak else None

    def memory(self) -> dict[str, int]:
        """Return bytes of this rank: resident and highest on the host, and allocated, highest and reserved on the device."""
        host = {"host": psutil.Process().memory_info().rss, "host_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        if self.ranks.device.type != "cuda":
            return host
        device = {
            "device": torch.cuda.memory_allocated(),
            "device_peak": torch.cuda.max_memory_allocated(),
            "device_reserved": torch.cuda.memory_reserved(),
        }
        return host | device


def per_part(parts: dict[str, float], seconds: float) -> dict[str, float]:
    """Return where a step's seconds went; the optimizer's part is what remains of the step beside passes and reduction."""
    passes, reduce = parts.get("forward_backward", 0.0), parts.get("reduce", 0.0)
    known = {
        "data": parts.get("data", 0.0),
        "forward_backward": passes,
        "optimizer": max(0.0, parts.get("train_step", 0.0) - passes - reduce),
        "reduce": reduce,
    }
    known["other"] = max(0.0, seconds - sum(known.values()))
    return {name: round(value, 5) for name, value in known.items()}


def peak_flops_per_second(recipe: Recipe, device: torch.device) -> float | None:
    """Return the peak of one rank's device that MFU is taken of: the recipe's, else the data sheet's for bf16; None on CPU."""
    if recipe.observers.peak_teraflops:
        return recipe.observers.peak_teraflops * 1e12
    if device.type != "cuda" or recipe.model.precision != "bf16":
        return None
    known = device_called(torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory)
    return DEVICES[known].teraflops * 1e12 if known else None
