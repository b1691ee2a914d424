"""What a start of thousands of ranks costs in coordination, with the package's own code on every one of them.

    python benchmarks/scale.py [--ranks 8192] [--clients 2000]

Simulated ranks are greenlets of this process: each runs up to its next collective, then the next one does. Collectives (gather, scatter,
broadcast, all-reduce) go through memory, pickled as torch does, so that what each rank sends and receives is worked off for real; the code
under test is not changed. Clients of the store are real
ones: torch's TCPStore over sockets, in processes of their own, through the function that ranks meet by. CPU seconds are those the kernel
counts, network and disk are not simulated. Growth is the exponent of a power law fitted to totals over the largest sizes: 1 is linear.
Ends with one line of JSON and exit code 1 when a target is missed.
"""

import argparse
import gc
import json
import math
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import greenlet
import torch

from codemix_megatron.checkpoint import verifying, writing
from codemix_megatron.checkpoint.metadata import write_metadata
from codemix_megatron.megatron.importing import import_megatron
from codemix_megatron.parallel import exchange, meeting
from codemix_megatron.parallel import ranks as rank_module
from codemix_megatron.parallel.limits import raise_limits
from codemix_megatron.parallel.probe import Probe
from codemix_megatron.placement import Placement
from codemix_megatron.ports import reserve_port
from codemix_megatron.recipe.schema import Observers
from codemix_megatron.records.events import StepEvent
from codemix_megatron.train import node_facts, preflight, stragglers
from codemix_megatron.watch.heartbeat import Heartbeat, Watch
from codemix_megatron.watch.node_heartbeats import NodeSummary, summary_seconds

RANKS_PER_NODE = 8
TARGETS = {"exponent": 1.1, "cpu_seconds_per_rank_per_50_steps": 0.5, "rendezvous_cpu_seconds_of_busiest": 5.0}
TENSORS = 24  # of a rank in a save
MEETINGS = 3  # of clients at each number of them


@dataclass
class Cost:
    """CPU seconds of all ranks, and of the busiest one."""

    total: float
    busiest: float


class SimulatedRanks:
    """Collectives in the place of torch.distributed; every value is pickled and unpickled as often as ranks would."""

    class ReduceOp:
        """As torch's."""

        MAX = "max"

    def __init__(self, size: int):
        self.size, self.slots = size, [[b""] * size, [b""] * size]
        self.reduced: list = [None, None]
        self.is_reduction = [False, False]
        self.turns = [1] * size
        self.local = SimpleNamespace(rank=0)  # the rank that runs now
        self.hub = greenlet.getcurrent()

    def get_rank(self) -> int:
        return self.local.rank

    def get_world_size(self) -> int:
        return self.size

    def meet(self, sent: bytes) -> int:
        """Leave what this rank sends, let all others come here, and return which of two sets of slots holds what they sent."""
        turn = self.turns[self.local.rank] = 1 - self.turns[self.local.rank]
        self.slots[turn][self.local.rank] = sent
        self.hub.switch()
        return turn

    def next_turn(self) -> int:
        """Return the set of slots that this rank's next collective uses."""
        return 1 - self.turns[self.local.rank]

    def barrier(self) -> None:
        self.meet(b"")

    def all_reduce(self, tensor, op=None) -> None:
        self.is_reduction[self.next_turn()] = True
        turn = self.meet(int(tensor.item()).to_bytes(4, "big"))
        tensor.fill_(int.from_bytes(self.reduced[turn], "big"))

    def gather_object(self, value, values=None) -> None:
        turn = self.meet(pickle.dumps(value))
        if self.local.rank == 0:
            values[:] = [pickle.loads(sent) for sent in self.slots[turn]]

    def gather(self, tensor, tensors=None) -> None:
        turn = self.meet(tensor.numpy().tobytes())
        if self.local.rank == 0:
            for row, sent in zip(tensors, self.slots[turn], strict=True):
                row.copy_(torch.frombuffer(bytearray(sent), dtype=tensor.dtype))

    def broadcast_object_list(self, box, device=None) -> None:
        turn = self.meet(pickle.dumps(box) if self.local.rank == 0 else b"")
        box[:] = pickle.loads(self.slots[turn][0])

    def scatter_object_list(self, received, boxes=None) -> None:
        if self.local.rank == 0:
            self.reduced[self.next_turn()] = [pickle.dumps(box) for box in boxes]
        turn = self.meet(b"")
        received[0] = pickle.loads(self.reduced[turn][self.local.rank])

    def run(self, function) -> Cost:
        """Call `function(ranks)` on every rank, in turns from one collective to the next, and return what it cost."""
        spent = [0.0] * self.size
        running = [greenlet.greenlet(partial(function, self.rank(number))) for number in range(self.size)]
        while any(not rank.dead for rank in running):
            for number, rank in enumerate(running):
                if rank.dead:
                    continue
                self.local.rank, began = number, time.thread_time()
                rank.switch()
                spent[number] += time.thread_time() - began
            for turn in (0, 1):
                if self.is_reduction[turn]:
                    self.reduced[turn], self.is_reduction[turn] = max(self.slots[turn]), False
        return Cost(sum(spent), max(spent))

    def rank(self, number: int) -> SimpleNamespace:
        """Return one rank, as the code under test sees it."""
        numbers = {"rank": number, "local_rank": number % RANKS_PER_NODE, "is_main": number == 0}
        return SimpleNamespace(**numbers, size=self.size, device=torch.device("cpu"))


@contextmanager
def collectives(ranks: SimulatedRanks, *modules):
    """Have modules talk among simulated ranks."""
    with ExitStack() as stack:
        for module in (rank_module, *modules):
            stack.enter_context(mock.patch.object(module, "dist", ranks))
        yield


def node_of(rank: int) -> str:
    """Return the node of a rank."""
    return f"gpu-{rank // RANKS_PER_NODE:04d}"


def preflight_cost(size: int, folder: Path) -> Cost:
    """Compare all nodes: facts, clocks, rates. Data are not exchanged, and versions and checksums of the code are read once."""
    ranks = SimulatedRanks(size)
    recipe = SimpleNamespace(parallel=SimpleNamespace(preflight="warn"), corpora={})
    run = SimpleNamespace(logs=folder / f"logs-{size}")
    versions = node_facts.deciding_versions()
    with collectives(ranks, exchange), ExitStack() as stack:
        for module in (preflight, node_facts):
            stack.enter_context(mock.patch.object(module, "node_name", lambda: node_of(ranks.local.rank)))
        stack.enter_context(mock.patch.object(node_facts, "deciding_versions", lambda: dict(versions)))
        stack.enter_context(mock.patch.object(exchange, "rate", lambda *words: 1e10))
        return ranks.run(lambda here: preflight.check_nodes(recipe, run, here))


def straggler_cost(size: int) -> Cost:
    """Do 50 steps of watching for stragglers, with the window at their end; the fixed work of a rank is measured once and added for each."""
    began, probe = time.process_time(), Probe(torch.device("cpu"))
    for _ in range(stragglers.PROBES_PER_WINDOW):
        probe.run()
    fixed = time.process_time() - began
    recorded = SimpleNamespace(run=lambda: None, take=probe.take)
    ranks, observers = SimulatedRanks(size), Observers(straggler_every_steps=50)
    step = StepEvent.from_json({"seconds_per_part": {"data": 0.001}, "seconds": 1.0})

    def window(here) -> None:
        watch = stragglers.StragglerWatch(observers, here)
        for number in range(50):
            watch.after(replace(step, step=number + 1))

    with collectives(ranks, stragglers), ExitStack() as stack:
        stack.enter_context(mock.patch.object(stragglers, "node_name", lambda: node_of(ranks.local.rank)))
        stack.enter_context(mock.patch.object(stragglers, "Probe", lambda device: recorded))
        cost = ranks.run(window)
    return Cost(cost.total + size * fixed, cost.busiest + fixed)


def save_cost(size: int, folder: Path) -> Cost:
    """Plan each rank's part of a save with megatron-core, gather the plans, and make a checkpoint of them; no tensors are written."""
    from megatron.core.dist_checkpointing import ShardedTensor
    from megatron.core.dist_checkpointing.strategies import torch as torch_strategy
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.storage import WriteResult

    ranks, target = SimulatedRanks(size), folder / f"save-{size}"
    tensor = torch.zeros(1)

    def save(here) -> None:
        state = {
            f"layers.{n}.weight": ShardedTensor.from_rank_offsets(f"layers.{n}.weight", tensor, (0, here.rank, size))
            for n in range(TENSORS)
        }
        saving = writing.Saving.__new__(writing.Saving)
        saving.folder, saving.metadata, saving.device, saving.before_commit = target / "step-1", {"step": 1}, here.device, lambda: None
        saving.partial, saving.began, saving.fault = target / ".step-1.partial", time.perf_counter(), None
        saving.strategy = writing.LocalWrite(None)
        if here.is_main:
            saving.partial.mkdir(parents=True, exist_ok=True)
        ranks.barrier()
        saving.strategy.async_save(state, saving.partial)
        name = f"__{here.rank}_0.distcp"
        saving.notes = [WriteResult(item.index, 4, _StorageInfo(name, 0, 4)) for item in saving.strategy.plan.items]
        saving.files = {name: {"bytes": 4 * TENSORS, "sha256": "0" * 64}}
        saving.finish()

    with collectives(ranks, writing), mock.patch.object(torch_strategy.torch.distributed, "get_rank", ranks.get_rank):
        return ranks.run(save)


def resume_cost(size: int, folder: Path) -> Cost:
    """Compare a checkpoint of two files for each rank with its metadata, read by all ranks together; the files are small."""
    ranks, checkpoint = SimulatedRanks(size), folder / f"resume-{size}" / "step-1"
    checkpoint.mkdir(parents=True)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    names = [f"__{rank}_{n}.distcp" for rank in range(size) for n in range(2)]
    for name in names:
        (checkpoint / name).touch()
    write_metadata(checkpoint, {"step": 1, "files": {name: {"bytes": 0, "sha256": empty} for name in names}})
    with collectives(ranks):
        return ranks.run(lambda here: verifying.newest_valid_together(checkpoint.parent, here, lambda: None))


def heartbeat_cost(size: int, folder: Path) -> tuple[Cost, float]:
    """Sum up each node once and read all of them, as in one round; return also the files written a second on the shared disk."""
    shared, nodes = folder / f"hearts-{size}", max(1, size // RANKS_PER_NODE)
    local = shared / "node"
    local.mkdir(parents=True)
    for rank in range(RANKS_PER_NODE):
        heartbeat = Heartbeat(rank, size, "gpu", 1, "/runs/mine/logs/stacks-rank-0.txt", 5.0, 300.0)
        (local / f"heart-{rank}.json").write_text(json.dumps(vars(heartbeat)))
    began, busiest = time.process_time(), 0.0
    for node in range(nodes):
        with mock.patch("codemix_megatron.watch.node_heartbeats.Thread"):
            summary = NodeSummary(local, shared, True, 1e9)
        summary.path = shared / f"node-{node}.json"
        summary.sum_up()
    written = time.process_time()
    Watch(shared).find_hang()
    busiest = time.process_time() - written
    return Cost(time.process_time() - began + busiest, busiest), nodes / summary_seconds(nodes, 5.0)  # the first and the last rank read


def least_rendezvous_cost(size: int) -> Cost:
    """Return the least of three: what else the machine does to caches and to queues of its processes adds, and never subtracts."""
    return min((rendezvous_cost(size) for _ in range(MEETINGS)), key=lambda cost: cost.total)


def rendezvous_cost(size: int, processes: int = 2) -> Cost:
    """Have real clients of torch's store, on threads of some processes, meet by the function that ranks meet by; rank 0 serves here."""
    with reserve_port() as held:
        port = held.getsockname()[1]
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        bounds = [1 + (size - 1) * part // processes for part in range(processes + 1)]
        words = [sys.executable, "-P", str(Path(__file__).with_name("scale_clients.py"))]
        clients = [
            subprocess.Popen([*words, str(first), str(last), str(size)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
            for first, last in pairwise(bounds)
        ]
        for client in clients:
            assert client.stdout and client.stdout.readline() == "ready\n"
        began = time.process_time()
        raise_limits(size)
        for client in clients:
            assert client.stdin
            client.stdin.write("go\n")
            client.stdin.flush()
        store = meeting.meet(Placement(0, size, 0, RANKS_PER_NODE, "torchrun"), timedelta(seconds=300))
        told = [float(client.communicate(timeout=300)[0]) for client in clients]
        own = time.process_time() - began
        del store
    return Cost(own + sum(told), own)


def growth(costs: dict[int, Cost]) -> float:
    """Return the exponent of a power law fitted to the totals."""
    points = [(math.log(size), math.log(cost.total)) for size, cost in costs.items()]
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def main() -> int:
    """Measure, print a table, and compare with the targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=8192, help="the largest number of simulated ranks")
    parser.add_argument("--clients", type=int, default=2000, help="the largest number of real clients of the store")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gc.disable()  # it would go through what thousands of other ranks hold here
    import_megatron()
    figures = measure(arguments)
    missed = misses(figures)
    for line in missed:
        print(f"MISSED {line}")
    print(json.dumps({"benchmark": "scale", **figures, "targets": TARGETS, "missed": missed, "met": not missed}))
    return 1 if missed else 0


def measure(arguments) -> dict:
    """Return the figures of every kind of coordination at the largest size, and how each grows."""
    sizes = [arguments.ranks // 8, arguments.ranks // 4, arguments.ranks // 2, arguments.ranks]
    counts = [arguments.clients // 8, arguments.clients // 4, arguments.clients // 2, arguments.clients]
    print(f"{'what':<26}{'ranks':>7}{'CPU s, all':>12}{'per rank':>12}{'busiest':>10}{'growth':>8}")
    figures = {"rendezvous": show("rendezvous (real clients)", {size: least_rendezvous_cost(size) for size in counts})}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = {
            "preflight": lambda size: preflight_cost(size, folder),
            "straggler window": straggler_cost,
            "coordination of a save": lambda size: save_cost(size, folder),
            "resume": lambda size: resume_cost(size, folder),
        }
        for kind, cost in kinds.items():
            found = {size: cost(size) for size in sizes}
            figures[kind] = show(kind, found)
        hearts = {size: heartbeat_cost(size, folder) for size in sizes}
        figures["heartbeats"] = show("heartbeats, one round", {size: cost for size, (cost, _) in hearts.items()})
        figures["heartbeats"]["files_per_second"] = round(hearts[sizes[-1]][1], 1)
    figures["peak_memory_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return figures


def show(kind: str, costs: dict[int, Cost]) -> dict:
    """Print a line for each size; return the figures of the largest."""
    exponent = growth(costs)
    for size, cost in costs.items():
        last = f"{exponent:8.2f}" if size == max(costs) else ""
        print(f"{kind:<26}{size:>7}{cost.total:>12.2f}{cost.total / size:>12.5f}{cost.busiest:>10.2f}{last}", flush=True)
    size, cost = max(costs.items())
    figures = {"ranks": size, "cpu_seconds": cost.total, "per_rank": cost.total / size, "busiest": cost.busiest, "exponent": exponent}
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def misses(figures: dict) -> list[str]:
    """Return a line for each target that is missed."""
    kinds = {name: found for name, found in figures.items() if isinstance(found, dict)}
    missed = [
        f"{name}: totals grow as ranks^{found['exponent']}, at most {TARGETS['exponent']} is aimed at"
        for name, found in kinds.items()
        if found["exponent"] > TARGETS["exponent"]
    ]
    each = figures["straggler window"]["per_rank"]
    if each > TARGETS["cpu_seconds_per_rank_per_50_steps"]:
        missed.append(f"straggler window: {each} CPU seconds for each rank in 50 steps")
    busiest = figures["rendezvous"]["busiest"]
    if busiest > TARGETS["rendezvous_cpu_seconds_of_busiest"]:
        missed.append(f"rendezvous: {busiest} CPU seconds on the rank that serves the store")
    return missed


if __name__ == "__main__":
    sys.exit(main())
