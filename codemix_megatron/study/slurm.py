"""A study as Slurm jobs: one for each segment and each scoring, which start when what they need is done."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from codemix_megatron.launch.slurm.attempts import Attempts
from codemix_megatron.launch.slurm.command_job import Scripts, render_preparation, render_scoring, submit_preparation, submit_scoring
from codemix_megatron.launch.slurm.commands import JobState, cancel, job_states
from codemix_megatron.launch.slurm.site import Site
from codemix_megatron.launch.slurm.training_job import active_job, ranks_for, render_training, submit_training
from codemix_megatron.mixture.budget import plan_batches
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.lanes import Lanes
from codemix_megatron.study.local import said_last
from codemix_megatron.study.tasks import SCORE, Task, is_done

__all__ = ["cancel_jobs", "is_on_slurm", "render_tasks", "submit_tasks", "tasks_on_slurm"]

SCORE_STEPS = 100  # what a scoring weighs when lanes are dealt
PREPARE_TASKS = 4
UNDER_WAY = ("queued", "running")


def submit_tasks(tasks: dict[str, Task], folder: StudyFolder, site: Site, limit: int | None, unprepared: Task | None, say: Callable) -> int:
    """Submit what is neither done nor in Slurm's hands, parents before children; return how many jobs.

    The corpora of the task `unprepared` are prepared before anything else. Whatever goes wrong in between, study.json knows the jobs
    submitted so far, and the same call goes on.
    """
    state = folder.read()
    state["tasks"] = tasks_on_slurm(state["tasks"], folder)
    ids = {name: entry["job"] for name, entry in state["tasks"].items() if entry.get("state") in UNDER_WAY and entry.get("job")}
    for task in tasks.values():
        if task.name not in ids and not is_done(task, folder) and task.is_training:
            ranks_for(
                task.recipe, site.for_kind("study_run"), None
            )  # refuses a layout that the site's nodes do not form, before anything is submitted
    prepared = [prepare(unprepared, folder, site, say)] if unprepared else []
    lanes, submitted = Lanes(limit), 0
    occupy(lanes, list(ids.values()))
    for name, task in tasks.items():
        if name in ids or is_done(task, folder):
            continue
        parents = [ids[need] for need in task.needs if need in ids] or prepared
        steps = steps_of(task)
        lane, before = lanes.choose(parents, steps)
        ids[name] = submit_one(task, folder, site, parents, before)
        lanes.put(lane, ids[name], parents, steps)
        submitted += 1
        state["tasks"][name] = {"state": "queued", "job": ids[name], "at": datetime.now(UTC).isoformat(timespec="seconds")}
        folder.write(state)
    return submitted


def render_tasks(tasks: dict[str, Task], folder: StudyFolder, site: Site, unprepared: Task | None) -> Scripts:
    """Return the scripts of what is not done, parents before children, as `submit_tasks` would submit them; writes nothing."""
    scripts: Scripts = {}
    if unprepared:
        prepared = RunFolder(folder.path / "prepare")
        scripts |= render_preparation(
            folder.recipe(unprepared.segment), (), prepared, site, PREPARE_TASKS, trains_tokenizer=trains(unprepared)
        )
    for name, task in tasks.items():
        run = folder.run(task.segment)
        if is_done(task, folder):
            continue
        if task.is_training:
            own = site.for_kind("study_run")
            text = render_training(folder.recipe(task.segment), (), run, own, ranks_for(task.recipe, own, None))
            scripts[name] = text, run.launch / "job-%j.log"
        else:
            parts = render_scoring(run, site, commands=own_commands(task))
            scripts |= {name if part == "score" else f"{name} {part}": script for part, script in parts.items()}
    return scripts


def trains(task: Task) -> bool:
    """Say whether a task's recipe has a tokenizer that is to be trained yet."""
    return bool(task.recipe.tokenizer.train_vocab_size) and not Path(task.recipe.tokenizer.path).exists()


def occupy(lanes: Lanes, jobs: list[str]) -> None:
    """Count jobs of an earlier call: each lane's next job waits for one of them."""
    for job in jobs:
        lane, _ = lanes.choose([], 1)
        lanes.put(lane, job, [], 1)


def prepare(task: Task, folder: StudyFolder, site: Site, say) -> str:
    """Submit the preparation of a recipe's corpora; return the job after which they are there."""
    recipe = folder.recipe(task.segment)
    jobs = submit_preparation(recipe, (), RunFolder(folder.path / "prepare"), site, PREPARE_TASKS, trains_tokenizer=trains(task))
    say(f"job {jobs['merge'].id} ends the preparation of corpora; log {jobs['merge'].log}")
    return jobs["merge"].id


def submit_one(task: Task, folder: StudyFolder, site: Site, parents: list[str], before: str | None) -> str:
    """Submit one job after its parents have done their work and the job before it in its lane has ended."""
    after, kind = dependency(parents, before)
    run = folder.run(task.segment)
    if not task.is_training:
        return submit_scoring(run, site, commands=own_commands(task), after=after, kind=kind).id
    site = site.for_kind("study_run")
    return submit_training(folder.recipe(task.segment), (), run, site, ranks_for(task.recipe, site, None), after=after, kind=kind).id


def own_commands(task: Task) -> tuple[tuple[str, ...], ...] | None:
    """Return what scores a base, which is no run that could be exported; None for runs."""
    return task.commands if task.is_of_base else None


def dependency(parents: list[str], before: str | None) -> tuple[list[str], str]:
    """Return what `submit` takes as after and kind. sbatch joins conditions with commas: all of them have to hold."""
    if not parents:
        return ([before] if before else []), "afterany"
    ids = ":".join(parents)
    return [f"{ids},afterany:{before}" if before and before not in parents else ids], "afterok"


def steps_of(task: Task) -> float:
    """Return about how long a task takes, in steps."""
    if not task.is_training:
        return SCORE_STEPS
    return sum(steps for steps, _ in plan_batches(task.recipe.batch.stages, 0, task.phase_tokens, task.recipe.model.sequence_length))


def tasks_on_slurm(tasks: dict[str, dict], folder: StudyFolder) -> dict[str, dict]:
    """Return study.json's tasks with what Slurm says of their jobs now."""
    tasks = {name: going_on(name, entry, folder) for name, entry in tasks.items()}
    asked = [entry["job"] for entry in tasks.values() if entry.get("job") and entry.get("state") in UNDER_WAY]
    states = job_states(asked) if asked else {}
    return {
        name: {**entry, **told(name, entry, states.get(entry["job"]), folder)} if entry.get("job") in asked else entry
        for name, entry in tasks.items()
    }


def going_on(name: str, entry: dict, folder: StudyFolder) -> dict:
    """Return a task's entry with the job that does its work now: where a site queues no job again, another one goes on."""
    if not entry.get("job"):
        return entry
    if SCORE not in name:
        return {**entry, "job": Attempts.of(folder.run(name)).goes_on_in(entry["job"])}
    try:
        return {**entry, "job": read_json(folder.run(name.removesuffix(SCORE)).launch / "score.json")["id"]}
    except (OSError, ValueError, KeyError):
        return entry


def told(name: str, entry: dict, job: JobState | None, folder: StudyFolder) -> dict:
    """Return a task's state, and the reason or the error; a job that Slurm has forgotten has ended."""
    if job is not None and job.is_active:
        is_running = job.state in ("RUNNING", "COMPLETING")
        waits = "" if job.reason in ("None", "Dependency", "") else f"job {entry['job']}: {job.reason}"
        return {"state": "running" if is_running else "queued", "reason": "" if is_running else waits}
    if job is not None and job.state == "COMPLETED":
        return {"state": "done", "reason": ""}
    error = why_ended(name, entry, job, folder)
    return {"state": "failed" if error else "cancelled", "error": error, "reason": ""}


def why_ended(name: str, entry: dict, job: JobState | None, folder: StudyFolder) -> str:
    """Return why a job failed; nothing where it was cancelled before it did anything, as those are whose parents failed."""
    run = folder.run(name.removesuffix(SCORE))
    if SCORE in name:
        said = said_last(run.launch / f"score-{entry['job']}.log") or said_by_export(run)
        return said or (f"job {entry['job']}: {job.state.lower()}" if job and job.state != "CANCELLED" else "")
    ends = [end for end in Attempts.of(run).ended if end.start.startswith(f"{entry['job']}.")]
    if ends:
        return "" if ends[-1].action in ("done", "leave") else ends[-1].why
    return f"job {entry['job']}: {job.state.lower()}" if job and job.state not in ("CANCELLED", "COMPLETED") else ""


def said_by_export(run: RunFolder) -> str:
    """Return what a run's export said last, where it has a job of its own; without an export there is nothing to score."""
    try:
        return said_last(Path(read_json(run.launch / "export.json")["log"])) if run.latest_export() is None else ""
    except (OSError, ValueError, KeyError):
        return ""


def is_on_slurm(tasks: dict[str, dict]) -> bool:
    """Say whether a job is under way, as study.json has it."""
    return any(entry.get("job") and entry.get("state") in UNDER_WAY for entry in tasks.values())


def cancel_jobs(folder: StudyFolder) -> tuple[list[str], list[str]]:
    """Have trainings that run save and leave, and end all other jobs; return the ids of both."""
    state = folder.read()
    tasks = tasks_on_slurm(state["tasks"], folder)
    saving, ended = [], []
    for name, entry in tasks.items():
        if not entry.get("job") or entry.get("state") not in UNDER_WAY:
            continue
        if entry["state"] == "running" and SCORE not in name:
            folder.run(name).stop.touch()
            saving.append(entry["job"])
        else:
            ended += [entry["job"], *([job] if (job := active_job(folder.run(name.removesuffix(SCORE)), "export")) else [])]
            entry.update(state="cancelled", error="", reason="")
    cancel(ended)
    folder.write({**state, "tasks": tasks})
    return saving, ended
