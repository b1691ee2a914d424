"""The body of a batch job, on its first node: `python -m codemix_megatron.launch.slurm.batch train|command OPTIONS -- srun ...`.

It says where ranks meet, starts srun, makes signals a stop file, and decides at the end: done, queued again, given up. It is one
process in the place of the batch shell, so that signals Slurm sends there reach it. It needs no torch, and nothing of the ranks' container.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from codemix_megatron.errors import STOPPED_EARLY, CodemixError, machine_fault
from codemix_megatron.launch.slurm.commands import job_details, node_names
from codemix_megatron.launch.slurm.job_facts import was_cancelled
from codemix_megatron.launch.slurm.local_ranks import kill_ranks_here
from codemix_megatron.launch.slurm.requeueing import hand_over_dependents, requeue_refusal, submit_command_again
from codemix_megatron.launch.slurm.staged_start import stage
from codemix_megatron.launch.slurm.training_start import TrainingStart
from codemix_megatron.records.event_lines import Event, always
from codemix_megatron.records.journal import Journal, read_lines
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["CommandFailed", "main"]

POLL_SECONDS = 0.3
SAVING_SHARE = 0.8  # of the time between the signal and the limit; what is left is for ending and queueing again


def main(argv: list[str] | None = None) -> int:
    """Run one start of a job to its end and return the batch script's exit code."""
    own, command = split_at_dashes(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="codemix_megatron.launch.slurm.batch", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("train", "command"))
    parser.add_argument("--run", required=True)
    parser.add_argument("--max-starts", type=int, required=True)
    parser.add_argument("--save-seconds", type=int, required=True)
    parser.add_argument("--keep-bad-nodes", action="store_true")
    parser.add_argument("--start-again-inside", action="store_true")
    parser.add_argument("--stage", metavar="ARCHIVE")
    parser.add_argument("--stage-to", metavar="FOLDER")
    arguments = parser.parse_args(own)
    try:
        return (run_training if arguments.kind == "train" else run_command)(arguments, command)
    except CodemixError as fault:
        say(f"error: {fault}")
        return fault.exit_code
    except OSError as fault:  # such as a full disk; the run's records cannot be trusted to end a loop of starts then
        say(f"error: {machine_fault(fault)}")
        return 1


def split_at_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before and after the first `--`."""
    at = words.index("--")
    return words[:at], words[at + 1 :]


def say(text: str) -> None:
    """Print a line into the job's log."""
    print(f"codemix launch: {text}", flush=True)


@dataclass(frozen=True)
class BatchJob:
    """This job, as Slurm's environment describes it."""

    id: str
    restarts: int
    nodes: tuple[str, ...]

    @classmethod
    def here(cls) -> "BatchJob":
        """Read Slurm's variables."""
        env = os.environ
        array = env.get("SLURM_ARRAY_JOB_ID")
        job = f"{array}_{env['SLURM_ARRAY_TASK_ID']}" if array else env["SLURM_JOB_ID"]
        return cls(job, int(env.get("SLURM_RESTART_COUNT") or 0), tuple(node_names(env["SLURM_JOB_NODELIST"])))


def run_training(arguments, command: list[str]) -> int:
    """Do one start of a run: begin, follow the ranks, decide; where the job has nodes for it, another one after a failure."""
    job, needed = BatchJob.here(), nodes_of(command)
    inside, again = len(job.nodes) if arguments.start_again_inside else 0, None
    while True:
        start = TrainingStart(
            RunFolder(arguments.run),
            job.id,
            job.restarts,
            tuple(again.nodes) if again else job.nodes[:needed],
            arguments.max_starts,
            not arguments.keep_bad_nodes,
            say,
            allocated=job.nodes if inside else (),
            again=again,
        )
        step = Step(arguments.save_seconds, start.ask_to_stop, start.is_overtaken, start.has_lost_node)
        if verdict := start.begin():
            say(f"{verdict.action}: {verdict.why}")
            return verdict.exit_code
        chosen = [f"--nodelist={','.join(start.nodes)}"] if inside else []
        staged, told = stage(arguments, command, start.nodes, chosen, say) if arguments.stage else (command, {})
        code = step.follow([staged[0], *chosen, *staged[1:]], {**start.environment(), **told})
        verdict = start.end(code, step.signal)
        if verdict.action != "restart":
            return verdict.exit_code
        again = start.next_start


def nodes_of(command: list[str]) -> int:
    """Return how many nodes srun starts ranks on."""
    return next((int(word.partition("=")[2]) for word in command if word.startswith("--nodes=")), 1)


def run_command(arguments, command: list[str]) -> int:
    """Run a command that resumes when it is run again: the time limit and failures of the machine requeue it."""
    job = BatchJob.here()
    step = Step(arguments.save_seconds, ask_to_stop=None, is_overtaken=lambda: False)
    code = step.follow(command, {})
    if code in (0, 2):
        return code
    details = job_details(job.id)
    if int(details.get("Restarts", 0)) > job.restarts:
        say("Slurm queues the job again")
        return STOPPED_EARLY
    if was_cancelled(details):
        say("cancelled")
        return code
    failures = 0 if step.signal else count_failure(RunFolder(arguments.run).launch / f"failures-{job.id}.jsonl", code)
    if failures >= arguments.max_starts:
        say(f"exit code {code}; given up after {failures} failures (max_starts_without_progress {arguments.max_starts})")
        return code
    why = f"{step.signal} came" if step.signal else f"exit code {code}, {failures} of {arguments.max_starts} failures"
    return run_command_again(RunFolder(arguments.run), job, details, why)


def run_command_again(run: RunFolder, job: BatchJob, details: dict[str, str], why: str) -> int:
    """Queue the job again, or where the site bars that submit it once more, for the jobs that wait for it too; return the exit code."""
    barred = details.get("Requeue") == "0"
    if not barred:
        say(f"{why}; queued again")  # before: Slurm kills this process for it
    refusal = "it was submitted with --no-requeue" if barred else requeue_refusal(job.id)
    if refusal is None:
        return STOPPED_EARLY
    following = submit_command_again(run.launch, job.id)
    say(f"{why}; not queued again ({refusal}): job {following} goes on")
    hand_over_dependents(job.id, following, say)
    return 0 if "_" in job.id else STOPPED_EARLY  # a task that failed would fail what waits for its array


@dataclass(frozen=True, kw_only=True)
class CommandFailed(Event):
    """A start of a job's command has failed, and it is queued again or given up."""

    kind: ClassVar[str] = "failure"
    exit_code: int = always("exit code of the command", missing=1)


def count_failure(path: Path, code: int) -> int:
    """Write down that a job's command failed, and return how often it has."""
    journal = Journal(path)
    journal.append(CommandFailed(exit_code=code))
    journal.close()
    return len(read_lines(path))


class Step:
    """An srun, and the signals that reach the batch script from here on."""

    def __init__(
        self, save_seconds: int, ask_to_stop: Callable | None, is_overtaken: Callable, has_lost_node: Callable[[], bool] = lambda: False
    ):
        self.save_seconds, self.ask_to_stop, self.is_overtaken, self.has_lost_node = save_seconds, ask_to_stop, is_overtaken, has_lost_node
        self.signal: str | None = None
        self.deadline = float("inf")
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, self.note_signal)

    def follow(self, command: list[str], environment: dict[str, str]) -> int:
        """Start srun, wait for its end, and return its exit code."""
        srun = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, **environment})
        if self.signal and self.ask_to_stop:
            self.ask_to_stop()  # once more: beginning a start removes the file of an earlier one
        while srun.poll() is None:
            time.sleep(POLL_SECONDS)
            if self.is_overtaken():
                killed = kill_ranks_here(os.environ["SLURM_JOB_ID"])
                say(f"a later start works on this run; the ranks of this one are killed ({killed} processes on this node)")
                srun.kill()  # asked to end, it would have Slurm end the step, which has the later start's name too
            elif self.signal == "TERM" and self.has_lost_node():
                srun.kill()  # it waits for a node that is gone, and Slurm ends this process before it has done so
            elif time.monotonic() > self.deadline:
                say(f"the ranks did not leave within {self.save_seconds * SAVING_SHARE:.0f} s after {self.signal}; they are ended")
                self.deadline = float("inf")
                srun.terminate()
        for number in (
            signal.SIGUSR1,
            signal.SIGTERM,
        ):  # what decides now is killed for the requeue it asks for, and so are Slurm's commands
            signal.signal(number, signal.SIG_IGN)
        return srun.returncode if srun.returncode >= 0 else 128 - srun.returncode

    def note_signal(self, number, frame) -> None:
        """Have the ranks save and leave; without a way to ask them, the next poll ends them."""
        if self.signal is None:
            self.signal = signal.Signals(number).name.removeprefix("SIG")
            self.deadline = time.monotonic() + (self.save_seconds * SAVING_SHARE if self.ask_to_stop else 0)
            if self.ask_to_stop:
                self.ask_to_stop()
            say(f"{self.signal} came" + ("; the ranks finish their step, save and leave" if self.ask_to_stop else ""))


if __name__ == "__main__":
    sys.exit(main())
