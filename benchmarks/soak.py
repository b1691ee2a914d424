"""Kill a run again and again, by kill -9, and show that nothing it had saved is lost.

    python benchmarks/soak.py [--kills 24] [--in-mid-save 20] [--seed 0] [--layout parallel.tensor=2 parallel.pipeline=2]

A third of the kills come at a random moment (starting ranks included), the others are aimed at a checkpoint that is being
written; half hit one rank, half everything at once, launching process and all. It goes on until so many kills have fallen,
and so many of them into a save. Checkpoints are written in turn standing still and behind
training. In the end every tensor of the last checkpoint, and every loss, has to equal those of a run left alone, bit
for bit. The last line is JSON; exit code 0 when nothing was lost and all is equal.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tiny_run import RECIPE, Tiny, clean_environment, make_documents, ranks_of
from whole_checkpoint import tensors_of

from codemix_megatron.checkpoint.loading import find_fault, list_checkpoints
from codemix_megatron.records.run_folder import step_of

NUM_STEPS = 160
SAVE_EVERY = 2
PATIENCE_SECONDS = 120  # longest wait for anything a run does by itself
DYING_SECONDS = 10  # longest that a killed process may take to be gone: one that syncs a file ends when that is done


@dataclass
class Tally:
    """What the kills did."""

    kills: int = 0
    in_mid_save: int = 0
    of_one_rank: int = 0
    before_the_first_step: int = 0
    steps_lost: int = 0  # saved before a kill and not there after it
    steps_recomputed: int = 0  # done and not yet saved
    torn_checkpoints: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> int:
    """Train undisturbed, train disturbed, compare, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=24, help="kills to survive (default: 24)")
    parser.add_argument("--in-mid-save", type=int, default=20, help="at least so many of them while a save is under way (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and victims (default: 0)")
    parser.add_argument("--minutes", type=float, default=14, help="no more kills after so long (default: 14)")
    parser.add_argument("--layout", nargs="+", default=["parallel.data=2"], metavar="a.b=c", help="layout (default: parallel.data=2)")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="codemix-soak-") as folder:
        soak = Soak(prepare(Path(folder)), arguments)
        alone = soak.tiny.train("alone", *soak.words(asynchronous=False), timeout=600)
        assert alone.returncode == 0, alone.stderr
        print(f"left alone: {NUM_STEPS} steps in {time.monotonic() - began:.0f} s", flush=True)
        soak.disturb(began + 60 * arguments.minutes)
        equal = soak.equals("alone", "disturbed")
    tally = soak.tally
    for fault in tally.faults:
        print(fault)
    line = {key: value for key, value in vars(tally).items() if key != "faults"}
    line |= {"bit_equal": equal, "steps": NUM_STEPS, "seconds": round(time.monotonic() - began), "seed": arguments.seed}
    is_met = equal and soak.is_enough and not (tally.steps_lost or tally.torn_checkpoints or tally.faults)
    target = f"{arguments.kills} kills, {arguments.in_mid_save} in mid-save, 0 lost, equal"
    print(json.dumps({**line, "layout": " ".join(arguments.layout), "target": target, "met": is_met}))
    return 0 if is_met else 1


def prepare(folder: Path) -> Tiny:
    """Make corpora and a recipe whose checkpoints take long enough to be hit."""
    tiny = Tiny(folder)
    make_documents(folder)
    recipe = json.loads(json.dumps(RECIPE))
    recipe["model"] |= {"hidden_size": 128, "ffn_hidden_size": 256}
    recipe["phases"][0]["tokens"], recipe["phases"][1]["tokens"] = NUM_STEPS * 3 // 4 * 512, NUM_STEPS // 4 * 512
    for corpus in recipe["corpora"].values():
        corpus["max_epochs"] = 100
    tiny.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False))
    done = tiny.codemix("prepare", tiny.recipe)
    assert done.returncode == 0, done.stderr
    return tiny


class Soak:
    """One disturbed run."""

    def __init__(self, tiny: Tiny, arguments):
        self.tiny, self.arguments = tiny, arguments
        self.draw, self.tally = random.Random(arguments.seed), Tally()
        self.run, self.saved = tiny.folder / "disturbed", 0  # step of the newest checkpoint there ever was

    def words(self, asynchronous: bool) -> list[str]:
        """Return the command's overrides."""
        saving = [f"checkpoint.every_steps={SAVE_EVERY}", f"checkpoint.asynchronous={str(asynchronous).lower()}"]
        return [*self.arguments.layout, *saving]

    @property
    def is_enough(self) -> bool:
        """Say whether as much has been killed as was asked for."""
        return self.tally.kills >= self.arguments.kills and self.tally.in_mid_save >= self.arguments.in_mid_save

    def disturb(self, deadline: float) -> None:
        """Start and kill until there were enough kills, then let it finish."""
        while not self.is_enough and time.monotonic() < deadline:
            if not self.start_and_kill(number=self.tally.kills):
                break
        done = self.tiny.train("disturbed", *self.words(asynchronous=True), timeout=600)
        if done.returncode:
            self.tally.faults.append(f"the last start failed: {done.stderr}")

    def start_and_kill(self, number: int) -> bool:
        """Start once, kill once; False when the run came to its end before."""
        behind = number % 2 == 0
        in_mid_save, one_rank = number // 2 % 3 != 2, number // 6 % 2 == 0
        starts = len(self.tiny.events("disturbed", "start"))
        process = self.tiny.start_training("disturbed", *self.words(behind))
        self.await_moment(process, starts, in_mid_save)
        if process.poll() is not None:
            output = process.communicate()[0]
            if process.returncode:
                self.tally.faults.append(f"a start ended by itself with exit code {process.returncode}: {output}")
            return False
        self.kill(process, one_rank)
        self.count(starts, one_rank, what=f"{'behind' if behind else 'still '}  aimed at {'a save' if in_mid_save else 'any time'}")
        return True

    def await_moment(self, process: subprocess.Popen, starts: int, in_mid_save: bool) -> None:
        """Wait for the moment to strike: some time into the start, some steps after it, or into the n-th save from now."""
        limit = time.monotonic() + PATIENCE_SECONDS
        at_start = not in_mid_save and self.draw.random() < 0.25
        while not at_start and process.poll() is None and time.monotonic() < limit:
            if len(self.tiny.events("disturbed", "start")) > starts:
                break
            time.sleep(0.05)
        if at_start:
            time.sleep(self.draw.uniform(0, 6))
            return
        if not in_mid_save:
            wanted = len(self.tiny.events("disturbed")) + self.draw.randint(0, 8)
            while len(self.tiny.events("disturbed")) < wanted and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.02)
            time.sleep(self.draw.uniform(0, 0.3))
            return
        for _ in range(self.draw.randint(1, 3)):
            while not self.partial() and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.001)
            seen = self.partial()
            while seen and self.partial() == seen and self.draw.random() < 0.9:
                time.sleep(0.005)  # somewhere into this save, or over it to the next

    def partial(self) -> list[str]:
        """Return the saves that are under way."""
        return [p.name for p in (self.run / "checkpoints").glob(".step-*.partial")]

    def kill(self, process: subprocess.Popen, one_rank: bool) -> None:
        """Kill one rank and wait for the others to end, or kill all at once."""
        ranks = ranks_of(self.run)
        if one_rank and ranks:
            self.tally.of_one_rank += 1
            kill(self.draw.choice(ranks))
        else:
            family = psutil.Process(process.pid).children(recursive=True)
            for victim in [process.pid, *(child.pid for child in family)]:
                kill(victim)
        process.communicate(timeout=PATIENCE_SECONDS)
        limit = time.monotonic() + DYING_SECONDS
        while ranks_of(self.run) and time.monotonic() < limit:
            time.sleep(0.05)
        for pid in ranks_of(self.run):  # an orphan would go on writing
            self.tally.faults.append(f"process {pid} outlived its launcher")
            kill(pid)

    def count(self, starts: int, one_rank: bool, what: str) -> None:
        """See what is left after a kill."""
        self.tally.kills += 1
        events = self.tiny.events("disturbed", "start")[starts:]
        self.tally.before_the_first_step += not events
        self.tally.in_mid_save += bool(self.partial())
        if events and events[0]["step"] < self.saved:
            self.tally.steps_lost += self.saved - events[0]["step"]
        self.saved = max(self.saved, self.newest_saved())
        torn = [f"{path}: {fault}" for path in list_checkpoints(self.run / "checkpoints") if (fault := find_fault(path))]
        self.tally.torn_checkpoints += len(torn)
        self.tally.faults += torn
        done = max((e["step"] for e in self.tiny.events("disturbed")), default=0)
        if events:
            self.tally.steps_recomputed += max(0, done - self.newest_saved())
        victim = "one rank" if one_rank else "everything"
        print(
            f"kill {self.tally.kills:>2}  {what:<25} {victim:<11} step {done}, saved {self.newest_saved()}, saves cut off: {self.partial()}",
            flush=True,
        )

    def newest_saved(self) -> int:
        """Return the step of the newest checkpoint."""
        return max((step_of(p) for p in list_checkpoints(self.run / "checkpoints")), default=0)

    def equals(self, one: str, other: str) -> bool:
        """Compare all losses and every tensor of the last checkpoint."""
        import torch

        if self.tiny.losses(one) != self.tiny.losses(other):
            return False
        first, second = (tensors_of(self.tiny.folder / run / "checkpoints" / f"step-{NUM_STEPS}") for run in (one, other))
        return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def kill(pid: int) -> None:
    """Kill a process that may be gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    os.environ.update(clean_environment())
    sys.exit(main())
