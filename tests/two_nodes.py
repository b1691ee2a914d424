"""Two ranks as srun or a bare torchrun starts them, each on what it takes for a node of its own; nobody of ours launched them."""

import subprocess
import sys

from tiny_run import clean_environment, held_port


def start_two_nodes(tiny, words, before=(), environment=None) -> list[subprocess.Popen]:
    """Start both ranks of `codemix train`; on the second node with `before` in front of the command and another environment."""
    port, started = str(held_port()), []
    outer = {k: v for k, v in clean_environment().items() if not k.startswith(("CODEMIX_", "SLURM", "TORCHELASTIC"))}
    outer |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for rank in range(2):
        variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "SLURMD_NODENAME": f"node{rank}", **((environment or {}) if rank else {})}
        command = [sys.executable, "-m", "codemix_megatron", "train", str(tiny.recipe), *map(str, words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*(before if rank else ()), *command], cwd=tiny.folder, env=outer | variables, **pipes))
    return started


def finish(ranks: list[subprocess.Popen], timeout: float = 120) -> list[tuple[int, str, str]]:
    """Return exit code, stdout and stderr of each rank; none is left running."""
    try:
        said = [rank.communicate(timeout=timeout) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [(rank.returncode, *texts) for rank, texts in zip(ranks, said, strict=True)]
