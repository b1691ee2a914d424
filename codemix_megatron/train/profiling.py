"""Looking closely at a few steps: a trace of every rank for Chrome or Perfetto, and CUDA's allocations."""

import os
from collections.abc import Iterator

import torch

from codemix_megatron.errors import LaunchError
from codemix_megatron.parallel.ranks import Ranks
from codemix_megatron.records.events import ProfileEvent, RunEvent, StartEvent, StepEvent, WarningEvent
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["Profiling"]


class Profiling:
    """Records the steps that `codemix train --profile` and `--memory-snapshot` name. Every rank has one and gets every event.

    RUN/profiles/steps-A-B/rank-R.json.gz is the trace, RUN/profiles/steps-A-B/rank-R-memory.pickle what
    https://pytorch.org/memory_viz draws. What happens between the steps, as a save, is in the trace too.
    """

    def __init__(self, run: RunFolder, ranks: Ranks):
        self.run, self.ranks = run, ranks
        self.trace, self.memory = (named_steps(os.environ.get(name)) for name in ("CODEMIX_PROFILE", "CODEMIX_MEMORY_SNAPSHOT"))
        self.profiler: torch.profiler.profile | None = None
        self.recording = False
        if self.memory and ranks.device.type != "cuda":
            raise LaunchError(
                "--memory-snapshot: torch records allocations of CUDA devices only, and this run is on the CPU;"
                " --profile has the memory of every operation there",
                exit_code=2,
            )

    def after(self, event: RunEvent) -> Iterator[RunEvent]:
        """Begin or end what is asked for after the start or after a step; yield an event for each finished file."""
        if not isinstance(event, StartEvent | StepEvent):
            return
        step = event.step
        if isinstance(event, StartEvent):
            yield from self.missed(step)
        if self.trace and step == self.trace[0] - 1:
            self.begin_trace()
        if self.memory and step == self.memory[0] - 1:
            torch.cuda.memory._record_memory_history()
            self.recording = True
        if self.profiler and self.trace and step >= self.trace[1]:
            yield ProfileEvent(step=step, what="profile", path=self.end_trace())
        if self.recording and self.memory and step >= self.memory[1]:
            yield ProfileEvent(step=step, what="memory snapshot", path=self.end_memory())

    def missed(self, step: int) -> Iterator[WarningEvent]:
        """Warn when the first of the steps asked for is over."""
        for option, steps in (("--profile", self.trace), ("--memory-snapshot", self.memory)):
            if steps and steps[0] <= step:
                text = f"{option} {steps[0]}-{steps[1]}: the run goes on at step {step + 1}, nothing is recorded"
                yield WarningEvent(step=step, text=text)

    def close(self) -> None:
        """Write what has been recorded of a run that ends early."""
        if self.profiler:
            self.end_trace()
        if self.recording:
            self.end_memory()

    def path(self, steps: tuple[int, int], ending: str):
        """Return this rank's file."""
        folder = self.run.path / "profiles" / f"steps-{steps[0]}-{steps[1]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"rank-{self.ranks.rank}{ending}"

    def begin_trace(self) -> None:
        """Start the profiler."""
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.ranks.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self.profiler = torch.profiler.profile(activities=activities, profile_memory=True, record_shapes=True)
        self.profiler.start()

    def end_trace(self) -> str:
        """Stop the profiler and write its trace."""
        assert self.trace is not None and self.profiler is not None
        path = self.path(self.trace, ".json.gz")
        self.profiler.stop()
        self.profiler.export_chrome_trace(str(path))
        self.profiler = None
        return str(path.parent)

    def end_memory(self) -> str:
        """Write the allocations and stop recording them."""
        assert self.memory is not None
        path = self.path(self.memory, "-memory.pickle")
        torch.cuda.memory._dump_snapshot(str(path))
        torch.cuda.memory._record_memory_history(enabled=None)
        self.recording = False
        return str(path.parent)


def named_steps(text: str | None) -> tuple[int, int] | None:
    """Return first and last of `10-12`, as `codemix train` has checked it."""
    if not text:
        return None
    first, _, last = text.partition("-")
    return int(first), int(last or first)
