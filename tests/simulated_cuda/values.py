"""Losses of the CUDA path with Transformer Engine over its stand-in, and of local layers on CPU, from the same weights and batches.

python values.py cpu|cuda|transformer-engine RANKS JOBS.json OUT.json
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]


def prepare(kind: str) -> None:
    """Make this process what it is to compute on."""
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    if kind == "cpu":
        return
    import on_cpu

    on_cpu.install()
    if kind == "transformer-engine":
        import stand_in

        stand_in.install()
    from codemix_megatron.megatron.importing import import_megatron

    import_megatron()
    on_cpu.patch_megatron()


def rank(number: int, size: int, kind: str, jobs: dict, ports: list[int], out: str) -> None:
    """Train all jobs as one rank."""
    prepare(kind)
    import many_layouts
    import torch

    if kind != "cpu":
        for job in jobs.values():
            job["parallel"] = {**job.get("parallel", {}), "device": "cuda"}
    torch.set_num_threads(1)
    try:
        many_layouts.run_rank(number, size, jobs, ports, out)
    finally:
        sys.stdout.flush()
    if number == 0 and kind == "transformer-engine":
        import stand_in

        print(json.dumps(dict(stand_in.CALLS)))


if __name__ == "__main__":
    import many_layouts
    import torch.multiprocessing

    kind, size, jobs, out = sys.argv[1], int(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()), sys.argv[4]
    arguments = (size, kind, jobs, many_layouts.held_ports(len(jobs)), out)
    if size == 1:
        rank(0, *arguments)
    else:
        torch.multiprocessing.spawn(rank, arguments, nprocs=size)
