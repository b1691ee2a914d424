"""One start of a run's job: what is looked at before the ranks, what is decided after them, both written into attempts.jsonl."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from codemix_megatron.errors import LaunchError, machine_fault
from codemix_megatron.launch.slurm.attempts import AttemptBegan, AttemptEnded, Attempts, Recovered, checkpoint_step
from codemix_megatron.launch.slurm.bad_nodes import lost_node, node_at_fault, nodes_to_exclude, nodes_to_restart_on
from codemix_megatron.launch.slurm.commands import exclude_nodes, job_details, node_names, node_states
from codemix_megatron.launch.slurm.failed_rank import FailedRank, first_failed_rank
from codemix_megatron.launch.slurm.job_facts import was_cancelled, was_preempted
from codemix_megatron.launch.slurm.rendezvous import hold_port, master_address
from codemix_megatron.launch.slurm.requeueing import hand_over_dependents, requeue_refusal, submit_next
from codemix_megatron.launch.slurm.restart_policy import AttemptResult, Decision, decide
from codemix_megatron.records.events import EndEvent, RunEvent, StartEvent, StepEvent, StopEvent
from codemix_megatron.records.journal import read_events
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.lease import wait_until_free

__all__ = ["TrainingStart"]

SECONDS_BETWEEN_LOOKS = 2
FENCE_SECONDS = 6  # an earlier start that Slurm lost has so long to see this one and end its ranks


@dataclass(frozen=True)
class StartAgain:
    """A start that follows another one in the same job."""

    number: int
    nodes: list[str]
    ended: tuple[str, ...]  # starts before it
    failed_at: float  # by this machine's monotonic clock


@dataclass
class TrainingStart:
    """The N-th start of one job in one run folder."""

    run: RunFolder
    job: str
    restarts: int
    nodes: tuple[str, ...]
    max_starts: int
    excludes_bad_nodes: bool
    say: Callable[[str], None]
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    looked_at: float = 0.0
    log_start: int = 0
    allocated: tuple[str, ...] = ()  # nodes of the job, where a failed start may be followed by another one inside it
    again: StartAgain | None = None
    next_start: StartAgain | None = None
    has_stepped: bool = False
    states: dict[str, str] = field(default_factory=dict)  # of the partition's nodes, at the end

    @property
    def name(self) -> str:
        """The start's name, which its ranks derive from Slurm's variables too."""
        return f"{self.job}.{self.restarts}" + (f"-{self.again.number}" if self.again else "")

    @property
    def log(self) -> Path:
        """The job's log."""
        return self.run.launch / f"job-{self.job}.log"

    def begin(self) -> Decision | None:
        """Write down that ranks are started; or return a verdict when none should be."""
        self.run.launch.mkdir(parents=True, exist_ok=True)
        self.attempts = Attempts.of(self.run)
        is_after_loss = self.tell_of_lost_start()
        step = checkpoint_step(self.run)
        ending = AttemptResult(
            0, self.steps(), step, starts_without_progress=self.attempts.without_progress(self.job, step), max_starts=self.max_starts
        )
        if isinstance(self.last_event(), EndEvent):
            return decide(AttemptResult(0, self.steps(), step, event="end"))
        if ending.starts_without_progress >= ending.max_starts:
            return decide(ending)
        os.environ["CODEMIX_ENDED"] = ",".join(self.again.ended) if self.again else ""
        try:
            wait_until_free(self.run.path)
        except LaunchError as fault:
            return self.write_end(Decision("fail", str(fault), fault.exit_code), self.ended(fault.exit_code, step))
        self.port = hold_port(int(self.job), self.restarts)  # open until this process ends
        self.master = (master_address(self.nodes[0]), self.port.getsockname()[1])
        at, master = self.began_at.isoformat(timespec="seconds"), "{}:{}".format(*self.master)
        self.attempts.add(AttemptBegan(start=self.name, job=self.job, nodes=list(self.nodes), master=master, checkpoint_step=step, at=at))
        self.run.stop.unlink(missing_ok=True)  # one from an earlier start; from here on it means these ranks
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        self.say(f"start {self.name} on {', '.join(self.nodes)}; ranks meet at {master}; checkpoint of step {step or 'none'}")
        if is_after_loss:
            time.sleep(FENCE_SECONDS)
        return None

    def tell_of_lost_start(self) -> bool:
        """Write down the end of a start that could not do so itself; return whether there was one."""
        lost = self.attempts.unended(self.job)
        if lost is None:
            return False
        node = lost_node(lost.nodes, self.node_states())
        why = f"{node} was lost" if node else "Slurm ended it: preempted, requeued by the user, or a node that is back"
        self.attempts.add(AttemptEnded(start=lost.start, action="lost", why=why, bad_node=node or None))
        self.say(f"start {lost.start} has no end: {why}")
        return True

    def environment(self) -> dict[str, str]:
        """Return the ranks' environment variables beside Slurm's own."""
        address, port = self.master
        told = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "PYTHONUNBUFFERED": "1", "CODEMIX_BATCH": self.name}
        told |= {"CODEMIX_ENDED": ",".join(self.again.ended)} if self.again else {}
        return told if "OMP_NUM_THREADS" in os.environ else {**told, "OMP_NUM_THREADS": "1"}  # ranks choose their threads themselves

    def ask_to_stop(self) -> None:
        """Have the ranks finish their step, save and leave."""
        try:
            self.run.stop.touch()
        except OSError as fault:
            self.say(f"warning: {machine_fault(fault)}")

    def is_overtaken(self) -> bool:
        """Say whether a later start works on the run: this one was given up by Slurm, which could not reach its nodes to end it."""
        if time.monotonic() - self.looked_at < SECONDS_BETWEEN_LOOKS:
            return False
        self.looked_at = time.monotonic()
        self.tell_of_first_step()
        return Attempts.of(self.run).latest_start() != self.name

    def tell_of_first_step(self) -> None:
        """Say once how long it took from the failure of the start before to this one's first step."""
        if self.again is None or self.has_stepped:
            return
        events = read_events(self.run.journal)
        own = next(
            (number for number, event in enumerate(events) if isinstance(event, StartEvent) and event.launch == self.name), len(events)
        )
        if any(isinstance(event, StepEvent) for event in events[own:]):
            self.has_stepped = True
            seconds = round(time.monotonic() - self.again.failed_at, 1)
            Attempts.of(self.run).add(Recovered(start=self.name, seconds=seconds))
            self.say(f"{seconds} s from the failure to the next step, in the same job")

    def has_lost_node(self) -> bool:
        """Say whether Slurm has lost a node of this start, and so ends all of it."""
        return lost_node(self.nodes, self.node_states()) is not None

    def end(self, code: int, signal: str | None) -> Decision:
        """Decide, have the job run again where that is the verdict, and write down what came of it."""
        details, failed = self.details(), self.first_failure(code)
        self.attempts = Attempts.of(self.run)
        self.states = self.node_states() if code else {}
        step, lost = checkpoint_step(self.run), lost_node(self.nodes, self.states)
        verdict = decide(
            AttemptResult(
                exit_code=code,
                steps=self.steps(),
                checkpoint_step=step,
                event=self.own_last_event(),
                signal=signal,
                is_requeued=int(details.get("Restarts", self.restarts)) > self.restarts,
                is_cancelled=was_cancelled(details),
                is_preempted=was_preempted(details),
                is_overtaken=self.attempts.latest_start() != self.name,
                lost_node=lost,
                failure=failed.describe() if failed else None,
                failure_exit_code=failed.exit_code if failed else 1,
                starts_without_progress=self.attempts.without_progress(self.job, step),
                max_starts=self.max_starts,
            )
        )
        at_fault = node_at_fault(lost, failed, verdict.action)
        ended = self.ended(code, step, at_fault)
        if verdict.action == "requeue" and signal is None and (nodes := self.nodes_for_another_start(at_fault, details)):
            return self.start_again(verdict, ended, nodes)
        if verdict.action == "requeue":
            return self.run_again(verdict, details, ended)
        return self.write_end(verdict, ended)

    def ended(self, code: int, step: int, bad_node: str | None = None) -> AttemptEnded:
        """Return how this start ended, without what is decided of it."""
        return AttemptEnded(start=self.name, action="", why="", exit_code=code, checkpoint_step=step, bad_node=bad_node or None)

    def write_end(self, verdict: Decision, ended: AttemptEnded) -> Decision:
        """Write down and say how this start ended."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self.attempts.add(replace(ended, action=verdict.action, why=verdict.why, at=at))
        self.say(f"{verdict.action}: {verdict.why}")
        return verdict

    def nodes_for_another_start(self, at_fault: str | None, details: dict[str, str]) -> list[str]:
        """Return the nodes of this job that another start can have; none where it may not go on, or too few are left."""
        if not self.allocated or was_preempted(details) or not self.states:
            return []
        return nodes_to_restart_on(self.allocated, self.attempts.bad_nodes(at_fault), self.states, len(self.nodes))

    def start_again(self, verdict: Decision, ended: AttemptEnded, nodes: list[str]) -> Decision:
        """Write down that another start follows in this job."""
        before = self.again or StartAgain(0, [], (), 0.0)
        self.next_start = StartAgain(before.number + 1, nodes, (*before.ended, self.name), time.monotonic())
        why = f"{verdict.why}; started again in the same job on {', '.join(nodes)}"
        return self.write_end(Decision("restart", why, 1), ended)

    def run_again(self, verdict: Decision, details: dict[str, str], ended: AttemptEnded) -> Decision:
        """Queue the job again, or submit a successor where the site bars that, away from nodes that are at fault."""
        refusal = "it was submitted with --no-requeue" if details.get("Requeue") == "0" else requeue_refusal(self.job)
        if refusal is None:
            self.write_end(verdict, ended)
            self.leave_out_bad_nodes(details)
            return verdict
        try:
            job = self.submit_successor(details, ended.bad_node)  # first of all: where a node was lost, Slurm leaves us a few seconds
        except LaunchError as fault:
            why = f"{verdict.why}; not queued again ({refusal}), and no other job could be submitted ({fault}); the same codemix launch resumes"
            return self.write_end(Decision("fail", why, 1), ended)
        why = f"{verdict.why}; not queued again ({refusal}): job {job} resumes"
        self.write_end(Decision("resubmit", why, verdict.exit_code), replace(ended, next_job=job))
        hand_over_dependents(self.job, job, self.say)
        return Decision("resubmit", why, verdict.exit_code)

    def submit_successor(self, details: dict[str, str], at_fault: str | None) -> str:
        """Submit the same script to start when this job has ended, away from nodes that are at fault; return its id."""
        blamed = self.attempts.bad_nodes(at_fault) if self.excludes_bad_nodes else {}
        excluded, told = nodes_to_exclude(blamed, node_list(details.get("ExcNodeList")), self.states, len(self.nodes))
        job = submit_next(self.run, self.job, excluded)
        if blamed:
            self.say(told)
        return job

    def leave_out_bad_nodes(self, details: dict[str, str]) -> None:
        """Have the job, which waits now, avoid nodes that are at fault, as far as enough others are there."""
        blamed, states = self.attempts.bad_nodes(), self.states
        if not self.excludes_bad_nodes or not blamed or not states:
            return
        try:
            excluded, told = nodes_to_exclude(blamed, node_list(details.get("ExcNodeList")), states, len(self.nodes))
            if excluded:
                exclude_nodes(self.job, excluded)
        except LaunchError as fault:
            told = f"nodes could not be left out: {fault}"
        self.say(told)

    def node_states(self) -> dict[str, str]:
        """Return the states of this partition's nodes; none when Slurm does not answer."""
        try:
            return node_states(os.environ.get("SLURM_JOB_PARTITION"))
        except LaunchError:
            return {}

    def details(self) -> dict[str, str]:
        """Return what Slurm says of this job; nothing when it does not answer."""
        try:
            return job_details(self.job)
        except LaunchError as fault:
            self.say(f"warning: {fault}")
            return {}

    def first_failure(self, code: int) -> FailedRank | None:
        """Return what failed first in this start, if anything did."""
        return first_failed_rank(self.run, self.name, self.log, self.log_start) if code else None

    def last_event(self) -> RunEvent | None:
        """Return the last event of the journal, None where it is empty."""
        return next(reversed(read_events(self.run.journal)), None)

    def own_last_event(self) -> Literal["end", "stop", "other"]:
        """Return `end`, `stop` or `other`; a stop counts when it is of this start."""
        last = self.last_event()
        is_own = isinstance(last, StopEvent) and (last.at or "") >= self.began_at.isoformat(timespec="seconds")
        if isinstance(last, EndEvent):
            return "end"
        return "stop" if is_own else "other"

    def steps(self) -> int:
        """Return how far the run has come."""
        return max((event.step for event in read_events(self.run.journal)), default=0)


def node_list(compressed: str | None) -> list[str]:
    """Return the nodes of a field of `scontrol show job`."""
    return node_names(compressed) if compressed and compressed != "(null)" else []
