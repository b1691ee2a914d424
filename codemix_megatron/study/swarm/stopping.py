"""When a swarm ends."""

from typing import Any

from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.study.swarm.folder import runs_of
from codemix_megatron.study.swarm.learning import Learned, predict_runs
from codemix_megatron.study.swarm.rounds import SwarmRun
from codemix_megatron.study.swarm.settings import SwarmSettings
from codemix_megatron.study.swarm.space import Space

__all__ = ["reason_to_end"]


def reason_to_end(state: dict[str, Any], space: Space, settings: SwarmSettings, learned: Learned, runs: list[SwarmRun]) -> str | None:
    """Return why no further round is to be trained, or None; `runs` are those of the next one."""
    if not runs:
        return "no law is better than the mean of the runs, so no mixture is proposed; train more mixtures, or more seeds of them"
    if len(state["rounds"]) >= settings.rounds:
        return f"{settings.rounds} rounds are done"
    if settings.interval is not None and (widest := widest_interval(space, learned, runs)) <= settings.interval:
        return f"the widest 90 % interval at the best mixture is {widest:.4g}, asked for was {settings.interval:g}"
    tokens = space.run_tokens * (len(runs_of(state)) + len(runs))
    if settings.most_tokens is not None and tokens > settings.most_tokens:
        return f"the next round would make it {format_tokens(tokens)} tokens, allowed are {format_tokens(settings.most_tokens)}"
    return None


def widest_interval(space: Space, learned: Learned, runs: list[SwarmRun]) -> float:
    """Return the width of the widest interval over the objectives at the best mixture."""
    best = next(run for run in runs if run.purpose == "best")
    return max(said["high"] - said["low"] for said in predict_runs(learned, space, [best])[best.name].values())
