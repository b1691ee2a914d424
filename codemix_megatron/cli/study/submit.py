"""codemix study run --on slurm: every task a job, each after those it needs."""

from pathlib import Path

from codemix_megatron.cli.study.progress import say
from codemix_megatron.errors import CorpusError, RecipeError
from codemix_megatron.launch.slurm.site import read_site
from codemix_megatron.plan.plan import read_manifests
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.planning import plan_study, remember_corpora
from codemix_megatron.study.schema import Study
from codemix_megatron.study.segments import Graph
from codemix_megatron.study.slurm import submit_tasks
from codemix_megatron.study.tasks import Task, list_tasks

__all__ = ["submit_study"]


def submit_study(study: Study, graph: Graph, folder: StudyFolder, arguments) -> int:
    """Submit what is missing and say what to look at."""
    state = folder.read()
    path = arguments.site or state.get("site")
    if path is None:
        raise RecipeError("missing; give the YAML file that says what this cluster wants, such as slurm/sites/cpu.yaml", where="--site")
    site = read_site(path)
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
