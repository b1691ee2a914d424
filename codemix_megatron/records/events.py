"""What journal.jsonl can hold: one dataclass for each kind of event, for those who write it and those who read it.

Names and order of fields are those of the file; docs/journal.md is made from here. A kind that this version does not know is read as
UnknownEvent, so that the journal of a newer version can still be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar

from codemix_megatron.records.event_lines import Event, always, kinds_by_name, sometimes

__all__ = [
    "RUN_EVENTS",
    "AveragedEvent",
    "CheckpointEvent",
    "EndEvent",
    "PhaseEndEvent",
    "PreflightEvent",
    "ProfileEvent",
    "RecipeEvent",
    "ReopenedEvent",
    "RollbackEvent",
    "RunEvent",
    "ScoresEvent",
    "SkippedEvent",
    "StartEvent",
    "StepEvent",
    "StopEvent",
    "StragglerEvent",
    "UnknownEvent",
    "ValidationEvent",
    "WarningEvent",
    "event_of",
]


@dataclass(frozen=True, kw_only=True)
class RunEvent(Event):
    """Something that happened to a run, with the number of steps that were done by then."""

    step: int = always("steps done by then; a `step` event counts its own", missing=0)


@dataclass(frozen=True, kw_only=True)
class UnknownEvent(RunEvent):
    """An event of a kind that this version does not know."""


@dataclass(frozen=True, kw_only=True)
class StartEvent(RunEvent):
    """Ranks have started or resumed, and the first step comes next."""

    kind: ClassVar[str] = "start"
    ranks: int | None = always("number of ranks", missing=None)
    device: str = always("`cpu` or `cuda`", missing="")
    kernels: dict[str, str] = always("what computes each part of a step", missing=dict)
    at: str | None = always("UTC, ISO 8601", missing=None)
    launch: str | None = always("name of the launch, the same on all its ranks", missing=None)


@dataclass(frozen=True, kw_only=True)
class RecipeEvent(RunEvent):
    """Another recipe holds from this step on."""

    kind: ClassVar[str] = "recipe"
    changed: list[str] = always("the lines of the recipe that differ", missing=list)


@dataclass(frozen=True, kw_only=True)
class PreflightEvent(RunEvent):
    """What was measured of the nodes before the model was built; follows a start."""

    kind: ClassVar[str] = "preflight"
    nodes: int | None = always("number of nodes; null where `parallel.preflight` is off", missing=None)
    ranks: int | None = sometimes("number of ranks")
    device: str | None = sometimes("what the nodes compute on, where there are several")
    clock_seconds: float | None = sometimes("largest difference between the nodes' clocks that is certain")
    bytes_per_second_within: dict[str, int] | None = sometimes("node -> rate between its ranks, where there are several nodes")
    bytes_per_second_between: dict[str, int] | None = sometimes("node -> rate to its neighbours, where there are several nodes")
    seconds: float | None = sometimes("how long measuring took")


@dataclass(frozen=True, kw_only=True)
class WarningEvent(RunEvent):
    """Something that the user should look at; training continues."""

    kind: ClassVar[str] = "warning"
    text: str = always("the message", missing="")


@dataclass(frozen=True, kw_only=True)
class StepEvent(RunEvent):
    """One update of the weights."""

    kind: ClassVar[str] = "step"
    phase: str = always("name of the phase", missing="")
    tokens: int = always("tokens trained on so far, branches' parents included", missing=0)
    sequences: int = always("sequences read so far, skipped ones included", missing=0)
    loss: float = always("mean loss of the batch, nats per token", missing=nan)
    loss_per_source: dict[str, float] = always("source -> mean loss of its tokens", missing=dict)
    tokens_per_source: dict[str, int] = always("source -> tokens trained on so far", missing=dict)
    tokens_per_bucket: dict[str, list[int]] | None = sometimes(
        "source -> tokens trained on so far of each of its buckets, of sources with some"
    )
    learned_per_source: dict[str, int] | None = sometimes(
        "source -> tokens of this step that counted in the loss: not those a loss mask hides, nor padding positions"
    )
    learning_rate: float = always("of this update", missing=nan)
    gradient_norm: float = always("before clipping", missing=nan)
    gradient_norms: dict[str, float] | None = sometimes(
        "kind of weight -> norm of its gradient, where observers.gradient_norms_every_steps asks"
    )
    seconds: float = always("how long the step took", missing=0.0)
    tokens_per_second: float = always("over all ranks", missing=0.0)
    model_flops_per_second: float = always(
        "of all ranks: 6 per matrix entry and token, causal attention counted once, recomputation not at all", missing=0.0
    )
    mfu: float | None = always("model FLOP/s over the peak of all ranks; null where no peak is known", missing=None, default=None)
    seconds_per_part: dict[str, float] = always(
        "of the main rank: data, forward_backward, optimizer, reduce, other", missing=dict, default=dict
    )
    memory_bytes: dict[str, int] = always(
        "of the main rank: host, host_peak; on CUDA device, device_peak, device_reserved", missing=dict, default=dict
    )


@dataclass(frozen=True, kw_only=True)
class SkippedEvent(RunEvent):
    """A batch that was not trained on, in the place of its step."""

    kind: ClassVar[str] = "skipped"
    phase: str = always("name of the phase", missing="")
    reason: str = always("why", missing="")
    sources: list[str] | None = sometimes("sources whose loss was not finite")
    documents: dict[str, list[int]] | None = sometimes("source -> numbers of the batch's documents")


@dataclass(frozen=True, kw_only=True)
class RollbackEvent(RunEvent):
    """Training went back to the checkpoint of this step; events of later steps before this line no longer count."""

    kind: ClassVar[str] = "rollback"
    from_step: int = always("step at which the loss spiked", missing=0)
    loss: float = always("the loss there", missing=nan)
    median: float = always("median loss of the steps before it", missing=nan)
    skipped: list[int] = always("first and last step whose batches are skipped", missing=lambda: [0, 0])
    rollbacks: int = always("how often the run has gone back", missing=0)
    text: str = always("the message", missing="")


@dataclass(frozen=True, kw_only=True)
class StragglerEvent(RunEvent):
    """A rank that was slow in several windows of steps in a row."""

    kind: ClassVar[str] = "straggler"
    rank: int = always("the slow rank", missing=0)
    factor: float = always("how slow, over the median of the other ranks", missing=nan)
    why: str = always("what is slow", missing="")
    steps: int = always("over how many steps", missing=0)
    host: str = always("its node", missing="?")


@dataclass(frozen=True, kw_only=True)
class ValidationEvent(RunEvent):
    """Held-out sequences were scored."""

    kind: ClassVar[str] = "validation"
    phase: str = always("name of the phase", missing="")
    tokens: int = always("tokens trained on so far", missing=0)
    loss_per_source: dict[str, float] = always("source -> nats per token", missing=dict)
    bits_per_byte: dict[str, float] = always("source -> bits per byte of text; sources with a loss mask have none", missing=dict)


@dataclass(frozen=True, kw_only=True)
class ScoresEvent(RunEvent):
    """Suites were scored on the model as it was trained (evaluation.while_training)."""

    kind: ClassVar[str] = "scores"
    tokens: int = always("tokens trained on so far", missing=0)
    bits_per_byte: dict[str, float] = always("corpus -> bits per byte of held-out documents", missing=dict)
    tasks: dict[str, float] = always("task and metric -> score", missing=dict)
    not_scored: list[str] = always("what could not be scored, and why", missing=list)
    seconds: float = always("how long scoring took", missing=0.0)
    share_of_time: float = always("of scoring in this start so far", missing=0.0)


@dataclass(frozen=True, kw_only=True)
class CheckpointEvent(RunEvent):
    """A checkpoint of this step is complete; an asynchronous one may be some steps later."""

    kind: ClassVar[str] = "checkpoint"
    seconds: float = always("how long writing took", missing=0.0)
    stall_seconds: float = always("how long training was stalled by it", missing=0.0)
    bytes: int = always("size on disk", missing=0)
    asynchronous: bool = always("whether training went on while it was written", missing=False)


@dataclass(frozen=True, kw_only=True)
class PhaseEndEvent(RunEvent):
    """A phase is over. Means are over all its steps, those before a resume too."""

    kind: ClassVar[str] = "phase_end"
    phase: str = always("name of the phase", missing="")
    steps_measured: int = always("number of steps that the means are over", missing=0, default=0)
    loss: float | None = always("mean loss", missing=None, default=None)
    loss_per_source: dict[str, float] = always("source -> mean loss", missing=dict, default=dict)
    seconds: float = always("sum of the steps' seconds", missing=0.0, default=0.0)
    tokens_per_second: float | None = always("mean rate", missing=None, default=None)


@dataclass(frozen=True, kw_only=True)
class ProfileEvent(RunEvent):
    """A file that `--profile` or `--memory-snapshot` asked for is written."""

    kind: ClassVar[str] = "profile"
    what: str = always("`profile` or `memory snapshot`", missing="")
    path: str = always("folder of the files", missing="")


@dataclass(frozen=True, kw_only=True)
class StopEvent(RunEvent):
    """Ranks were asked to stop, have saved and left; the same command resumes."""

    kind: ClassVar[str] = "stop"
    reason: str = always("why", missing="")
    at: str | None = always("UTC, ISO 8601", missing=None)


@dataclass(frozen=True, kw_only=True)
class EndEvent(RunEvent):
    """The plan's last step is done and saved."""

    kind: ClassVar[str] = "end"
    at: str | None = always("UTC, ISO 8601", missing=None)
    seconds: float = always("since this start", missing=0.0)


@dataclass(frozen=True, kw_only=True)
class ReopenedEvent(RunEvent):
    """A run that had ended is resumed, for phases were appended."""

    kind: ClassVar[str] = "reopened"


@dataclass(frozen=True, kw_only=True)
class AveragedEvent(RunEvent):
    """The checkpoint of this step is the mean of others (`codemix average`)."""

    kind: ClassVar[str] = "averaged"
    steps: list[int] = always("steps of the checkpoints that were averaged", missing=list)
    weights: list[float] = always("weight of each", missing=list)
    from_: str = always("folder of the run they are of", missing="")
    moving: bool | None = sometimes("true where it is the moving average that the run kept, not the mean of its weights")


RUN_EVENTS: dict[str, type[RunEvent]] = kinds_by_name(
    [
        StartEvent,
        RecipeEvent,
        PreflightEvent,
        WarningEvent,
        StepEvent,
        SkippedEvent,
        RollbackEvent,
        StragglerEvent,
        ValidationEvent,
        ScoresEvent,
        CheckpointEvent,
        PhaseEndEvent,
        ProfileEvent,
        StopEvent,
        EndEvent,
        ReopenedEvent,
        AveragedEvent,
    ]
)


def event_of(line: Mapping[str, Any]) -> RunEvent:
    """Return the event that a line's object holds."""
    return RUN_EVENTS.get(line["event"], UnknownEvent).from_json(line)
