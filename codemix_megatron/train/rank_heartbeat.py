"""The heartbeat of a rank, and who watches it."""

import os
import shutil
import uuid
from functools import partial
from pathlib import Path

from codemix_megatron.parallel.ranks import Ranks, on_main
from codemix_megatron.placement import ALONE, find_placement
from codemix_megatron.recipe.schema import Parallel
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.heartbeat import HeartbeatWriter, end_when_hung
from codemix_megatron.watch.node_heartbeats import LEADERS, NodeSummary, node_folder, summary_seconds
from codemix_megatron.watch.rank import report_failure

__all__ = ["begin_heartbeat"]


def begin_heartbeat(parallel: Parallel, run: RunFolder, ranks: Ranks) -> HeartbeatWriter:
    """Begin this rank's heartbeat; without a launching process that watches, the first and the last rank watch all nodes."""
    followed, placement = os.environ.get("CODEMIX_NOTES"), find_placement() or ALONE
    shared, token = (Path(followed), "") if followed else on_main(ranks, partial(fresh_folder, run.logs / "heartbeats"))
    heartbeat = HeartbeatWriter(shared if followed else node_folder(token), run.logs, ranks.rank, ranks.size, parallel.heartbeat_seconds)
    heartbeat.announce("starting", max(parallel.heartbeat_seconds, parallel.timeout_seconds))
    if not followed:
        seconds = summary_seconds(ranks.size // placement.local_size, heartbeat.state.tick_seconds)
        if placement.local_rank < LEADERS:
            heartbeat.at_stop.append(NodeSummary(Path(heartbeat.path).parent, shared, placement.local_rank == 0, seconds).stop)
        if ranks.rank in (0, ranks.size - 1):
            end_when_hung(shared, seconds, partial(report_failure, run))
    return heartbeat


def fresh_folder(path: Path) -> tuple[Path, str]:
    """Return the folder, empty, and a word that no other start has."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path, uuid.uuid4().hex[:12]
