"""One start of a run's job: what is looked at before the ranks, what is decided after them, both written into attempts.jsonl."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from codemix_megatron.errors import LaunchError, machine_fault
from codemix_megatron.launch.slurm.attempts import Attempts, checkpoint_step
from codemix_megatron.launch.slurm.bad_nodes import lost_node, nodes_to_exclude
from codemix_megatron.launch.slurm.commands import (
    dependents,
    exclude_nodes,
    job_details,
    node_names,
    node_states,
    requeue,
    submit,
    wait_for_another,
)
from codemix_megatron.launch.slurm.failed_rank import FailedRank, first_failed_rank
from codemix_megatron.launch.slurm.job_facts import was_cancelled, was_preempted
from codemix_megatron.launch.slurm.rendezvous import hold_port, master_address
from codemix_megatron.launch.slurm.restart_policy import Ending, Verdict, decide
from codemix_megatron.records.atomic import write_json
from codemix_megatron.records.journal import read_journal
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.lease import wait_until_free

__all__ = ["TrainingStart"]

SECONDS_BETWEEN_LOOKS = 2
FENCE_SECONDS = 6  # an earlier start that Slurm lost has so long to see this one and end its ranks
TRIES, SECONDS_BETWEEN_TRIES = 6, 15  # to queue the job again while the controller restarts
BARRED = ("disabled", "denied", "not permitted", "Invalid job id")  # refusals that do not change by asking again


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
    states: dict[str, str] = field(default_factory=dict)  # of the partition's nodes, at the end

    @property
    def name(self) -> str:
        """The start's name, which its ranks derive from Slurm's variables too."""
        return f"{self.job}.{self.restarts}"

    @property
    def log(self) -> Path:
        """The job's log."""
        return self.run.launch / f"job-{self.job}.log"

    def begin(self) -> Verdict | None:
        """Write down that ranks are started; or return a verdict when none should be."""
        self.run.launch.mkdir(parents=True, exist_ok=True)
        self.attempts = Attempts.of(self.run)
        is_after_loss = self.tell_of_lost_start()
        step = checkpoint_step(self.run)
        ending = Ending(
            0, self.steps(), step, starts_without_progress=self.attempts.without_progress(self.job, step), max_starts=self.max_starts
        )
        if self.last_event()["event"] == "end":
            return decide(Ending(0, self.steps(), step, event="end"))
        if ending.starts_without_progress >= ending.max_starts:
            return decide(ending)
        try:
            wait_until_free(self.run.path)
        except LaunchError as fault:
            return self.write_end(Verdict("fail", str(fault), fault.exit_code), {"exit_code": fault.exit_code, "checkpoint_step": step})
        self.port = hold_port(int(self.job), self.restarts)  # open until this process ends
        self.master = (master_address(self.nodes[0]), self.port.getsockname()[1])
        begun = {"job": self.job, "nodes": list(self.nodes), "master": "{}:{}".format(*self.master), "checkpoint_step": step}
        self.attempts.add("begin", start=self.name, **begun, at=self.began_at.isoformat(timespec="seconds"))
        self.run.stop.unlink(missing_ok=True)  # one from an earlier start; from here on it means these ranks
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        self.say(f"start {self.name} on {', '.join(self.nodes)}; ranks meet at {begun['master']}; checkpoint of step {step or 'none'}")
        if is_after_loss:
            time.sleep(FENCE_SECONDS)
        return None

    def tell_of_lost_start(self) -> bool:
        """Write down the end of a start that could not do so itself; return whether there was one."""
        lost = self.attempts.unended(self.job)
        if lost is None:
            return False
        node = lost_node(lost["nodes"], self.node_states())
        why = f"{node} was lost" if node else "Slurm ended it: preempted, queued again by hand, or a node that is back"
        self.attempts.add("end", start=lost["start"], action="lost", why=why, **({"bad_node": node} if node else {}))
        self.say(f"start {lost['start']} has no end: {why}")
        return True

    def environment(self) -> dict[str, str]:
        """Return what the ranks are told beside Slurm's own variables."""
        address, port = self.master
        told = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "PYTHONUNBUFFERED": "1", "CODEMIX_BATCH": self.name}
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
        return Attempts.of(self.run).latest_start() != self.name

    def has_lost_node(self) -> bool:
        """Say whether Slurm has lost a node of this start, and so ends all of it."""
        return lost_node(self.nodes, self.node_states()) is not None

    def end(self, code: int, signal: str | None) -> Verdict:
        """Decide, have the job run again where that is the verdict, and write down what came of it."""
        details, failed = self.details(), self.first_failure(code)
        self.attempts = Attempts.of(self.run)
        self.states = self.node_states() if code else {}
        step, lost = checkpoint_step(self.run), lost_node(self.nodes, self.states)
        verdict = decide(
            Ending(
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
        at_fault = lost or (failed.node if failed and failed.evidence and verdict.action in ("requeue", "fail") else None)
        ended = {"exit_code": code, "checkpoint_step": step, **({"bad_node": at_fault} if at_fault else {})}
        if verdict.action == "requeue":
            return self.run_again(verdict, details, ended)
        return self.write_end(verdict, ended)

    def write_end(self, verdict: Verdict, ended: dict) -> Verdict:
        """Write down and say how this start ended."""
        told = {"start": self.name, "action": verdict.action, "why": verdict.why, **ended}
        self.attempts.add("end", **told, at=datetime.now(UTC).isoformat(timespec="seconds"))
        self.say(f"{verdict.action}: {verdict.why}")
        return verdict

    def run_again(self, verdict: Verdict, details: dict[str, str], ended: dict) -> Verdict:
        """Queue the job again, or submit another one that goes on where the site bars that, away from nodes that are at fault."""
        refusal = "it was submitted with --no-requeue" if details.get("Requeue") == "0" else self.queue_again()
        if refusal is None:
            self.write_end(verdict, ended)
            self.leave_out_bad_nodes(details)
            return verdict
        try:
            job = self.submit_successor(
                details, ended.get("bad_node")
            )  # first of all: where a node was lost, Slurm leaves us a few seconds
        except LaunchError as fault:
            why = f"{verdict.why}; not queued again ({refusal}), and no other job could be submitted ({fault}); the same codemix launch goes on"
            return self.write_end(Verdict("fail", why, 1), ended)
        why = f"{verdict.why}; not queued again ({refusal}): job {job} goes on"
        self.write_end(Verdict("resubmit", why, verdict.exit_code), {**ended, "next_job": job})
        self.hand_over_dependents(job)
        return Verdict("resubmit", why, verdict.exit_code)

    def queue_again(self) -> str | None:
        """Queue the job again; return why Slurm refuses to, or None. A controller that restarts is asked again."""
        for tries_left in range(TRIES - 1, -1, -1):
            try:
                requeue(self.job)
                return None
            except LaunchError as fault:
                refusal = str(fault)
                if not tries_left or any(words in refusal for words in BARRED):
                    return refusal
                time.sleep(SECONDS_BETWEEN_TRIES)
        return None

    def submit_successor(self, details: dict[str, str], at_fault: str | None) -> str:
        """Submit the same script to start when this job has ended; return its id."""
        blamed = {**self.attempts.bad_nodes(), **({at_fault: "at fault"} if at_fault else {})} if self.excludes_bad_nodes else {}
        excluded, told = nodes_to_exclude(blamed, node_list(details.get("ExcNodeList")), self.states, len(self.nodes))
        script = self.run.launch / "job.sbatch"
        job = submit(script, [self.job], "afterany", [f"--exclude={','.join(excluded)}"] if excluded else [])
        log = self.log.with_name(f"job-{job}.log")
        write_json(self.run.launch / "job.json", {"id": job, "log": str(log), "script": str(script)})
        if blamed:
            self.say(told)
        return job

    def hand_over_dependents(self, job: str) -> None:
        """Have jobs that wait for this one wait for the one that goes on."""
        try:
            for waiting, dependencies in dependents(self.job).items():
                if waiting != job:
                    wait_for_another(waiting, dependencies, self.job, job)
        except LaunchError as fault:
            self.say(f"warning: jobs that wait for this one cannot be made to wait for job {job}: {fault}")

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

    def last_event(self) -> dict:
        """Return the last event of the journal."""
        return (read_journal(self.run.journal) or [{"event": "none"}])[-1]

    def own_last_event(self) -> Literal["end", "stop", "other"]:
        """Return `end`, `stop` or `other`; a stop counts when it is of this start."""
        last = self.last_event()
        is_own = last["event"] == "stop" and last["at"] >= self.began_at.isoformat(timespec="seconds")
        if last["event"] == "end":
            return "end"
        return "stop" if is_own else "other"

    def steps(self) -> int:
        """Return how far the run has come."""
        return max((event.get("step", 0) for event in read_journal(self.run.journal)), default=0)


def node_list(compressed: str | None) -> list[str]:
    """Return the nodes of a field of `scontrol show job`."""
    return node_names(compressed) if compressed and compressed != "(null)" else []
