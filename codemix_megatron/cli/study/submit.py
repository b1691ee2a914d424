"""codemix study run --on slurm: every task a job, each after those it needs."""

import sys
from pathlib import Path

from codemix_megatron.cli.study.progress import say
from codemix_megatron.errors import CorpusError, RecipeError
from codemix_megatron.launch.slurm.site import Site, read_site
from codemix_megatron.plan.plan import read_manifests
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.planning import plan_study, remember_corpora
from codemix_megatron.study.schema import Study
from codemix_megatron.study.segments import Graph
from codemix_megatron.study.slurm import render_tasks, submit_tasks
from codemix_megatron.study.tasks import Task, is_done, list_tasks

__all__ = ["submit_study"]


def submit_study(study: Study, graph: Graph, folder: StudyFolder, arguments) -> int:
    """Submit what is missing and say what to look at."""
    state = folder.read() if folder.state.is_file() else {}
    path = arguments.site or state.get("site")
    if path is None:
        raise RecipeError("missing; give the YAML file that says what this cluster wants, such as slurm/sites/cpu.yaml", where="--site")
    site = read_site(path)
    if arguments.dry_run:
        return show_scripts(list_tasks(graph, folder, study.is_scored), folder, site)
    folder.write({**state, "on": "slurm", "site": str(Path(path).absolute())})
    tasks = list_tasks(graph, folder, study.is_scored)
    unprepared = find_unprepared(tasks)
    if unprepared is None:
        plan_study(graph, remember_corpora(read_manifests), folder.runs)  # refuses a corpus that is too small before anything trains
    limit = arguments.jobs or study.limit
    count = submit_tasks(tasks, folder, site, limit, unprepared, say)
    bound = f", at most {limit} at a time" if limit else ""
    say(
        f"{study.name} in {folder}: {count} jobs submitted for {len(tasks)} tasks{bound}"
        if count
        else f"{study.name} in {folder}: nothing to submit"
    )
    say(f"codemix study status {folder} --watch      codemix study cancel {folder}")
    return 0


def show_scripts(tasks: dict[str, Task], folder: StudyFolder, site: Site) -> int:
    """Print the scripts of all jobs, each under its name and what it waits for."""
    needs = {name: [need for need in task.needs if not is_done(tasks[need], folder)] for name, task in tasks.items()}
    for name, (text, _) in render_tasks(tasks, folder, site, find_unprepared(tasks)).items():
        after = f", after {', '.join(needs[name])}" if needs.get(name) else ""
        sys.stdout.write(f"# ---- {name}{after}\n{text}")
    return 0


def find_unprepared(tasks: dict[str, Task]) -> Task | None:
    """Return a task whose corpora are missing, or None; raises CorpusError where there are several sets of them."""
    missing: dict[tuple, Task] = {}
    for task in tasks.values():
        try:
            read_manifests(task.recipe)
        except CorpusError:
            missing.setdefault(tuple(sorted(str(spec.prefix) for spec in task.recipe.corpora.values())), task)
    if len(missing) > 1:
        names = ", ".join(task.segment for task in missing.values())
        raise CorpusError(
            f"corpora of {names} are missing, and differ; prepare them with codemix prepare or codemix launch --prepare first"
        )
    return next(iter(missing.values()), None)
