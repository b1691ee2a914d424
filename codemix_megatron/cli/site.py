"""codemix site: a site file for this cluster, out of what Slurm says of it."""

import sys
from pathlib import Path

from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.slurm.survey import ask_cluster, choose_partition, site_text
from codemix_megatron.records.atomic import replace_text

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix site init                          writes site.yaml
  codemix site init --partition gpu --output sites/gpu.yaml
  codemix site init --dry-run                prints it

Run it where Slurm's commands are. What is written is for reading and changing; codemix launch --site-keys prints every key."""


def add_arguments(parser) -> None:
    """Declare the action and its arguments."""
    parser.add_argument("action", choices=("init",), help="ask Slurm (sinfo, scontrol) and write a site file")
    parser.add_argument("--output", metavar="FILE", default="site.yaml", help="file to write (default: site.yaml)")
    parser.add_argument("--partition", metavar="NAME", help="partition to train on (default: the one with the most GPUs on a node)")
    parser.add_argument("--dry-run", action="store_true", help="print the file and write nothing")


def run(arguments) -> int:
    """Ask, choose, write."""
    path = Path(arguments.output)
    if path.exists() and not arguments.dry_run:
        raise LaunchError(f"{path}: there already; give another --output, or look at what is new with --dry-run", exit_code=2)
    cluster = ask_cluster()
    chosen = choose_partition(cluster, arguments.partition)
    if chosen is None:
        there = ", ".join(p.name for p in cluster.partitions) or "none"
        raise LaunchError(f"--partition: no such partition that is up: {arguments.partition or 'any'}; there are {there}", exit_code=2)
    text = site_text(cluster, chosen)
    if arguments.dry_run:
        sys.stdout.write(text)
        return 0
    replace_text(path, text)
    print(f"{path}: jobs go to {chosen.describe()}\nnext     codemix doctor --site {path}      (a job of two minutes that tries it)")
    return 0
