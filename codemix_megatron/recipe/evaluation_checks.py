"""Faults in what is scored, saved and shown while training."""

import math

from codemix_megatron.plugins import find_plugin
from codemix_megatron.recipe.positive import not_positive
from codemix_megatron.recipe.schema import Faults, Observers, Recipe, WhileTraining, as_plain
from codemix_megatron.trust import MEANINGS

__all__ = ["evaluation_faults"]


def evaluation_faults(recipe: Recipe) -> list[str]:
    """Check what is held out and scored, when it is saved and shown, and what training bears."""
    evaluation, faults = recipe.evaluation, []
    if not 0 <= evaluation.held_out_share < 0.5:
        faults.append(f"evaluation.held_out_share: found {evaluation.held_out_share}, allowed are 0 to 0.5")
    faults += not_positive(evaluation, "evaluation", ["every_steps", "held_out_sequences", "items"])
    faults += not_positive(recipe.checkpoint, "checkpoint", ["every_steps", "keep_last"])
    faults += bad_batch_faults(recipe.faults)
    faults += observer_faults(recipe.observers)
    faults += suite_faults(evaluation.suites, "evaluation.suites")
    faults += while_training_faults(evaluation.while_training)
    faults += [
        f"evaluation.trust[{i}]: no line {name!r}; there are {', '.join(sorted(MEANINGS))}"
        for i, name in enumerate(evaluation.trust)
        if name not in MEANINGS
    ]
    if evaluation.tasks and not evaluation.tasks_directory:
        faults.append("evaluation.tasks_directory: missing; it is the folder that holds the files of evaluation.tasks")
    return faults


def bad_batch_faults(policy: Faults) -> list[str]:
    """Check what training bears of bad batches and loss spikes."""
    faults = not_positive(policy, "faults", ["spike_window", "spike_skip_batches"])
    for name in ("skip_bad_batches", "max_rollbacks", "spike_nats"):
        value = getattr(policy, name)
        if value is not None and not 0 <= value < math.inf:
            faults.append(f"faults.{name}: found {value}, must be at least 0")
    return faults


def observer_faults(observers: Observers) -> list[str]:
    """Check how often something is shown, and from when on a rank is slow."""
    faults = not_positive(observers, "observers", ["console_every_steps"])
    for name in ("gradient_norms_every_steps", "straggler_every_steps"):
        if getattr(observers, name) < 0:
            faults.append(f"observers.{name}: found {getattr(observers, name)}, must be at least 0, which is never")
    if not observers.straggler_factor > 1:
        faults.append(f"observers.straggler_factor: found {observers.straggler_factor}, must be above 1, which is as fast as the others")
    return faults


def while_training_faults(asked: WhileTraining | None) -> list[str]:
    """Check which suites are scored at which steps of training."""
    if asked is None:
        return []
    path = "evaluation.while_training"
    faults = suite_faults(asked.suites, f"{path}.suites") + not_positive(asked, path, ["every_steps", "items"])
    faults += [f"{path}.at_steps[{i}]: found {step}, must be at least 1" for i, step in enumerate(asked.at_steps) if step < 1]
    if not asked.suites or (asked.every_steps is None and not asked.at_steps):
        faults.append(f"{path}: needs suites, and every_steps or at_steps to say when; found {as_plain(asked)}")
    return faults


def suite_faults(suites: tuple[str, ...], path: str) -> list[str]:
    """Check that suites are built in or files."""
    known = ("bits_per_byte", "rolling_bits_per_byte", "continuation", "paper", "small", "languages")
    return [
        f"{path}[{i}]: no suite {suite!r}; built in are {', '.join(known)}, others are paths of YAML files or come with a plugin"
        for i, suite in enumerate(suites)
        if suite not in known and not suite.endswith((".yaml", ".yml")) and find_plugin("suites", suite) is None
    ]
