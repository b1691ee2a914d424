"""The command of one node where something else than Slurm starts the nodes: its ranks find each other by environment variables."""

from dataclasses import dataclass

__all__ = ["MASTER_PORT", "NodeCommand"]

MASTER_PORT = 29500  # of a network that belongs to the job alone


@dataclass(frozen=True)
class NodeCommand:
    """What every node runs; `nodes`, `node_rank` and `master` are numbers and names, or how a script reads them from its environment."""

    python: str
    recipe: str
    run: str
    ranks_per_node: int
    nodes: str
    node_rank: str
    master: str
    port: str = str(MASTER_PORT)

    @property
    def words(self) -> list[str]:
        """The command: one rank joins by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; several are started by torchrun."""
        train = ["codemix_megatron", "train", self.recipe, "--folder", self.run]
        if self.ranks_per_node == 1:
            return [self.python, "-m", *train]
        torchrun = [f"--nnodes={self.nodes}", f"--nproc-per-node={self.ranks_per_node}", f"--node-rank={self.node_rank}"]
        torchrun += [f"--master-addr={self.master}", f"--master-port={self.port}"]
        return [self.python, "-m", "torch.distributed.run", *torchrun, "-m", *train]
