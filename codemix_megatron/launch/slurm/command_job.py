"""Other work on Slurm: a recipe's corpora by an array of tasks and a merge, a run exported and scored."""

from pathlib import Path

from codemix_megatron.launch.slurm.job_environment import save_surroundings
from codemix_megatron.launch.slurm.partition import refuse_beyond_limits
from codemix_megatron.launch.slurm.script import ARRAY_TASK, Job, render_script
from codemix_megatron.launch.slurm.site import Site
from codemix_megatron.launch.slurm.training_job import SubmittedJob, hand_over, refuse_second
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["Scripts", "render_preparation", "render_scoring", "submit_preparation", "submit_scoring"]

Scripts = dict[str, tuple[str, Path]]  # name -> text of the script, its log


def render_preparation(recipe_path, overrides, folder: RunFolder, site: Site, num_tasks: int, *, trains_tokenizer: bool = False) -> Scripts:
    """Return the scripts that prepare a recipe's corpora: the tokenizer where it is to be trained, an array, the merge."""
    words, site = (str(recipe_path), *overrides), site.for_kind("prepare")
    jobs = {"tokenizer": command_job(folder, "tokenizer", site, ("prepare", *words, "--tokenizer-only"))} if trains_tokenizer else {}
    shard = ("prepare", *words, "--shard", f"{ARRAY_TASK}/{num_tasks}")
    jobs["prepare"] = command_job(folder, "prepare", site, shard, array_tasks=num_tasks)
    jobs["merge"] = command_job(folder, "merge", site, ("merge", *words))
    return {name: (render_script(job, site), job.log) for name, job in jobs.items()}


def submit_preparation(recipe_path, overrides, folder: RunFolder, site: Site, num_tasks: int, **options) -> dict[str, SubmittedJob]:
    """Submit what `render_preparation` renders, each job after the one before it; returns name -> job."""
    refuse_second(folder, "merge")
    refuse_beyond_limits(site.for_kind("prepare"), 1)
    save_surroundings(folder.launch)
    return submit_chain(folder, render_preparation(recipe_path, overrides, folder, site, num_tasks, **options))


def render_scoring(run: RunFolder, site: Site, options=(), commands=None) -> Scripts:
    """Return the script that exports a run's newest checkpoint and scores it; `options` are those of codemix evaluate.

    A site with a block for exports gets two: an export needs memory and no GPU, a scoring the reverse.
    `commands` take the place of both where there is no run, only a folder for scores.
    """
    scoring, exporting = site.for_kind("evaluate"), site.for_kind("export")
    export, evaluate = ("export", str(run)), ("evaluate", str(run), *options)
    gpus = min(1, scoring.gpus_per_node)
    if site.export is None or commands:
        job = command_job(run, "score", scoring, *(commands or (export, evaluate)), gpus=gpus)
        return {"score": (render_script(job, scoring), job.log)}
    first = command_job(run, "export", exporting, export, gpus=min(1, site.export.gpus_per_node or 0))
    second = command_job(run, "score", scoring, evaluate, gpus=gpus)
    return {"export": (render_script(first, exporting), first.log), "score": (render_script(second, scoring), second.log)}


def submit_scoring(run: RunFolder, site: Site, options=(), *, commands=None, after=(), kind: str = "afterok") -> SubmittedJob:
    """Submit what `render_scoring` renders; returns the job that scores, which is the last."""
    refuse_second(run, "score")
    refuse_beyond_limits(site.for_kind("evaluate"), 1)
    if site.export and not commands:
        refuse_second(run, "export")
        refuse_beyond_limits(site.for_kind("export"), 1)
    save_surroundings(run.launch)
    return submit_chain(run, render_scoring(run, site, options, commands), after, kind)["score"]


def command_job(folder: RunFolder, name: str, site: Site, *commands: tuple[str, ...], gpus: int = 0, array_tasks: int | None = None) -> Job:
    """Return a job of one task on one node that runs commands one after the other."""
    return Job(
        name=f"codemix-{name}-{folder.path.name}",
        log=folder.launch / (f"{name}-%A-%a.log" if array_tasks else f"{name}-%j.log"),
        nodes=1,
        ranks_per_node=1,
        gpus_per_node=gpus,
        commands=commands,
        follow=(
            "command",
            "--run",
            str(folder),
            "--max-starts",
            str(site.max_starts_without_progress),
            "--save-seconds",
            str(site.save_seconds),
        ),
        array_tasks=array_tasks,
    )


def submit_chain(folder: RunFolder, scripts: Scripts, after=(), kind: str = "afterok") -> dict[str, SubmittedJob]:
    """Submit scripts, each after the one before it has done its work."""
    submitted: dict[str, SubmittedJob] = {}
    for name, (script, log) in scripts.items():
        submitted[name] = hand_over(folder, name, script, log, after, kind)
        after, kind = (submitted[name].id,), "afterok"
    return submitted
