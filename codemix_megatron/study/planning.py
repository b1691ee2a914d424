"""Every number of a study before it starts: tokens, hours and storage of its segments, and what sharing them saves."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codemix_megatron.errors import CodemixError, RecipeError
from codemix_megatron.plan.branch import branch_from
from codemix_megatron.plan.devices import on_device
from codemix_megatron.plan.plan import Plan, make_plan
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.study.segments import Graph, Segment, segment_recipe

__all__ = ["StudyPlan", "code_share", "plan_study", "remember_corpora"]


@dataclass(frozen=True)
class StudyPlan:
    """Plans of all segments by name; totals count each segment once, `alone` once for every variant that goes through it."""

    graph: Graph
    plans: dict[str, Plan]
    device: str | None = None
    mfu: float | None = None

    def total(self, value: Callable[[Plan], float]) -> float:
        """Sum a number of the plans over the segments."""
        return sum(value(plan) for plan in self.plans.values())

    def alone(self, value: Callable[[Plan], float]) -> float:
        """Sum a number of the plans as if every variant were trained by itself."""
        return sum(value(self.plans[name]) for path in self.graph.paths.values() for name in path)

    def checkpoint_bytes(self) -> int:
        """Estimate what checkpoints take when all is done: each segment keeps its end and what its recipe says."""
        return round(
            sum(kept_checkpoints(self.graph.segments[n], p) * bytes_per_parameter(p) * p.parameters["total"] for n, p in self.plans.items())
        )

    def as_json(self) -> dict:
        """Return what --json prints."""
        tokens, hours = (lambda plan: plan.tokens), (lambda plan: plan.device["device_hours"])
        known = {"device_hours": self.total(hours), "device_hours_alone": self.alone(hours)} if self.device else {}
        return {
            "variants": {name: list(path) for name, path in self.graph.paths.items()},
            "segments": {name: self.describe(segment) for name, segment in self.graph.segments.items()},
            "tokens": self.total(tokens),
            "tokens_alone": self.alone(tokens),
            "checkpoint_bytes": self.checkpoint_bytes(),
            "device": self.device,
            "mfu": self.mfu,
            **known,
        }

    def describe(self, segment: Segment) -> dict:
        """Return one segment's numbers."""
        plan = self.plans[segment.name]
        known = {"device_hours": plan.device["device_hours"]} if plan.device else {}
        return {
            "phase": segment.phase.name,
            "parent": segment.parent,
            "variants": list(segment.variants),
            "ends": list(segment.ends),
            "first_step": plan.first_step,
            "steps": plan.steps - plan.first_step,
            "tokens": plan.tokens,
            "code_share": code_share(plan),
            **known,
        }


def plan_study(graph: Graph, find_corpora: Callable[[Recipe], dict], runs: Path, device: str | None = None, mfu: float = 0.4) -> StudyPlan:
    """Plan every segment where its parent's plan ends; raises RecipeError with the faults of all.

    `find_corpora` gives a recipe's corpora: manifests, or assumed ones.
    """
    plans: dict[str, Plan] = {}
    faults: dict[str, str] = {}
    for segment in graph.segments.values():
        if segment.parent is not None and segment.parent not in plans:
            continue  # its parent's fault is told already
        try:
            recipe = segment_recipe(segment, runs)
            branch = branch_from(plans[segment.parent].as_json(), str(runs / segment.parent), None) if segment.parent else None
            plan = make_plan(recipe, find_corpora(recipe), branch=branch)
        except RecipeError as fault:
            for line in fault.faults:
                faults.setdefault(line, segment.name)
            continue
        plans[segment.name] = on_device(plan, device, mfu) if device else plan
    if faults:
        raise RecipeError([f"{name}: {line}" for line, name in faults.items()])
    return StudyPlan(graph, plans, device, mfu if device else None)


def remember_corpora(find: Callable[[Recipe], dict]) -> Callable[[Recipe], dict]:
    """Return `find` that looks once for recipes with the same corpora; what went wrong once is raised again."""
    found: dict[Any, dict | CodemixError] = {}

    def look(recipe: Recipe) -> dict:
        key = corpora_key(recipe)
        if key not in found:
            try:
                found[key] = find(recipe)
            except CodemixError as fault:
                found[key] = fault
        outcome = found[key]
        if isinstance(outcome, CodemixError):
            raise outcome
        return outcome

    return look


def corpora_key(recipe: Recipe) -> str:
    """Return a text that is the same for recipes with the same corpora and tokenizer."""
    return str((recipe.tokenizer, [(name, spec.prefix) for name, spec in recipe.corpora.items()]))


def code_share(plan: Plan) -> float:
    """Return the share of a plan's own tokens that is not text."""
    return sum(s["tokens"] for s in plan.sources.values() if s["kind"] != "text") / plan.tokens


def kept_checkpoints(segment: Segment, plan: Plan) -> int:
    """Return how many checkpoints of a finished segment stay: its end, the newest before it, and those kept for their tokens."""
    policy, steps = segment.recipe.checkpoint, plan.steps - plan.first_step
    saved = (steps - 1) // policy.every_steps if policy.every_steps else 0
    marks = plan.tokens // policy.keep_every_tokens if policy.keep_every_tokens else 0
    return 1 + min(saved, policy.keep_last) + marks


def bytes_per_parameter(plan: Plan) -> int:
    """Return the bytes a checkpoint has for each parameter: weights as trained, and the optimizer's fp32 copy and two moments."""
    return (2 if plan.model["precision"] == "bf16" else 4) + 12
