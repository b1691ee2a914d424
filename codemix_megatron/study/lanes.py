"""Which Slurm job waits for which other one, so that no more than so many of a study run at a time.

A lane is a chain of jobs, each of which starts when the one before it has ended, however it ended (afterany). N lanes hold N jobs at most,
siblings or not, where an array's %N would bind the siblings of one parent alone and want one script for all of them. Jobs are dealt to
lanes by their steps before anything runs, so a lane may idle while another one is behind.
"""

from dataclasses import dataclass, field

__all__ = ["Lanes"]


@dataclass
class Lanes:
    """Deals jobs to lanes; without a limit nothing waits for its turn."""

    limit: int | None
    free_at: list[float] = field(default_factory=list)  # by lane, in steps
    last: list[str | None] = field(default_factory=list)  # job id by lane
    ended_at: dict[str, float] = field(default_factory=dict)  # by job

    def __post_init__(self):
        self.free_at, self.last = [0.0] * (self.limit or 0), [None] * (self.limit or 0)

    def choose(self, parents: list[str], steps: float) -> tuple[int | None, str | None]:
        """Return the lane in which a job can begin first, and the job it waits for there."""
        if not self.limit:
            return None, None
        ready = max((self.ended_at.get(job, 0.0) for job in parents), default=0.0)
        # Of lanes that are free in time, the one that idles least.
        lane = min(range(self.limit), key=lambda i: (max(self.free_at[i], ready), -self.free_at[i]))
        return lane, self.last[lane]

    def put(self, lane: int | None, job: str, parents: list[str], steps: float) -> None:
        """Note that a job was submitted into a lane."""
        if lane is None:
            return
        begin = max(self.free_at[lane], max((self.ended_at.get(p, 0.0) for p in parents), default=0.0))
        self.free_at[lane] = self.ended_at[job] = begin + steps
        self.last[lane] = job
