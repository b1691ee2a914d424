"""One recipe as a Slurm job: script and environment saved in RUN/launch, then submitted."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.slurm.commands import job_states, submit
from codemix_megatron.launch.slurm.job_environment import save_surroundings
from codemix_megatron.launch.slurm.partition import refuse_beyond_limits
from codemix_megatron.launch.slurm.script import Job, render_script
from codemix_megatron.launch.slurm.site import Site
from codemix_megatron.recipe.layout_checks import ranks_fault
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.atomic import read_json, replace_text, write_json
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.lease import wait_until_free

__all__ = [
    "SubmittedJob",
    "active_job",
    "counted",
    "hand_over",
    "nodes_for",
    "ranks_for",
    "refuse_second",
    "render_training",
    "submit_training",
]


@dataclass(frozen=True)
class SubmittedJob:
    """A job in Slurm's hands."""

    id: str
    log: Path
    script: Path


class Nodes(Protocol):
    """What a file says of a cluster's nodes, Slurm's or another's."""

    @property
    def nodes(self) -> int | None:
        """Nodes of a job, where it says."""

    @property
    def ranks_on_a_node(self) -> int:
        """Ranks that one node gets."""


def render_training(recipe_path, overrides, run: RunFolder, site: Site, num_ranks: int, *, archive: Path | None = None) -> str:
    """Return the batch script that trains a recipe on `num_ranks` ranks, whatever happens to its nodes.

    With an `archive` of the ranks' environment each node unpacks that first.
    """
    name = run.path.name
    nodes = nodes_for(site, num_ranks)
    return render_script(
        Job(
            name=f"codemix-{name}",
            log=run.launch / "job-%j.log",
            nodes=nodes,
            ranks_per_node=num_ranks // nodes,
            gpus_per_node=num_ranks // nodes if site.gpus_per_node else 0,  # a rank has one GPU
            commands=(("train", str(recipe_path), *overrides, "--folder", str(run)),),
            follow=follow_words(run, site, archive),
            spare_nodes=site.spare_nodes,
        ),
        site,
    )


def follow_words(run: RunFolder, site: Site, archive: Path | None = None) -> tuple[str, ...]:
    """Return the options of launch/slurm/batch.py for a training job."""
    words: tuple[str, ...] = (
        "train",
        "--run",
        str(run),
        "--max-starts",
        str(site.max_starts_without_progress),
        "--save-seconds",
        str(site.save_seconds),
    )
    words += ("--start-again-inside",) if site.spare_nodes else ()
    if archive:
        words += ("--stage", str(archive), "--stage-to", f"{site.stage_directory}/codemix-{os.geteuid()}/{archive.stem}")
    return (*words, "--keep-bad-nodes") if not site.exclude_bad_nodes else words


def nodes_for(site: Nodes, num_ranks: int) -> int:
    """Return the nodes that hold so many ranks; raises LaunchError when they do not fill them evenly."""
    per_node = site.ranks_on_a_node
    if num_ranks > per_node and num_ranks % per_node:
        raise LaunchError(f"{num_ranks} ranks do not fill nodes of {per_node} ranks each; use a multiple of {per_node}", exit_code=2)
    return max(1, num_ranks // per_node)


def submit_training(
    recipe_path, overrides, run: RunFolder, site: Site, num_ranks: int, *, after=(), kind: str = "afterok", archive: Path | None = None
) -> SubmittedJob:
    """Save script and environment into RUN/launch and submit; refuses a run folder that a job works on already.

    The recipe's own file is read again by each start: give one that nobody edits while the job waits.
    """
    refuse_second(run, "job")
    refuse_beyond_limits(site, nodes_for(site, num_ranks))
    save_surroundings(run.launch)
    script = render_training(recipe_path, overrides, run, site, num_ranks, archive=archive)
    return hand_over(run, "job", script, run.launch / "job-%j.log", after, kind)


def ranks_for(recipe: Recipe, site: Nodes, nodes: int | None) -> int:
    """Return the ranks of a training job; raises LaunchError when they do not form the recipe's layout."""
    layout, per_node = recipe.parallel, site.ranks_on_a_node
    nodes = nodes or site.nodes
    wanted = layout.model_ranks * (layout.data or 1)
    if nodes is None and (layout.data or wanted > per_node):
        num_ranks = wanted
    else:
        num_ranks = (nodes or 1) * per_node
    what = f"{counted(num_ranks, 'rank')}" if nodes is None else f"{counted(nodes, 'node')} x {counted(per_node, 'rank')}"
    if fault := ranks_fault(layout, num_ranks):
        raise LaunchError(f"{what}: {fault}, or change --nodes or the site's ranks_per_node", exit_code=2)
    nodes_for(site, num_ranks)
    return num_ranks


def counted(number: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{number} {noun}{'s' * (number != 1)}"


def hand_over(run: RunFolder, name: str, script: str, log: Path, after=(), kind: str = "afterok") -> SubmittedJob:
    """Write a script to RUN/launch/NAME.sbatch, submit it, and note the job in NAME.json."""
    path = run.launch / f"{name}.sbatch"
    replace_text(path, script)
    job = submit(path, after, kind)
    submitted = SubmittedJob(job, log.with_name(log.name.replace("%j", job).replace("%A", job).replace("%a", "N")), path)
    write_json(run.launch / f"{name}.json", {key: str(value) for key, value in asdict(submitted).items()})
    return submitted


def refuse_second(run: RunFolder, name: str) -> None:
    """Raise LaunchError when a job of that name works on the folder, or waits to, or another start trains in it."""
    if there := active_job(run, name):
        raise LaunchError(f"{run}: job {there} works on it already; wait for it, or end it with: scancel {there}", exit_code=2)
    if name == "job":
        wait_until_free(run.path, patience=0)


def active_job(run: RunFolder, name: str = "job") -> str | None:
    """Return the id of a job that works, or will work, on a run folder; None when there is none or Slurm does not know it any more."""
    try:
        job = read_json(run.launch / f"{name}.json")["id"]
    except (OSError, ValueError, KeyError):
        return None
    if os.environ.get("SLURM_JOB_ID") == job:
        return None  # we are that job
    state = job_states([job]).get(job)
    return job if state and state.is_active else None
